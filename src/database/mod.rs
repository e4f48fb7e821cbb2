//! The account database: the port that the rest of the program knows, and the adapters behind it.
//!
//! The port speaks of whole accounts and of changes, each made in one transaction together with its journal entry.
//! Uniqueness (names, owners, API keys), known affiliates and optimistic versions are the database's own constraints:
//! nothing here looks before it leaps.

mod address;
mod changes;
mod effect;
mod error;
mod held_keyring;
mod in_the_way;
mod journal;
mod kept;
mod keyring;
mod marks;
mod postgres;
mod register;
mod rehearsal;
mod schema;
mod server_url;
mod sql;
mod sqlite;
mod url;

pub use address::{Address, open, open_as_found, open_existing, open_to_look, open_to_read};
pub use changes::Changed;
pub use error::DatabaseError;
pub use held_keyring::HeldKeyring;
pub use in_the_way::{InTheWay, NameHolder};
pub use journal::{JournalEntry, Journalled, JournalledChange};
pub use kept::NotKept;
pub use keyring::{Keyring, KeyringError};
pub use register::{AccountRegister, Named, Resealed, SealedPair};
pub use rehearsal::Rehearsal;
pub use schema::Schema;

use crate::account::{
    Account, AccountId, AccountName, Adopter, AffiliateName, ApiKey, Asked, ClusterId, FieldChange, KeyId, Owner,
    Settings, StoredKey, SuspensionReason, Version,
};
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// Whether there is a declaration of this owner's account, whatever state it is in.
pub type IsDeclared<'a> = &'a (dyn Fn(&Owner) -> bool + Sync);

/// Where accounts are kept. Implemented for SQLite and PostgreSQL; one contract suite holds for both.
///
/// Every call either does all it says or nothing. After an error that [`DatabaseError::is_retryable`], whether a change
/// was made is unknown: read again.
#[async_trait]
pub trait AccountDatabase: fmt::Debug + Send + Sync {
    /// The account that `owner` declares or declared, wherever it is in its life.
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError>;

    /// The accounts that these owners declare or declared, wherever they are in their lives, in one read and in no order.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError>;

    /// The account that has this name (compared as names are), unless it is deleted.
    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError>;

    /// The account with this id, wherever it is in its life.
    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError>;

    /// The account that has a pair with this API key, wherever the account is in its life and whether or not the pair has
    /// expired.
    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError>;

    /// The accounts that keep others from one of these names or API keys, as [`Self::find_by_name`] and
    /// [`Self::find_by_api_key`] have them, in one read and in no order.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError>;

    /// Of these names those that an account has, and of these affiliates those that OpsAdmin knows, in one read that reads
    /// little else.
    async fn in_the_way(&self, names: &[AccountName], affiliates: &[AffiliateName]) -> Result<InTheWay, DatabaseError> {
        let holders = if names.is_empty() { Vec::new() } else { self.find_holders(names, &[]).await? };
        let known = if affiliates.is_empty() { BTreeSet::new() } else { self.affiliates().await? };
        Ok(InTheWay::among(&holders, &known, affiliates))
    }

    /// Whether it answers at all.
    async fn answers(&self) -> Result<(), DatabaseError> {
        self.pending_migrations().await.map(drop)
    }

    /// Every account owned by a resource of this cluster, wherever it is in its life, in one read.
    ///
    /// # Errors
    /// [`DatabaseError::Inconsistent`] if one of them cannot be read; [`Self::find_by_owner`] still answers for the others.
    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError>;

    /// The same, with the reason in place of each account that cannot be read.
    async fn list_readable(&self, cluster: &ClusterId) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        Ok(self.list_by_cluster(cluster).await?.into_iter().map(Ok).collect())
    }

    /// The version of every account owned by a resource of this cluster, wherever it is in its life, in one read that
    /// reads nothing else of them.
    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError>;

    /// What the database itself tells of changes, by whomever, from now on; it comes in late rather than not at all. Ends at
    /// once where a database tells nothing.
    fn changes(&self) -> BoxStream<'static, Changed> {
        Box::pin(stream::empty())
    }

    /// Makes one change in one transaction and answers with the account as it then is, read back in that transaction.
    ///
    /// Settings that something in the database has rewritten may differ from what was asked for, if the rest was done and
    /// the account as it is lets in nobody whom the change would not let in.
    ///
    /// # Errors
    /// [`DatabaseError::NameTaken`], [`DatabaseError::UnknownAffiliate`], [`DatabaseError::KeyTaken`],
    /// [`DatabaseError::KeyRevoked`], [`DatabaseError::NotKept`] and [`DatabaseError::Conflict`] say that the change was refused; nothing was changed.
    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError>;

    /// The owners in this cluster of accounts that are neither deleted nor retained.
    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError>;

    /// How many accounts of this cluster are live, and how many were deleted since this time without anybody's confirmation.
    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError>;

    /// The affiliates that OpsAdmin knows, by name.
    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// Removes the accounts of this cluster that were deleted before this time, with their keys; the journal stays. Leaves out
    /// those whose owner is declared, which may yet be restored: with the same keys, however long that takes. One that the
    /// database does not let go keeps no other from going.
    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError>;

    /// Removes from the journal what happened before this time, and tells how many entries that were: never the one of an
    /// account's creation or import, nor its last 10.
    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError>;

    /// Which database this is: an id that its migrations made, and that a copy of it keeps. `None` if somebody removed it.
    async fn identity(&self) -> Result<Option<String>, DatabaseError>;

    /// Those of these API keys that were revoked, or purged with their accounts. None of them is ever in use again.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError>;

    /// The ids of the keyring's keys that at least one secret key is sealed with.
    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// The migrations this program has and the database has not, oldest first, by name.
    ///
    /// # Errors
    /// [`DatabaseError::NewerSchema`] if the database has been migrated by a newer program and needs one.
    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError>;

    /// Brings the schema up to date, and writes nothing if it is.
    async fn migrate(&self) -> Result<(), DatabaseError>;

    /// Ends every connection in good order; later calls fail. For SQLite this merges the log into the file, so that the
    /// file alone is the whole database.
    async fn close(&self) {}
}

