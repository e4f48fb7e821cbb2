//! The account and its key pairs as the database stores them.

use super::{
    AccountId, Adopter, ApiKey, KeyId, KeyState, MIN_SECRET_OCTETS, Owner, RotationRequests, StoredSettings,
    comparable_name,
};
use jiff::Timestamp;
use std::fmt;

/// The number of changes of an account, for optimistic concurrency: a change applies only to the version that was
/// observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub i64);

/// One account with its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The account's id.
    pub id: AccountId,
    /// The number of its changes.
    pub version: Version,
    /// The resource that declares the account, or declared it until it was retained or deleted; `None` for an account
    /// that OpsAdmin staff created.
    pub owner: Option<Owner>,
    /// Who may adopt the account while no resource declares it, as set by OpsAdmin staff.
    pub adopter: Option<Adopter>,
    /// Whether it is live, retained or deleted.
    pub life: Life,
    /// Its settings.
    pub settings: StoredSettings,
    /// Its key pairs, the newest first.
    pub keys: Vec<StoredKey>,
    /// The requests for a rotation that were answered last.
    pub answered_requests: RotationRequests,
    /// The suspension by OpsAdmin staff. A suspended account does not authenticate, even if its settings enable it.
    pub suspension: Option<Suspension>,
}

/// A suspension of an account. Only OpsAdmin staff set and end it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspension {
    /// When the suspension began.
    pub since: Timestamp,
    /// The reason that OpsAdmin staff gave.
    pub reason: String,
}

impl Account {
    /// Returns the key pair to write into the Secret: the newest active one.
    pub fn active_key(&self) -> Option<&StoredKey> {
        self.keys.iter().find(|key| key.state == KeyState::Active)
    }

    /// Returns the comparable name that no other account may have now; `None` for a deleted account, whose name is
    /// free.
    pub fn reserved_name(&self) -> Option<String> {
        let is_deleted = matches!(self.life, Life::Deleted { .. });
        (!is_deleted).then(|| comparable_name(&self.settings.name))
    }
}

/// Who may adopt an account that has neither an owner nor an adopter, such as one imported for no namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnassignedPolicy {
    /// No resource, until OpsAdmin staff name an adopter.
    #[default]
    Refuse,
    /// The first resource that declares the account's name.
    Adopt,
}

impl Account {
    /// Returns whether this resource may adopt the account while no resource declares it: a resource that the adopter
    /// names, or one in the namespace of the last owner. For an account with neither, `unassigned` decides.
    pub fn may_be_adopted_by(&self, owner: &Owner, unassigned: UnassignedPolicy) -> bool {
        let had_it = |had: &Owner| had.cluster == owner.cluster && had.namespace == owner.namespace;
        match (&self.adopter, &self.owner) {
            (Some(adopter), had) => adopter.includes(owner) || had.as_ref().is_some_and(had_it),
            (None, Some(had)) => had_it(had),
            (None, None) => unassigned == UnassignedPolicy::Adopt,
        }
    }
}

/// Whether an account is live, retained or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Declared by a resource, or created by OpsAdmin staff.
    Live,
    /// Its resource was deleted with deletionPolicy Retain. No resource declares the account now.
    Retained {
        /// When the account was retained.
        since: Timestamp,
    },
    /// Deleted: the account does not authenticate, its name is free, and its keys stay in the database until the purge.
    Deleted {
        /// When the account was deleted.
        since: Timestamp,
    },
}

/// A key pair as the database stores it: the API key in clear, the secret key sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredKey {
    /// The key pair's id.
    pub id: KeyId,
    /// The public half.
    pub api_key: ApiKey,
    /// The private half.
    pub sealed: SealedSecret,
    /// Whether the key pair is active or retiring.
    pub state: KeyState,
    /// When the key pair was created.
    pub created: Timestamp,
}

impl StoredKey {
    /// Returns whether the secret key has too few octets to sign an assertion: see [`MIN_SECRET_OCTETS`]. Nobody can
    /// log in with such a key pair.
    pub fn is_too_short(&self) -> bool {
        self.sealed.secret_octets().is_some_and(|octets| octets < MIN_SECRET_OCTETS)
    }
}

/// A secret key, encrypted with a key of the keyring.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedSecret {
    /// The id of the keyring's key that sealed it.
    pub sealed_with: String,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl SealedSecret {
    /// The octets of a nonce and of a tag (NIST SP 800-38D with 96 and 128 bits).
    const NONCE_AND_TAG: usize = 12 + 16;

    /// Returns how many octets the secret key has. The ciphertext of AES-GCM has the length of the text, so this needs
    /// no keyring. `None`: this holds no sealed secret key.
    pub fn secret_octets(&self) -> Option<usize> {
        self.bytes.len().checked_sub(Self::NONCE_AND_TAG)
    }
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
    fn a_retained_account_may_be_adopted_from_its_last_namespace_and_by_its_adopter() {
        let had = Some(owner("one", "partners", "acme"));
        let mut account = Account { owner: had, ..samples::account() };
        let may = |account: &Account, owner: &Owner| account.may_be_adopted_by(owner, UnassignedPolicy::Adopt);
        let others = [owner("one", "tenant", "acme"), owner("two", "partners", "acme")];
        assert!(may(&account, &owner("one", "partners", "renamed")));
        assert!(!others.iter().any(|other| may(&account, other)));
        account.adopter = Adopter::parse("two/partners");
        assert_eq!(others.each_ref().map(|other| may(&account, other)), [false, true]);
        account.adopter = Adopter::parse("two/partners/other");
        assert_eq!(others.each_ref().map(|other| may(&account, other)), [false, false]);
    }

    #[test]
    fn an_unassigned_account_may_be_adopted_only_by_its_adopter_or_if_the_installation_allows_it() {
        let mut account = samples::account();
        let tenant = owner("one", "tenant", "acme");
        assert!(!account.may_be_adopted_by(&tenant, UnassignedPolicy::Refuse));
        assert!(account.may_be_adopted_by(&tenant, UnassignedPolicy::Adopt));
        account.adopter = Adopter::parse("one/partners");
        assert!(!account.may_be_adopted_by(&tenant, UnassignedPolicy::Adopt));
        assert!(account.may_be_adopted_by(&owner("one", "partners", "acme"), UnassignedPolicy::Refuse));
    }

    #[test]
    fn an_adopter_is_parsed_as_it_is_displayed_and_other_texts_are_refused() {
        for text in ["one/partners", "one/partners/acme"] {
            assert_eq!(Adopter::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "one", "one/", "/partners", "one/partners/", "one/partners/acme/more"] {
            assert_eq!(Adopter::parse(text), None, "{text}");
        }
    }
}
