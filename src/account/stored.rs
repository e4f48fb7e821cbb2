//! An account as the database holds it.

use super::{AccountId, Adopter, ApiKey, Asked, KeyId, KeyState, Owner, StoredSettings, comparable_name};
use jiff::Timestamp;
use std::fmt;

/// Counts the changes of an account: a change is made to the version that was observed, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

/// One account with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its identity.
    pub id: AccountId,
    /// How often it has changed.
    pub version: Version,
    /// The resource that declares it; `None` for an account that OpsAdmin's staff made.
    pub owner: Option<Owner>,
    /// Who may take it over while nobody declares it, as OpsAdmin's staff have said.
    pub adopter: Option<Adopter>,
    /// Where it is in its life.
    pub life: Life,
    /// What is set on it.
    pub settings: StoredSettings,
    /// Its key pairs, the newest first.
    pub keys: Vec<StoredKey>,
    /// The requests to rotate that were answered last.
    pub answered: Asked,
    /// Set by OpsAdmin's staff: it does not authenticate, whatever its settings say.
    pub suspension: Option<Suspension>,
}

/// A stop that OpsAdmin's staff put on an account. Only they take it away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// Since when.
    pub since: Timestamp,
    /// Why, in their words.
    pub reason: String,
}

impl Account {
    /// The pair to hand out: the newest that is not on its way out.
    pub fn active_key(&self) -> Option<&StoredKey> {
        self.keys.iter().find(|key| key.state == KeyState::Active)
    }

    /// The comparable name that it keeps from others; a deleted one has given its name up.
    pub fn name_kept(&self) -> Option<String> {
        let is_deleted = matches!(self.life, Life::Deleted { .. });
        (!is_deleted).then(|| comparable_name(&self.settings.name))
    }
}

/// Who may take over an account that was imported for no namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unassigned {
    /// Nobody, until OpsAdmin's staff say who.
    #[default]
    Refuse,
    /// Whoever declares its name first.
    Adopt,
}

impl Account {
    /// Whether this resource may take it over, now that nobody declares it. A retained account is for the namespace that it
    /// had; another one is named beforehand.
    pub fn may_be_adopted_by(&self, owner: &Owner, unassigned: Unassigned) -> bool {
        let had_it = |had: &Owner| had.cluster == owner.cluster && had.namespace == owner.namespace;
        match (&self.adopter, &self.owner) {
            (Some(adopter), had) => adopter.is(owner) || had.as_ref().is_some_and(had_it),
            (None, Some(had)) => had_it(had),
            (None, None) => unassigned == Unassigned::Adopt,
        }
    }
}

/// Where an account is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Declared, or made by hand.
    Live,
    /// Its resource is gone and asked to leave the account as it is. Nobody declares it now.
    Retained {
        /// When the resource went.
        since: Timestamp,
    },
    /// Its resource is gone: it does not authenticate, its name is free, its keys are kept for a while.
    Deleted {
        /// When the resource went.
        since: Timestamp,
    },
}

/// A key pair as it rests in the database: the API key in clear, the secret key sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The pair's identity.
    pub id: KeyId,
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub sealed: SealedSecret,
    /// Whether to use it still.
    pub state: KeyState,
    /// When it was made.
    pub created: Timestamp,
}

/// A secret key that only the holder of the keyring can read.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The id of the keyring's key that sealed it.
    pub sealed_with: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for SealedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedSecret").field("sealed_with", &self.sealed_with).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{ClusterId, samples};

    fn owner(cluster: &str, namespace: &str, name: &str) -> Owner {
        let cluster = ClusterId::parse(cluster).unwrap();
        Owner { cluster, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    #[test]
    fn a_retained_account_is_for_the_namespace_that_it_had_and_for_whom_staff_have_named() {
        let had = Some(owner("one", "partners", "acme"));
        let mut account = Account { owner: had, ..samples::account() };
        let may = |account: &Account, owner: &Owner| account.may_be_adopted_by(owner, Unassigned::Adopt);
        let others = [owner("one", "tenant", "acme"), owner("two", "partners", "acme")];
        assert!(may(&account, &owner("one", "partners", "renamed")));
        assert!(!others.iter().any(|other| may(&account, other)));
        account.adopter = Adopter::parse("two/partners");
        assert_eq!(others.each_ref().map(|other| may(&account, other)), [false, true]);
        account.adopter = Adopter::parse("two/partners/other");
        assert_eq!(others.each_ref().map(|other| may(&account, other)), [false, false]);
    }

    #[test]
    fn an_imported_account_is_for_nobody_until_somebody_is_named_unless_the_installation_says_so() {
        let mut account = samples::account();
        let tenant = owner("one", "tenant", "acme");
        assert!(!account.may_be_adopted_by(&tenant, Unassigned::Refuse));
        assert!(account.may_be_adopted_by(&tenant, Unassigned::Adopt));
        account.adopter = Adopter::parse("one/partners");
        assert!(!account.may_be_adopted_by(&tenant, Unassigned::Adopt));
        assert!(account.may_be_adopted_by(&owner("one", "partners", "acme"), Unassigned::Refuse));
    }

    #[test]
    fn an_adopter_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["one/partners", "one/partners/acme"] {
            assert_eq!(Adopter::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "one", "one/", "/partners", "one/partners/", "one/partners/acme/more"] {
            assert_eq!(Adopter::parse(text), None, "{text}");
        }
    }
}