/// How many accounts of a cluster there are, and how many have gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletions {
    /// Those that are neither deleted nor retained.
    pub live: usize,
    /// Those that were deleted within the time asked for, confirmed by nobody, and are deleted still.
    pub deleted: usize,
}

/// What came of purging.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many accounts are gone.
    pub accounts: usize,
    /// Those that were due and could not be removed.
    pub refused: Vec<Unpurged>,
}

/// An account that the database does not let go: a row of a table that is not this program's refers to it, say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpurged {
    /// The account's id, as it is stored.
    pub account: String,
    /// Whose it was.
    pub owner: Owner,
    /// What the database said.
    pub reason: String,
}

/// One change of one account.
#[derive(Debug, Clone)]
pub struct Change {
    /// The account it is made to.
    pub account: AccountId,
    /// What is done.
    pub action: Action,
    /// When: goes into the account's times and the journal.
    pub at: Timestamp,
    /// Who, for the journal: `controller`, `apply` or `cli:NAME`.
    pub actor: String,
    /// The resource's generation that asked for it, where there is one.
    pub generation: Option<i64>,
}

/// What is done to an account.
#[derive(Debug, Clone)]
pub enum Action {
    /// Make it, with its first pair of keys, live.
    Create {
        /// Who declares it.
        owner: Owner,
        /// What is set on it.
        settings: Settings,
        /// Its first pair.
        key: StoredKey,
        /// The requests to rotate that its keys, being new, answer.
        answered: Asked,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Make a known one say this; one that was retained or deleted is live again, with the keys it has.
    Update {
        /// The version that was observed.
        expected: Version,
        /// All that shall be set on it.
        settings: Settings,
        /// What differs from before, for the journal.
        changes: Vec<FieldChange>,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Make one that nobody declares, with a pair of keys that it had elsewhere.
    Import {
        /// What is set on it.
        settings: Settings,
        /// Its pair.
        key: StoredKey,
        /// Who may take it over.
        adopter: Option<Adopter>,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Say who may take over one that nobody declares.
    AllowAdoption {
        /// The version that was observed.
        expected: Version,
        /// Who, beside the namespace that it had; `None`: nobody else.
        adopter: Option<Adopter>,
    },
    /// Give one that nobody declares to a resource, as it is.
    Adopt {
        /// The version that was observed.
        expected: Version,
        /// Who declares it from now on.
        owner: Owner,
        /// The requests to rotate that count as answered: taking an account over is no reason to change its keys.
        answered: Asked,
    },
    /// Give it a new active pair.
    Rotate {
        /// The version that was observed.
        expected: Version,
        /// The new pair.
        key: StoredKey,
        /// Until when the pair before goes on working; `None`: not at all.
        old_expires: Option<Timestamp>,
        /// Older pairs to revoke before their time.
        revoke: Vec<KeyId>,
        /// The requests to rotate that this answers.
        answered: Asked,
    },
    /// Remove pairs that have expired.
    Revoke {
        /// The version that was observed.
        expected: Version,
        /// The pairs.
        keys: Vec<KeyId>,
    },
    /// Give one that has lost its active pair that pair back.
    RestoreKey {
        /// The version that was observed.
        expected: Version,
        /// The pair.
        key: StoredKey,
    },
    /// Stop it, whatever its settings say; or give another reason for that.
    Suspend {
        /// The version that was observed.
        expected: Version,
        /// Why.
        reason: SuspensionReason,
    },
    /// End its suspension.
    Resume {
        /// The version that was observed.
        expected: Version,
    },
    /// Its resource is gone: disable it and free its name; row and keys stay.
    Delete {
        /// The version that was observed.
        expected: Version,
        /// Whether a person confirmed it, so that it does not count as one of many at once.
        confirmed: bool,
    },
    /// Its resource is gone: leave everything as it is and remember that nobody declares it now.
    Retain {
        /// The version that was observed.
        expected: Version,
    },
}

/// What to do about an affiliate that OpsAdmin does not know. Never to leave the affiliate out, which would widen access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownAffiliate {
    /// Refuse the whole change.
    #[default]
    Refuse,
    /// Register the affiliate in the same transaction.
    Register,
}
