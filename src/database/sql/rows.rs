//! The rows of the tables, and their conversion to accounts, key pairs and journal entries.
//!
//! Values that only describe access (names, roles, addresses) are accepted as they are, even if they are invalid.
//! Values that identify or authenticate (ids, keys, times, owners) must be valid.

use crate::account::{
    Account, AccountId, Adopter, ApiKey, ClusterId, KeyId, KeyState, Life, Owner, RotationRequests, SealedSecret,
    StoredKey, StoredSettings, Suspension, Version,
};
use crate::database::{DatabaseError, JournalEntry, JournalRecord, JournalledChanges, NameHolder};
use jiff::Timestamp;
use sqlx::FromRow;
use std::collections::BTreeSet;

/// A row of `accounts`.
#[derive(FromRow)]
pub(in crate::database) struct AccountRow {
    pub id: String,
    version: i64,
    name: String,
    description: String,
    enabled: bool,
    use_refresh_token: bool,
    affiliate: Option<String>,
    any_ip: bool,
    owner_cluster: Option<String>,
    owner_namespace: Option<String>,
    owner_name: Option<String>,
    retained_at: Option<i64>,
    deleted_at: Option<i64>,
    suspended_at: Option<i64>,
    suspended_reason: Option<String>,
    answered_trigger: Option<String>,
    answered_annotation: Option<String>,
    adopter: Option<String>,
}

/// The owner and the version in a row of `accounts`.
#[derive(FromRow)]
pub(super) struct VersionRow {
    owner_namespace: String,
    owner_name: String,
    version: i64,
}

/// The account that holds a name.
#[derive(FromRow)]
pub(super) struct HolderRow {
    name_key: String,
    id: String,
    version: i64,
    owner_cluster: Option<String>,
    retained_at: Option<i64>,
}

/// A row of `account_roles` or `account_allowed_ips`.
#[derive(FromRow)]
pub(super) struct TextRow {
    pub account_id: String,
    pub text: String,
}

/// A row of `account_keys`.
#[derive(FromRow)]
pub(in crate::database) struct KeyRow {
    pub id: String,
    pub account_id: String,
    pub api_key: String,
    pub secret_key_sealed: Vec<u8>,
    pub sealed_with: String,
    pub created_at: i64,
    pub expires_at: Option<i64>,
}

/// A row of `account_journal`.
#[derive(FromRow)]
pub(super) struct JournalRow {
    id: i64,
    at: i64,
    actor: String,
    generation: Option<i64>,
    requested_by: Option<String>,
    action: String,
    changes: String,
}

/// An entry of the whole journal.
#[derive(FromRow)]
pub(super) struct JournalRecordRow {
    id: i64,
    account_id: String,
    at: i64,
    actor: String,
    generation: Option<i64>,
    requested_by: Option<String>,
    action: String,
    changes: String,
}

/// The rows of one account in the other tables.
#[derive(Default)]
pub(in crate::database) struct Parts {
    pub roles: BTreeSet<String>,
    pub allowed_ips: BTreeSet<String>,
    pub keys: Vec<StoredKey>,
}

/// The place of a value in the database, for the error if the value is invalid.
pub(super) struct Cell<'a> {
    pub table: &'static str,
    pub column: &'static str,
    pub row: &'a str,
}

impl AccountRow {
    /// Returns the account of this row and its parts.
    pub fn decode(self, parts: Parts) -> Result<Account, DatabaseError> {
        let cell = |column| Cell { table: "accounts", column, row: &self.id };
        let id = cell("id").id(&self.id, AccountId::parse)?;
        let life = match (self.deleted_at, self.retained_at) {
            (Some(since), _) => Life::Deleted { since: cell("deleted_at").time(since)? },
            (None, Some(since)) => Life::Retained { since: cell("retained_at").time(since)? },
            (None, None) => Life::Live,
        };
        let owner = match (&self.owner_cluster, self.owner_namespace, self.owner_name) {
            (Some(cluster), Some(namespace), Some(name)) => {
                let cluster =
                    ClusterId::parse(cluster).map_err(|error| cell("owner_cluster").unreadable(error.to_string()))?;
                Some(Owner { cluster, namespace, name })
            }
            (None, None, None) => None,
            _ => return Err(cell("owner_cluster").unreadable("the owner is not whole".to_owned())),
        };
        let adopter = match &self.adopter {
            Some(text) => Some(Adopter::parse(text).ok_or_else(|| {
                cell("adopter").unreadable("it is neither CLUSTER/NAMESPACE nor CLUSTER/NAMESPACE/NAME".to_owned())
            })?),
            None => None,
        };
        let suspension = match self.suspended_at {
            Some(since) => Some(Suspension {
                since: cell("suspended_at").time(since)?,
                reason: self.suspended_reason.unwrap_or_default(),
            }),
            None => None,
        };
        Ok(Account {
            id,
            version: Version(self.version),
            owner,
            adopter,
            life,
            settings: StoredSettings {
                name: self.name,
                description: self.description,
                enabled: self.enabled,
                use_refresh_token: self.use_refresh_token,
                affiliate: self.affiliate,
                roles: parts.roles,
                any_ip: self.any_ip,
                allowed_ips: parts.allowed_ips,
            },
            keys: parts.keys,
            answered_requests: RotationRequests {
                trigger: self.answered_trigger,
                annotation: self.answered_annotation,
            },
            suspension,
        })
    }
}

