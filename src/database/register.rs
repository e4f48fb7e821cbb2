//! The calls of the account database that only the command line needs, beyond those that a reconcile needs.

use super::{AccountDatabase, Change, DatabaseError, JournalEntry, JournalRecord, Schema};
use crate::account::{Account, AccountId, AccountName, AffiliateName, KeyId, KeyUse, Owner, SealedSecret, StoredKey};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};

/// Something that is wrong with a role of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleProblem {
    /// What the role lacks, or has without need, such as `may not INSERT logins`.
    pub problem: String,
    /// The SQL statement that corrects it.
    pub remedy: String,
}

/// The whole account database, for commands that inspect or change it. The same rules hold as for [`AccountDatabase`].
#[async_trait]
pub trait AccountAdmin: AccountDatabase {
    /// Returns every account (live, retained or deleted) with or without an owner, oldest first, in one read. In place
    /// of an account that cannot be read, the list has [`DatabaseError::Inconsistent`].
    async fn list(&self) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError>;

    /// Returns the journal entries of the account with this id, oldest first. The account may have been purged.
    async fn journal(&self, id: AccountId) -> Result<Vec<JournalEntry>, DatabaseError>;

    /// Returns the first entries of the whole journal whose ids are greater than `after`, at most `limit`, by id.
    async fn journal_after(&self, after: i64, limit: u16) -> Result<Vec<JournalRecord>, DatabaseError>;

    /// Makes all changes in one transaction, or none of them.
    ///
    /// # Errors
    /// As [`AccountDatabase::commit`], for the first change that is refused.
    async fn commit_all(&self, changes: &[Change]) -> Result<(), DatabaseError>;

    /// Returns the accounts that no resource declares, in the form of [`Self::list`]: those that were created by hand
    /// or imported, and the retained ones.
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

    /// Returns every resource that declares or declared an account. The account may be live, retained or deleted, and
    /// may be unreadable.
    async fn owners(&self) -> Result<Vec<Owner>, DatabaseError>;

    /// Returns when the key pairs of the account, or of all accounts, were used to log in, unordered. A pair without a
    /// recorded use has no entry.
    async fn uses(&self, account: Option<AccountId>) -> Result<Vec<KeyUse>, DatabaseError>;

    /// Returns the privileges that a controller needs and the database's user lacks, such as `UPDATE accounts`. The
    /// list is empty for a database without users.
    async fn missing_privileges(&self) -> Result<Vec<String>, DatabaseError>;

    /// Returns what this role of the database lacks to be the role of an auth server, and which rights on the tables it has
    /// without need. The list is empty for a database without roles.
    async fn auth_server_role_problems(&self, role: &str) -> Result<Vec<RoleProblem>, DatabaseError>;

    /// Registers an affiliate with OpsAdmin, and returns whether it is new.
    async fn register_affiliate(&self, name: &AffiliateName, at: Timestamp) -> Result<bool, DatabaseError>;

    /// Returns how many key pairs are sealed with each key of the keyring, by the id of that key.
    async fn sealed_pairs(&self) -> Result<BTreeMap<String, u64>, DatabaseError>;

    /// Returns up to `limit` key pairs that are sealed with another key than `than_with`, in a fixed order, starting
    /// after the key pair `after`.
    async fn sealed_with_other_keys(
        &self,
        than_with: &str,
        after: Option<&SealedPair>,
        limit: u16,
    ) -> Result<Vec<SealedPair>, DatabaseError>;

    /// Stores re-sealed secret keys in one transaction, and returns how many it stored. Skips a key pair that has
    /// changed since it was read.
    async fn reseal(&self, pairs: &[Resealed], at: Timestamp) -> Result<u64, DatabaseError>;

    /// Records that this key of the keyring seals no longer, because another key replaces it.
    async fn supersede(&self, key: &str, at: Timestamp) -> Result<(), DatabaseError>;

    /// Returns the ids of the keys that were superseded, whether or not they are retired.
    async fn outgoing_keys(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// Retires those of these keys that seal nothing, and returns their ids. The database then refuses every write of a
    /// secret key that is sealed with a retired key, by any program. The call first waits for writes that are in
    /// progress, so a key that such a write uses is not retired.
    async fn retire(&self, keys: &BTreeSet<String>, at: Timestamp) -> Result<BTreeSet<String>, DatabaseError>;

    /// Returns which migrations the database has, whether or not this program can work with it.
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

/// A key pair and its account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPair {
    /// The account.
    pub account: AccountId,
    /// The key pair.
    pub key: StoredKey,
}

/// A secret key that was sealed again, with another key of the keyring.
#[derive(Debug, Clone)]
pub struct Resealed {
    /// The account.
    pub account: AccountId,
    /// The key pair.
    pub key: KeyId,
    /// The id of the keyring's key that sealed the secret key before.
    pub before: String,
    /// The secret key, sealed with the new key.
    pub sealed: SealedSecret,
}
