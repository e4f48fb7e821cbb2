//! The account database: the traits that the rest of the program uses, and the SQLite and PostgreSQL adapters.
//!
//! The traits read whole accounts and commit changes. Each change is one transaction that also writes its journal
//! entry. The database itself enforces unique names, owners and API keys, known affiliates and optimistic versions. The
//! code here does not check these rules before it writes.

mod address;
mod changes;
mod current_keyring;
mod dry_run;
mod effect;
mod error;
mod journal;
mod keyring;
mod keyring_file;
mod locked_keyring;
mod marks;
mod not_stored;
mod obstacles;
mod postgres;
mod register;
mod schema;
mod server_url;
mod sql;
mod sqlite;
mod sweep;
mod url;

pub use address::{
    Address, WithLogins, open, open_existing, open_to_query, open_to_read, open_unchecked, open_with_logins,
};
pub use changes::Changed;
pub use current_keyring::CurrentKeyring;
pub use dry_run::DryRunDatabase;
pub use error::DatabaseError;
pub use journal::{JournalEntry, JournalRecord, JournalledChange, JournalledChanges};
pub use keyring::{Keyring, KeyringError};
pub use keyring_file::{KeyringFile, KeyringRead};
pub use locked_keyring::LockedKeyring;
pub use not_stored::NotStored;
pub use obstacles::{NameHolder, Obstacles};
pub use register::{AccountAdmin, Named, Resealed, RoleProblem, SealedPair};
pub use schema::Schema;
pub use sweep::{Changes, SweepMark, page_after};

use crate::account::{
    Account, AccountId, AccountName, Adopter, AffiliateName, ApiKey, ClusterId, FieldChange, KeyId, KeyUse, Owner,
    Requester, RotationRequests, Settings, StoredKey, SuspensionReason, Version,
};
use async_trait::async_trait;
use futures::stream::{self, BoxStream};
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::fmt;

/// Returns whether an ApiAccount declares this owner's account, in whatever state the ApiAccount is.
pub type IsDeclared<'a> = &'a (dyn Fn(&Owner) -> bool + Sync);

/// The database that stores accounts. SQLite and PostgreSQL implement it, and one contract suite tests both.
///
/// Each call takes effect completely or not at all. After an error for which [`DatabaseError::is_retryable`] is true,
/// it is unknown whether the change was made, so the caller must read again.
#[async_trait]
pub trait AccountDatabase: fmt::Debug + Send + Sync {
    /// Returns the account that `owner` declares or declared: live, retained or deleted.
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError>;

    /// Returns the accounts that these owners declare or declared (live, retained or deleted), in one read and
    /// unordered.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError>;

    /// Returns the account with this name, unless the account is deleted. Names are compared in their comparable form.
    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError>;

    /// Returns the account with this id: live, retained or deleted.
    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError>;

    /// Returns the account that has a key pair with this API key. The account may be live, retained or deleted, and the
    /// key pair may have expired.
    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError>;

    /// Returns the accounts that hold one of these names or API keys, in one read and unordered. An account holds what
    /// [`Self::find_by_name`] and [`Self::find_by_api_key`] find it by.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError>;

    /// Returns which of these names are held by an account, and which of these affiliates OpsAdmin knows. The adapters
    /// do this in one small read that does not load whole accounts.
    async fn find_obstacles(
        &self,
        names: &[AccountName],
        affiliates: &[AffiliateName],
    ) -> Result<Obstacles, DatabaseError> {
        let holders = if names.is_empty() { Vec::new() } else { self.find_holders(names, &[]).await? };
        let known = if affiliates.is_empty() { BTreeSet::new() } else { self.affiliates().await? };
        Ok(Obstacles::among(&holders, &known, affiliates))
    }

    /// Checks that the database responds.
    async fn answers(&self) -> Result<(), DatabaseError> {
        self.pending_migrations().await.map(drop)
    }

    /// Returns every account (live, retained or deleted) that a resource of this cluster owns, in one read.
    ///
    /// # Errors
    /// [`DatabaseError::Inconsistent`] if one account cannot be read. [`Self::find_by_owner`] still works for the
    /// others.
    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError>;

