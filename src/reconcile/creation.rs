//! Whether an account may be made anew for a resource that had one already.
//!
//! An account that is missing may be a row that was lost, which heals by itself. When many are missing, or the database is
//! another one than before, making them anew would give every partner new keys and end no mistake: then a person decides.

use super::{Desired, NotReady, deletion_limit, is_paused};
use crate::account::{Account, Owner};
use crate::api::{ApiAccount, ApiAccountStatus, CONFIRM_CREATION_ANNOTATION, Choice, ManagementPolicy, Reason};
use crate::database::DatabaseError;
use async_trait::async_trait;
use std::collections::HashSet;

/// Knows which accounts there were, beside the database.
#[async_trait]
pub trait CreationGuard: Send + Sync {
    /// Whether the database can be believed about this resource's account. `found` is what the database has for it.
    ///
    /// # Errors
    /// [`NotReady::CreationHeld`] if no account may be created for it; another reason if that cannot be decided.
    async fn check(&self, desired: &Desired, found: Option<&Account>) -> Result<(), NotReady>;

    /// Called once the database can be used, before anything is done.
    ///
    /// # Errors
    /// The database did not answer.
    async fn begin(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}

/// Nothing is known of earlier accounts: whatever is missing is made.
#[derive(Debug, Clone, Copy)]
pub struct Unguarded;

#[async_trait]
impl CreationGuard for Unguarded {
    async fn check(&self, _: &Desired, _: Option<&Account>) -> Result<(), NotReady> {
        Ok(())
    }
}

/// The account that a resource had when its status was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    /// The account's id.
    pub account: String,
    /// The id of the database that had it, if that was written down.
    pub database: Option<String>,
    /// Whether a person has confirmed that another account is made in its place.
    pub is_confirmed: bool,
}

/// Why an account that is missing is not made anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Many others are missing too.
    Many,
    /// The account was in another database.
    OtherDatabase {
        /// The id of the database that had it.
        had_it: String,
        /// The id of this database, if it has one.
        this: Option<String>,
    },
    /// The folder has Secrets of many accounts that are missing.
    Secrets,
}

impl KnownAccount {
    /// The account that this status names; `None` if the resource never had one. The confirmation is for this account alone,
    /// so that it does not outlive its purpose.
    pub fn of(resource: &ApiAccount, status: Option<&ApiAccountStatus>) -> Option<Self> {
        let account = status?.account_id.clone()?;
        let annotations = resource.metadata.annotations.as_ref();
        let confirmed = annotations.and_then(|annotations| annotations.get(CONFIRM_CREATION_ANNOTATION));
        let is_confirmed = confirmed.is_some_and(|confirmed| *confirmed == account);
        Some(Self { account, database: status?.database_id.clone(), is_confirmed })
    }

    /// Whether there is nothing to doubt, whatever else is known: it is there, or a person has confirmed a new one.
    pub fn is_settled(&self, found: Option<&Account>) -> bool {
        self.is_confirmed || found.is_some_and(|found| found.id.to_string() == self.account)
    }

    /// The refusal for this reason.
    pub fn held(self, doubt: Doubt) -> NotReady {
        NotReady::CreationHeld { account: self.account, doubt }
    }

    /// Why this database, of this identity, cannot be believed about it.
    pub fn other_database(&self, identity: Option<&str>) -> Option<Doubt> {
        let had_it = self.database.as_deref().filter(|had_it| Some(*had_it) != identity)?;
        Some(Doubt::OtherDatabase { had_it: had_it.to_owned(), this: identity.map(str::to_owned) })
    }
}

/// Whether a missing account of this resource would be made.
pub fn is_made_if_missing(resource: &ApiAccount) -> bool {
    resource.spec.management_policy == Choice::Known(ManagementPolicy::Enforce)
        && !is_paused(&resource.metadata)
        && resource.metadata.deletion_timestamp.is_none()
}

/// Whether the status says that nothing is made for the resource.
pub fn is_creation_held(status: Option<&ApiAccountStatus>) -> bool {
    status.is_some_and(|status| status.has_reason(Reason::CreationHeld))
}

/// How many of the accounts that are known of are missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// How many are known of.
    pub known: usize,
    /// Those whose account is missing.
    pub owners: HashSet<Owner>,
}

impl Missing {
    /// Of these, each with whether the database has its account.
    pub fn of(known: impl IntoIterator<Item = (Owner, bool)>) -> Self {
        let mut missing = Self::default();
        for (owner, is_there) in known {
            missing.known += 1;
            if !is_there {
                missing.owners.insert(owner);
            }
        }
        missing
    }

    /// Whether they are too many to be lost rows: all of several, or more than this percentage and a few, together with so
    /// many that were made anew lately. 100 percent: never.
    pub fn are_too_many(&self, made_lately: usize, percent: u8) -> bool {
        let Some(limit) = deletion_limit(self.known, percent) else { return false };
        let are_all = self.known > 1 && self.owners.len() == self.known;
        are_all || self.owners.len() + made_lately > limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClusterId, samples};
    use serde_json::json;

    fn missing(known: usize, missing: usize) -> Missing {
        let cluster = ClusterId::parse("here").unwrap();
        let owner =
            |number: usize| Owner { cluster: cluster.clone(), namespace: "ns".to_owned(), name: number.to_string() };
        Missing::of((0..known).map(|number| (owner(number), number >= missing)))
    }

    #[test]
    fn a_lost_row_heals_and_many_do_not() {
        for (known, gone, is_held) in [
            (1, 1, false),
            (2, 1, false),
            (2, 2, true),
            (8, 8, true),
            (8, 5, false),
            (8, 6, true),
            (100, 20, false),
            (100, 21, true),
        ] {
            assert_eq!(missing(known, gone).are_too_many(0, 20), is_held, "{gone} of {known}");
        }
        assert!(!missing(8, 8).are_too_many(0, 100));
    }

    #[test]
    fn those_that_were_made_lately_count_with_those_that_are_missing() {
        assert!(!missing(20, 2).are_too_many(3, 20));
        assert!(missing(20, 2).are_too_many(4, 20));
    }

    #[test]
    fn a_confirmation_is_for_the_account_that_it_names() {
        let resource = |confirmed: &str| -> ApiAccount {
            serde_json::from_value(json!({
                "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "spec": {},
                "metadata": { "name": "acme", "annotations": { "ops-admin.com/confirm-creation": confirmed } },
                "status": { "accountId": "lost", "databaseId": "one" },
            }))
            .unwrap()
        };
        let known = |confirmed: &str| {
            let resource = resource(confirmed);
            KnownAccount::of(&resource, resource.status.as_ref()).unwrap()
        };
        assert!(known("lost").is_settled(None));
        assert!(!known("true").is_settled(None));
        assert!(!known("another").is_settled(Some(&samples::account())));
    }

    #[test]
    fn another_database_is_told_from_one_that_nobody_wrote_down() {
        let known = |database: Option<&str>| KnownAccount {
            account: "lost".to_owned(),
            database: database.map(str::to_owned),
            is_confirmed: false,
        };
        assert_eq!(known(None).other_database(Some("this")), None);
        assert_eq!(known(Some("this")).other_database(Some("this")), None);
        assert!(known(Some("one")).other_database(Some("this")).is_some());
        assert!(known(Some("one")).other_database(None).is_some());
    }
}
