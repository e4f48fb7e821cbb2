//! What people ask of the account database at the command line, beyond what keeping accounts true needs.

use super::{AccountDatabase, Change, DatabaseError, JournalEntry, Schema};
use crate::account::{Account, AccountId, AccountName, AffiliateName, KeyId, Owner, SealedSecret, StoredKey};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// The whole of an account database, for whoever looks through it or steps in. The same rules hold as for
/// [`AccountDatabase`].
#[async_trait]
pub trait AccountRegister: AccountDatabase {
    /// Every account there is, wherever it is in its life and whoever declares it, the oldest first, in one read; in the
    /// place of one that cannot be read, [`DatabaseError::Inconsistent`].
    async fn list(&self) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError>;

    /// What happened to the account with this id, the oldest first; also of one that was purged.
    async fn journal(&self, id: AccountId) -> Result<Vec<JournalEntry>, DatabaseError>;

    /// Makes many changes in one transaction: all of them, or none.
    ///
    /// # Errors
    /// As [`AccountDatabase::commit`], for the first that is refused.
    async fn commit_all(&self, changes: &[Change]) -> Result<(), DatabaseError>;

    /// The accounts that no resource declares: those made by hand or imported, and those that were let go; as
    /// [`Self::list`] has them.
    async fn list_undeclared(&self) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError>;

    /// Returns the accounts that a resource of this name declares or declared, in this namespace or in any, of every cluster
    /// and wherever they are in their lives, the oldest first.
    ///
    /// # Errors
    /// As [`AccountDatabase::list_by_cluster`].
    async fn find_by_resource(&self, namespace: Option<&str>, name: &str) -> Result<Vec<Account>, DatabaseError>;

    /// Returns the deleted accounts that had this name (compared as names are), the oldest first.
    ///
    /// # Errors
    /// As [`AccountDatabase::list_by_cluster`].
    async fn find_deleted_by_name(&self, name: &AccountName) -> Result<Vec<Account>, DatabaseError>;

    /// Returns the names of accounts that are not deleted, in order, and at most `limit` of them.
    async fn names(&self, limit: u16) -> Result<Vec<Named>, DatabaseError>;

    /// Every resource that declares or declared an account, wherever that is in its life and whether or not it can be read.
    async fn owners(&self) -> Result<Vec<Owner>, DatabaseError>;

    /// What the database's user may not do of what a controller needs, as in `UPDATE accounts`; nothing where a database has no
    /// users.
    async fn missing_privileges(&self) -> Result<Vec<String>, DatabaseError>;

    /// Makes OpsAdmin know an affiliate, and answers whether that is new.
    async fn register_affiliate(&self, name: &AffiliateName, at: Timestamp) -> Result<bool, DatabaseError>;

    /// How many pairs are sealed with each of the keyring's keys, by its id.
    async fn sealed_pairs(&self) -> Result<BTreeMap<String, u64>, DatabaseError>;

    /// Up to `limit` pairs that are sealed with another key than this one, in a fixed order, after the one given.
    async fn sealed_otherwise(
        &self,
        than_with: &str,
        after: Option<&SealedPair>,
        limit: u16,
    ) -> Result<Vec<SealedPair>, DatabaseError>;

    /// Stores secret keys that were sealed anew, all in one transaction, and tells how many. A pair that has changed since is
    /// left alone.
    async fn reseal(&self, pairs: &[Resealed], at: Timestamp) -> Result<u64, DatabaseError>;

    /// Takes down that this key of the keyring is to seal no more, now that another will.
    async fn supersede(&self, key: &str, at: Timestamp) -> Result<(), DatabaseError>;

    /// The keys that were superseded, retired or not.
    async fn outgoing_keys(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// Retires those of these keys that nothing is sealed with, and tells which: from then on, every write of something that is
    /// sealed with one of them is refused, whoever makes it. A write that is under way is waited for, and counts.
    async fn retire(&self, keys: &BTreeSet<String>, at: Timestamp) -> Result<BTreeSet<String>, DatabaseError>;

    /// Which migrations the database has, whether or not this program can work with it.
    async fn schema(&self) -> Result<Schema, DatabaseError>;
}

/// What an account is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The account's name, as it stands in the database.
    pub name: String,
    /// The resource that declares or declared the account.
    pub owner: Option<Owner>,
}

/// A pair of keys, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPair {
    /// The account.
    pub account: AccountId,
    /// The pair.
    pub key: StoredKey,
}

/// A secret key that was sealed anew.
#[derive(Debug, Clone)]
pub struct Resealed {
    /// The account.
    pub account: AccountId,
    /// The pair.
    pub key: KeyId,
    /// The id of the keyring's key that sealed it before.
    pub before: String,
    /// The same secret key, sealed with another.
    pub sealed: SealedSecret,
}