    /// Returns the same accounts as [`Self::find_by_owners`], with an error in place of each account that cannot be
    /// read.
    async fn find_readable(&self, owners: &[Owner]) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        Ok(self.find_by_owners(owners).await?.into_iter().map(Ok).collect())
    }

    /// Returns the owner and the version of every account (live, retained or deleted) that a resource of this cluster
    /// owns, in one read that loads nothing else.
    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError>;

    /// Returns the first of the accounts that [`Self::versions`] returns, in the order of the owners' namespaces and names
    /// as the database orders text: at most `limit` of those after this owner, or of all. One call reads one page.
    async fn versions_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        Ok(page_after(self.versions(cluster).await?, |(owner, _)| owner, after, limit))
    }

    /// Returns what changed among the accounts that [`Self::versions`] returns, since an earlier call returned this mark,
    /// by any program or person. The database tells only what changed, and no account at rest.
    async fn changes_since(&self, _cluster: &ClusterId, _since: Option<&SweepMark>) -> Result<Changes, DatabaseError> {
        Ok(Changes::unknown())
    }

    /// Returns when the key pairs of this cluster's accounts were used to log in, each with the owner of its account, in
    /// one read and unordered. A pair without a recorded use has no entry.
    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError>;

    /// Returns the database's own notifications of changes from now on, by any program or person. A notification may be
    /// late, but none is lost. The stream ends at once for a database that sends no notifications.
    fn changes(&self) -> BoxStream<'static, Changed> {
        Box::pin(stream::empty())
    }

    /// Makes one change in one transaction, and returns the account as read back in that transaction.
    ///
    /// Something in the database, such as a trigger, may rewrite settings. The change still succeeds if the rest of it
    /// was stored, and if the stored settings give no access beyond the requested settings.
    ///
    /// # Errors
    /// [`DatabaseError::NameTaken`], [`DatabaseError::UnknownAffiliate`], [`DatabaseError::KeyTaken`],
    /// [`DatabaseError::KeyRevoked`], [`DatabaseError::NotStored`] and [`DatabaseError::Conflict`] mean that the database
    /// refused the change and that nothing was changed.
    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError>;

    /// Returns the owners in this cluster whose accounts are live: neither deleted nor retained.
    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError>;

    /// Returns the first of the owners that [`Self::live`] returns, in pages as [`Self::versions_after`].
    async fn live_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<Owner>, DatabaseError> {
        Ok(page_after(self.live(cluster).await?, |owner| owner, after, limit))
    }

    /// Returns how many accounts of this cluster are live, and how many were deleted since this time without
    /// confirmation.
    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError>;

    /// Returns the names of the affiliates that OpsAdmin knows.
    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// Purges the accounts of this cluster that were deleted before this time: removes them and their keys, and keeps
    /// the journal. Skips each account whose owner is declared, because that account may still be restored with the
    /// same keys. If the database refuses to remove one account, the others are still removed.
    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError>;

    /// Removes the journal entries from before this time, and returns how many it removed. Keeps the entry of each
    /// account's creation or import and each account's last 10 entries.
    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError>;

    /// Returns the id of the database. A migration creates the id, and a copy of the database has the same id. `None`
    /// if the id was removed from the database.
    async fn identity(&self) -> Result<Option<String>, DatabaseError>;

    /// Returns which history of its data the database continues; `None` if it does not tell. The history becomes another
    /// one when a standby is promoted, when a server is restored from a backup, or when another database takes the place
    /// of this one. Commits may then be lost, and the version of an account may stand for another state than before.
    async fn history(&self) -> Result<Option<String>, DatabaseError> {
        Ok(None)
    }

    /// Returns which of these API keys were revoked, or purged with their accounts. Such a key is never used again.
    ///
    /// # Errors
    /// As [`Self::list_by_cluster`].
    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError>;

    /// Returns the ids of the keyring's keys that seal at least one secret key.
    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError>;

    /// Returns the names of this program's migrations that the database lacks, oldest first.
    ///
    /// # Errors
    /// [`DatabaseError::NewerSchema`] if a newer program migrated the database, and the schema now requires a newer
    /// program.
    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError>;

    /// Brings the schema up to date. Writes nothing if the schema is already up to date.
    async fn migrate(&self) -> Result<(), DatabaseError>;

    /// Closes every connection cleanly; later calls fail. For SQLite this merges the write-ahead log into the file, so
    /// that the file alone is the whole database.
    async fn close(&self) {}
}

/// How many accounts of a cluster are live, and how many were deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deletions {
    /// The number of accounts that are neither deleted nor retained.
    pub live: usize,
    /// The number of accounts that were deleted within the given time without confirmation, and that are still deleted.
    pub deleted: usize,
}

