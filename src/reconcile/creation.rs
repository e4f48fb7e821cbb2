//! The creation guard: whether a missing account may be created again for a resource that already had one.
//!
//! One missing account may be a lost row, and the controller creates the account again. If many accounts are missing,
//! or the database is another one than before, new accounts would give every partner new keys and would not correct the
//! mistake. The creation is then held until a person decides.

use super::{NotReady, deletion_limit, is_paused};
use crate::account::{Account, Owner};
use crate::api::{ApiAccount, ApiAccountStatus, CONFIRM_CREATION_ANNOTATION, Choice, ManagementPolicy, Reason};
use crate::database::DatabaseError;
use async_trait::async_trait;
use std::collections::HashSet;

/// Decides whether a missing account may be created. Knows earlier accounts from sources other than the database.
#[async_trait]
pub trait CreationGuard: Send + Sync {
    /// Checks whether the database can be trusted about the account of the resource `owner`. `known` is the account
    /// that the resource's status names, and `found` the account that the database has.
    ///
    /// # Errors
    /// [`NotReady::CreationHeld`] if no account may be created for the resource; another reason if the check is not
    /// possible.
    async fn check(&self, owner: &Owner, known: Option<&KnownAccount>, found: Option<&Account>)
    -> Result<(), NotReady>;

    /// Prepares the guard. Called when the database can be used, before anything is changed.
    ///
    /// # Errors
    /// The database did not answer.
    async fn begin(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}

/// A guard that knows no earlier accounts: every missing account may be created.
#[derive(Debug, Clone, Copy)]
pub struct AllowEveryCreation;

#[async_trait]
impl CreationGuard for AllowEveryCreation {
    async fn check(&self, _: &Owner, _: Option<&KnownAccount>, _: Option<&Account>) -> Result<(), NotReady> {
        Ok(())
    }
}

/// The account that a resource had when its status was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAccount {
    /// The account's id.
    pub account: String,
    /// The id of the database that had the account, if the status has one.
    pub database: Option<String>,
    /// Whether a user has confirmed that a new account replaces this one.
    pub is_confirmed: bool,
}

/// Why a missing account is not created again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Doubt {
    /// Many other accounts are missing too.
    Many,
    /// The account was in another database.
    OtherDatabase {
        /// The id of the database that had the account.
        had_it: String,
        /// The id of this database, if it has one.
        this: Option<String>,
    },
    /// The folder has Secrets of many accounts that are missing.
    Secrets,
}

impl KnownAccount {
    /// Returns the account that this status names; `None` if the resource never had one. A confirmation has to name
    /// this account, so that an old confirmation does not count for a later account.
    pub fn of(resource: &ApiAccount, status: Option<&ApiAccountStatus>) -> Option<Self> {
        let account = status?.account_id.clone()?;
        let annotations = resource.metadata.annotations.as_ref();
        let confirmed = annotations.and_then(|annotations| annotations.get(CONFIRM_CREATION_ANNOTATION));
        let is_confirmed = confirmed.is_some_and(|confirmed| *confirmed == account);
        Some(Self { account, database: status?.database_id.clone(), is_confirmed })
    }

    /// Returns whether no further check is needed: the database has the account, or a user has confirmed a new one.
    pub fn is_settled(&self, found: Option<&Account>) -> bool {
        self.is_confirmed || found.is_some_and(|found| found.id.to_string() == self.account)
    }

    /// Returns why the resource is not Ready: the creation of its account is held because of this doubt.
    pub fn held(self, doubt: Doubt) -> NotReady {
        NotReady::CreationHeld { account: self.account, doubt }
    }

    /// Returns the doubt that the database with this id is not the one that had the account. Returns `None` if the ids
    /// are equal or the account's database is not known.
    pub fn other_database(&self, identity: Option<&str>) -> Option<Doubt> {
        let had_it = self.database.as_deref().filter(|had_it| Some(*had_it) != identity)?;
        Some(Doubt::OtherDatabase { had_it: had_it.to_owned(), this: identity.map(str::to_owned) })
    }
}

/// Returns whether a missing account of this resource would be created.
pub fn is_created_if_missing(resource: &ApiAccount) -> bool {
    resource.spec.management_policy == Choice::Known(ManagementPolicy::Enforce)
        && !is_paused(&resource.metadata)
        && resource.metadata.deletion_timestamp.is_none()
}

/// Returns whether the status says that the creation of the account is held.
pub fn is_creation_held(status: Option<&ApiAccountStatus>) -> bool {
    status.is_some_and(|status| status.has_reason(Reason::CreationHeld))
}

/// The known accounts that are missing from the database.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Missing {
    /// How many accounts are known.
    pub known: usize,
    /// The owners whose account is missing.
    pub owners: HashSet<Owner>,
}

impl Missing {
    /// Counts known accounts, each given by its owner and whether the database has the account.
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

    /// Returns whether too many accounts are missing for single lost rows. This is so if all of several accounts are
    /// missing, or if the missing accounts and the `made_lately` accounts, created again lately, exceed the limit for
    /// this percentage. At 100 percent, there is no limit.
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
    fn one_missing_account_is_created_again_and_many_are_held() {
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
    fn accounts_that_were_created_lately_count_as_missing() {
        assert!(!missing(20, 2).are_too_many(3, 20));
        assert!(missing(20, 2).are_too_many(4, 20));
    }

    #[test]
    fn a_confirmation_counts_only_for_the_account_that_it_names() {
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
    fn an_unknown_database_is_not_taken_for_another_one() {
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