impl VersionRow {
    /// Returns the account's owner on this cluster, and the account's version.
    pub fn of(self, cluster: &ClusterId) -> (Owner, Version) {
        let owner = Owner { cluster: cluster.clone(), namespace: self.owner_namespace, name: self.owner_name };
        (owner, Version(self.version))
    }
}

impl HolderRow {
    /// Returns the comparable name and its holder.
    pub fn read(self) -> (String, NameHolder) {
        let is_declared = self.owner_cluster.is_some() && self.retained_at.is_none();
        (self.name_key, NameHolder { id: self.id, version: Version(self.version), is_declared })
    }
}

impl KeyRow {
    /// Returns the key pair of this row.
    pub fn decode(self) -> Result<StoredKey, DatabaseError> {
        let cell = |column| Cell { table: "account_keys", column, row: &self.id };
        Ok(StoredKey {
            id: cell("id").id(&self.id, KeyId::parse)?,
            api_key: ApiKey::stored(&self.api_key).map_err(|error| cell("api_key").unreadable(error.to_string()))?,
            state: match self.expires_at {
                Some(expires) => KeyState::Retiring { expires: cell("expires_at").time(expires)? },
                None => KeyState::Active,
            },
            created: cell("created_at").time(self.created_at)?,
            sealed: SealedSecret { sealed_with: self.sealed_with, bytes: self.secret_key_sealed },
        })
    }
}

impl JournalRow {
    /// Returns the journal entry of this row.
    pub fn decode(self) -> Result<JournalEntry, DatabaseError> {
        let at = Cell { table: "account_journal", column: "at", row: &self.id.to_string() }.time(self.at)?;
        let changes = JournalledChanges::parse(self.changes);
        Ok(JournalEntry {
            at,
            actor: self.actor,
            generation: self.generation,
            requested_by: self.requested_by,
            action: self.action,
            changes,
        })
    }
}

impl JournalRecordRow {
    /// Returns the entry of this row. A time that cannot be read is left out, because one entry must not hide the others.
    pub fn decode(self) -> JournalRecord {
        JournalRecord {
            id: self.id,
            account: self.account_id,
            at: Timestamp::from_microsecond(self.at).ok(),
            actor: self.actor,
            generation: self.generation,
            requested_by: self.requested_by,
            action: self.action,
            changes: JournalledChanges::parse(self.changes),
        }
    }
}

impl Cell<'_> {
    /// Accepts an id only in this program's spelling, because statements with this program's spelling would not find a
    /// row with another one.
    pub fn id<Id: ToString>(&self, text: &str, parse: fn(&str) -> Option<Id>) -> Result<Id, DatabaseError> {
        parse(text)
            .filter(|id| id.to_string() == text)
            .ok_or_else(|| self.unreadable("it is not a UUID in lower case with hyphens".to_owned()))
    }

    pub fn time(&self, microseconds: i64) -> Result<Timestamp, DatabaseError> {
        Timestamp::from_microsecond(microseconds).map_err(|_| {
            self.unreadable(format!("{microseconds} microseconds are no time between the years -9999 and 9999"))
        })
    }

    pub fn unreadable(&self, reason: String) -> DatabaseError {
        DatabaseError::Inconsistent { table: self.table, column: self.column, row: self.row.to_owned(), reason }
    }
}