/// The outcome of a purge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// How many accounts were removed.
    pub accounts: usize,
    /// The accounts that were due and that the database refused to remove.
    pub refused: Vec<Unpurged>,
}

/// An account that the database refused to remove, for example because a row of a foreign table refers to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unpurged {
    /// The account's id, as stored.
    pub account: String,
    /// The owner of the account.
    pub owner: Owner,
    /// The database's error message.
    pub reason: String,
}

/// One change of one account.
#[derive(Debug, Clone)]
pub struct Change {
    /// The account to change.
    pub account: AccountId,
    /// What to do to the account.
    pub action: Action,
    /// The time of the change, for the account's times and the journal.
    pub at: Timestamp,
    /// The actor for the journal: `controller`, `apply` or `cli:NAME`.
    pub actor: String,
    /// The generation of the resource that requested the change, if a resource did.
    pub generation: Option<i64>,
    /// Who wrote that resource, if it is known.
    pub requested_by: Option<Requester>,
}

/// What to do to an account.
#[derive(Debug, Clone)]
pub enum Action {
    /// Creates the account as live, with its first key pair.
    Create {
        /// The resource that declares the account.
        owner: Owner,
        /// The account's settings.
        settings: Settings,
        /// The first key pair.
        key: StoredKey,
        /// The rotation requests that count as answered, because the keys are new.
        answered: RotationRequests,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Sets the settings of an existing account. A retained or deleted account becomes live again, with the keys it
    /// has.
    Update {
        /// The version that was observed.
        expected: Version,
        /// All settings of the account after the update.
        settings: Settings,
        /// The differences from the previous settings, for the journal.
        changes: Vec<FieldChange>,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Creates an unowned account with a key pair that already exists elsewhere.
    Import {
        /// The account's settings.
        settings: Settings,
        /// The key pair.
        key: StoredKey,
        /// The resources that may adopt the account.
        adopter: Option<Adopter>,
        /// What to do about an affiliate that OpsAdmin does not know.
        unknown_affiliate: UnknownAffiliate,
    },
    /// Sets which resources may adopt an account that no resource declares.
    AllowAdoption {
        /// The version that was observed.
        expected: Version,
        /// The resources that may adopt the account, beside those of its former namespace; `None`: no others.
        adopter: Option<Adopter>,
    },
    /// Makes a resource the owner of an account that no resource declares. Changes nothing else of the account.
    Adopt {
        /// The version that was observed.
        expected: Version,
        /// The resource that declares the account from now on.
        owner: Owner,
        /// The rotation requests that count as answered, because an adoption is no reason to change the keys.
        answered: RotationRequests,
    },
    /// Adds a new active key pair.
    Rotate {
        /// The version that was observed.
        expected: Version,
        /// The new key pair.
        key: StoredKey,
        /// When the previous key pair expires; `None`: it is revoked at once.
        old_expires: Option<Timestamp>,
        /// Older key pairs to revoke before they expire.
        revoke: Vec<KeyId>,
        /// The rotation requests that this rotation answers.
        answered: RotationRequests,
    },
    /// Removes key pairs that have expired.
    Revoke {
        /// The version that was observed.
        expected: Version,
        /// The key pairs to remove.
        keys: Vec<KeyId>,
    },
    /// Adds the active key pair again to an account that has lost it.
    RestoreKey {
        /// The version that was observed.
        expected: Version,
        /// The key pair.
        key: StoredKey,
    },
    /// Suspends the account regardless of its settings, or changes the reason of a suspension.
    Suspend {
        /// The version that was observed.
        expected: Version,
        /// The reason of the suspension.
        reason: SuspensionReason,
    },
    /// Ends the suspension of the account.
    Resume {
        /// The version that was observed.
        expected: Version,
    },
    /// Deletes the account because its resource no longer exists: disables it and frees its name. Keeps the row and the
    /// keys.
    Delete {
        /// The version that was observed.
        expected: Version,
        /// Whether a person confirmed the deletion. A confirmed deletion does not count for the brake.
        confirmed: bool,
    },
    /// Retains the account because its resource no longer exists: records that no resource declares it. Changes nothing
    /// else.
    Retain {
        /// The version that was observed.
        expected: Version,
    },
}

/// What to do about an affiliate that OpsAdmin does not know. To leave the affiliate out is no option: that would widen
/// access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UnknownAffiliate {
    /// Refuse the whole change.
    #[default]
    Refuse,
    /// Register the affiliate in the same transaction.
    Register,
}
