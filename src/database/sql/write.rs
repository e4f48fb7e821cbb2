//! Writes one [`Change`] and its journal entry within the given transaction.
//!
//! Each statement that updates an account requires the version that was observed. `effect.rs` computes the same changes
//! without a database, and must be changed together with this file.

mod suspension;

use super::creation::Creation;
use super::fault::Fault;
use super::revoked::{self, Reason};
use super::{Session, Value};
use crate::account::{
    Adopter, AffiliateName, Field, FieldChange, KeyId, KeyState, Owner, Requester, RotationRequests, Settings,
    StoredKey, StoredSettings, Version,
};
use crate::database::{Action, Change, DatabaseError, UnknownAffiliate};
use jiff::Timestamp;
use serde_json::json;
use sqlx::FromRow;
use sqlx::error::ErrorKind;
use std::collections::BTreeSet;

const FIRST_VERSION: Version = Version(1);

const CREATE: &str = "INSERT INTO accounts (id, version, name, name_key, description, enabled, use_refresh_token, \
     affiliate, any_ip, updated_at, created_at, owner_cluster, owner_namespace, owner_name, answered_trigger, \
     answered_annotation, adopter) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11, $12, $13, $14, $15, $16)";

/// Keeps the stored `name_key` if the name is unchanged and another live account has the new `name_key`. An older
/// version of this program regarded the two names as different. Without this exception every other change of the
/// account, even a revocation, would have to wait until somebody renames one of the two accounts.
const UPDATE: &str = "UPDATE accounts SET version = version + 1, name = $3, name_key = CASE WHEN name = $3 AND EXISTS \
     (SELECT 1 FROM accounts AS twin WHERE twin.name_key = $4 AND twin.deleted_at IS NULL AND twin.id <> $1) \
     THEN name_key ELSE $4 END, description = $5, enabled = $6, use_refresh_token = $7, affiliate = $8, any_ip = $9, \
     updated_at = $10, retained_at = NULL, deleted_at = NULL, deletion_confirmed = FALSE, adopter = NULL \
     WHERE id = $1 AND version = $2 RETURNING version";

const DELETE: &str = "UPDATE accounts SET version = version + 1, enabled = FALSE, updated_at = $3, deleted_at = $3, \
     deletion_confirmed = $4 WHERE id = $1 AND version = $2 RETURNING version";

const RETAIN: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, retained_at = $3 \
     WHERE id = $1 AND version = $2 RETURNING version";

const ADOPT: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, retained_at = NULL, \
     owner_cluster = $4, owner_namespace = $5, owner_name = $6, answered_trigger = $7, answered_annotation = $8, \
     adopter = NULL \
     WHERE id = $1 AND version = $2 AND deleted_at IS NULL AND (owner_cluster IS NULL OR retained_at IS NOT NULL) \
     RETURNING version";

const ALLOW_ADOPTION: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, adopter = $4 \
     WHERE id = $1 AND version = $2 AND deleted_at IS NULL AND (owner_cluster IS NULL OR retained_at IS NOT NULL) \
     RETURNING version";

const ADOPTER: &str = "SELECT adopter FROM accounts WHERE id = $1";

const ANSWER: &str = "UPDATE accounts SET version = version + 1, updated_at = $3, answered_trigger = $4, \
     answered_annotation = $5 WHERE id = $1 AND version = $2 RETURNING version";

const NEXT_VERSION: &str = "UPDATE accounts SET version = version + 1, updated_at = $3 \
     WHERE id = $1 AND version = $2 RETURNING version";

const ACTIVE_KEYS: &str =
    "SELECT id FROM account_keys WHERE account_id = $1 AND expires_at IS NULL ORDER BY created_at";

const RETIRE_ACTIVE: &str = "UPDATE account_keys SET expires_at = $2 WHERE account_id = $1 AND expires_at IS NULL";

const REMOVE_ACTIVE: &str = "DELETE FROM account_keys WHERE account_id = $1 AND expires_at IS NULL RETURNING api_key";

const REMOVE_RETIRING: &str =
    "DELETE FROM account_keys WHERE account_id = $1 AND id = $2 AND expires_at IS NOT NULL RETURNING api_key";

const STATE_BEFORE: &str =
    "SELECT enabled, retained_at, deleted_at, suspended_reason FROM accounts WHERE id = $1 AND version = $2";

const REMOVE_ROLES: &str = "DELETE FROM account_roles WHERE account_id = $1";

const REMOVE_ALLOWED_IPS: &str = "DELETE FROM account_allowed_ips WHERE account_id = $1";

const REGISTER_AFFILIATE: &str =
    "INSERT INTO affiliates (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING RETURNING name";

const ADD_KEY: &str = "INSERT INTO account_keys (id, account_id, api_key, secret_key_sealed, sealed_with, created_at, \
     expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7)";

const ADD_JOURNAL_ENTRY: &str = "INSERT INTO account_journal (account_id, at, actor, generation, requested_by, \
     action, changes) VALUES ($1, $2, $3, $4, $5, $6, $7)";

const VERSION: &str = "SELECT version FROM accounts WHERE id = $1";

const SET_VERSION: &str = "UPDATE accounts SET version = $2 WHERE id = $1 AND version <> $2";

/// The values before the change that decide what the journal records.
#[derive(FromRow)]
struct Before {
    enabled: bool,
    retained_at: Option<i64>,
    deleted_at: Option<i64>,
    suspended_reason: Option<String>,
}

/// Writes one change. Holds the change's own values in the form that statements take.
struct Writer<'a, S> {
    session: &'a mut S,
    change: &'a Change,
    id: String,
    at: i64,
}

/// Writes the change and its journal entry.
pub(in crate::database) async fn apply<S: Session>(session: &mut S, change: &Change) -> Result<(), Fault> {
    let mut writer = Writer { session, change, id: change.account.to_string(), at: change.at.as_microsecond() };
    if let Some(creation) = Creation::of(change) {
        return writer.create(&creation).await;
    }
    match &change.action {
        Action::Create { .. } | Action::Import { .. } => Ok(()),
        Action::AllowAdoption { expected, adopter } => writer.allow_adoption(*expected, adopter.as_ref()).await,
        Action::Adopt { expected, owner, answered } => writer.adopt(*expected, owner, answered).await,
        Action::Rotate { expected, key, old_expires, revoke, answered } => {
            writer.rotate(*expected, key, *old_expires, revoke, answered).await
        }
        Action::Revoke { expected, keys } => writer.revoke(*expected, keys).await,
        Action::Update { expected, settings, changes, unknown_affiliate } => {
            writer.update(*expected, settings, changes, *unknown_affiliate).await
        }
        Action::RestoreKey { expected, key } => writer.restore_key(*expected, key).await,
        Action::Suspend { expected, reason } => writer.suspend(*expected, reason).await,
        Action::Resume { expected } => writer.resume(*expected).await,
        Action::Delete { expected, confirmed } => writer.delete(*expected, *confirmed).await,
        Action::Retain { expected } => writer.retain(*expected).await,
    }
}

/// Returns the account's version; `None` if there is no such account.
pub(super) async fn version<S: Session>(session: &mut S, id: &str) -> Result<Option<Version>, Fault> {
    let versions: Vec<(i64,)> = session.rows(VERSION, &[id.into()]).await?;
    Ok(versions.first().map(|(version,)| Version(*version)))
}

/// Sets the account's version to one more than `before`, so that all statements of a change count as one change.
pub(super) async fn count_as_one<S: Session>(session: &mut S, id: &str, before: Option<Version>) -> Result<(), Fault> {
    let after = before.map_or(FIRST_VERSION.0, |before| before.0 + 1);
    Ok(session.run(SET_VERSION, &[id.into(), after.into()]).await?)
}

/// Registers an affiliate, and returns whether it is new.
pub(super) async fn register_affiliate<S: Session>(
    session: &mut S,
    affiliate: &AffiliateName,
    at: Timestamp,
) -> Result<bool, Fault> {
    let values = [affiliate.as_str().into(), Value::from(at.as_microsecond())];
    let added: Vec<(String,)> = session.rows(REGISTER_AFFILIATE, &values).await?;
    Ok(!added.is_empty())
}

impl<S: Session> Writer<'_, S> {
    async fn create(&mut self, creation: &Creation<'_>) -> Result<(), Fault> {
        let Creation { owner, adopter, settings, key, answered, unknown_affiliate, .. } = creation;
        self.register_affiliate(settings, *unknown_affiliate).await?;
        let name_key = settings.name.comparable();
        let mut values = account_values(&self.id, FIRST_VERSION, settings, &name_key, self.at);
        let owner_part = |part: fn(&Owner) -> &str| Value::from(owner.map(part));
        values.extend([
            owner_part(|owner| owner.cluster.as_str()),
            owner_part(|owner| &owner.namespace),
            owner_part(|owner| &owner.name),
        ]);
        let adopter = adopter.map(ToString::to_string);
        values
            .extend([answered.trigger.as_deref(), answered.annotation.as_deref(), adopter.as_deref()].map(Value::from));
        self.session.run(CREATE, &values).await.map_err(|error| refusal(error, settings))?;
        self.add_parts(settings).await?;
        self.add_existing_key(key).await?;
        let entry = creation.entry();
        self.add_entry(entry.requested_by, entry.action, &entry.changes).await
    }

    async fn update(
        &mut self,
        expected: Version,
        settings: &Settings,
        changes: &[FieldChange],
        unknown_affiliate: UnknownAffiliate,
    ) -> Result<(), Fault> {
        let before = self.before(expected).await?;
        self.register_affiliate(settings, unknown_affiliate).await?;
        let name_key = settings.name.comparable();
        let values = account_values(&self.id, expected, settings, &name_key, self.at);
        let updated = self.session.rows(UPDATE, &values).await.map_err(|error| refusal(error, settings))?;
        exactly_one(&updated)?;
        self.session.run(REMOVE_ROLES, &[self.id.as_str().into()]).await?;
        self.session.run(REMOVE_ALLOWED_IPS, &[self.id.as_str().into()]).await?;
        self.add_parts(settings).await?;
        let was_live = before.retained_at.is_none() && before.deleted_at.is_none();
        self.record(if was_live { "updated" } else { "restored" }, changes).await
    }

    async fn adopt(&mut self, expected: Version, owner: &Owner, answered: &RotationRequests) -> Result<(), Fault> {
        let values = [
            self.id.as_str().into(),
            expected.0.into(),
            self.at.into(),
            owner.cluster.as_str().into(),
            owner.namespace.as_str().into(),
            owner.name.as_str().into(),
            answered.trigger.as_deref().into(),
            answered.annotation.as_deref().into(),
        ];
        let adopted = self.session.rows(ADOPT, &values).await.map_err(conflict_if_unique_violation)?;
        exactly_one(&adopted)?;
        self.record("adopted", &[]).await
    }

    async fn allow_adoption(&mut self, expected: Version, adopter: Option<&Adopter>) -> Result<(), Fault> {
        let before: Vec<(Option<String>,)> = self.session.rows(ADOPTER, &[self.id.as_str().into()]).await?;
        let before = before.into_iter().next().and_then(|(before,)| before);
        let text = adopter.map(ToString::to_string);
        let values = [self.id.as_str().into(), expected.0.into(), self.at.into(), text.as_deref().into()];
        let allowed = self.session.rows(ALLOW_ADOPTION, &values).await?;
        exactly_one(&allowed)?;
        self.record("adoption allowed", &[adopter_change(before.as_deref(), adopter)]).await
    }

    async fn rotate(
        &mut self,
        expected: Version,
        key: &StoredKey,
        old_expires: Option<Timestamp>,
        revoke: &[KeyId],
        answered: &RotationRequests,
    ) -> Result<(), Fault> {
        let values = [
            self.id.as_str().into(),
            expected.0.into(),
            self.at.into(),
            answered.trigger.as_deref().into(),
            answered.annotation.as_deref().into(),
        ];
        let answered = self.session.rows(ANSWER, &values).await?;
        exactly_one(&answered)?;
        let old: Vec<(String,)> = self.session.rows(ACTIVE_KEYS, &[self.id.as_str().into()]).await?;
        if let Some(expires) = old_expires {
            let values = [self.id.as_str().into(), expires.as_microsecond().into()];
            self.session.run(RETIRE_ACTIVE, &values).await?;
        } else {
            let removed = self.session.rows(REMOVE_ACTIVE, &[self.id.as_str().into()]).await?;
            revoked::remember(self.session, &removed, Reason::Revoked, self.at).await?;
        }
        self.remove_retiring(revoke).await?;
        self.add_key(key).await?;
        let old = old.into_iter().map(|(id,)| id).collect::<Vec<_>>().join(", ");
        let mut changes = vec![FieldChange { field: Field::Keys, old, new: key.id.to_string() }];
        changes.extend(revocations(revoke));
        self.record("rotated", &changes).await
    }

    async fn revoke(&mut self, expected: Version, keys: &[KeyId]) -> Result<(), Fault> {
        let touched =
            self.session.rows(NEXT_VERSION, &[self.id.as_str().into(), expected.0.into(), self.at.into()]).await?;
        exactly_one(&touched)?;
        self.remove_retiring(keys).await?;
        self.record("revoked", &revocations(keys)).await
    }

    async fn remove_retiring(&mut self, keys: &[KeyId]) -> Result<(), Fault> {
        for key in keys {
            let key = key.to_string();
            let removed = self.session.rows(REMOVE_RETIRING, &[self.id.as_str().into(), key.as_str().into()]).await?;
            revoked::remember(self.session, &removed, Reason::Revoked, self.at).await?;
        }
        Ok(())
    }

    async fn restore_key(&mut self, expected: Version, key: &StoredKey) -> Result<(), Fault> {
        let touched =
            self.session.rows(NEXT_VERSION, &[self.id.as_str().into(), expected.0.into(), self.at.into()]).await?;
        exactly_one(&touched)?;
        self.add_existing_key(key).await?;
        self.record("restored key", &[]).await
    }

    /// Adds a key pair that may have been in use before, and refuses it if it was revoked.
    async fn add_existing_key(&mut self, key: &StoredKey) -> Result<(), Fault> {
        self.add_key(key).await?;
        revoked::refuse(self.session, &key.api_key).await
    }

    async fn delete(&mut self, expected: Version, confirmed: bool) -> Result<(), Fault> {
        let before = self.before(expected).await?;
        let values = [self.id.as_str().into(), expected.0.into(), self.at.into(), confirmed.into()];
        let deleted = self.session.rows(DELETE, &values).await?;
        exactly_one(&deleted)?;
        let disabled = FieldChange { field: Field::Enabled, old: true.to_string(), new: false.to_string() };
        self.record("deleted", if before.enabled { std::slice::from_ref(&disabled) } else { &[] }).await
    }

    async fn retain(&mut self, expected: Version) -> Result<(), Fault> {
        let retained = self.session.rows(RETAIN, &[self.id.as_str().into(), expected.0.into(), self.at.into()]).await?;
        exactly_one(&retained)?;
        self.record("retained", &[]).await
    }

    async fn before(&mut self, expected: Version) -> Result<Before, Fault> {
        let mut before = self.session.rows(STATE_BEFORE, &[self.id.as_str().into(), expected.0.into()]).await?;
        before.pop().ok_or(Fault::Explained(DatabaseError::Conflict))
    }

    async fn register_affiliate(&mut self, settings: &Settings, unknown: UnknownAffiliate) -> Result<(), Fault> {
        if let (Some(affiliate), UnknownAffiliate::Register) = (&settings.affiliate, unknown) {
            register_affiliate(self.session, affiliate, self.change.at).await?;
        }
        Ok(())
    }

    async fn add_parts(&mut self, settings: &Settings) -> Result<(), Fault> {
        let StoredSettings { roles, allowed_ips, .. } = StoredSettings::from(settings);
        self.add_texts("INSERT INTO account_roles (account_id, role) VALUES ", &roles).await?;
        self.add_texts("INSERT INTO account_allowed_ips (account_id, cidr) VALUES ", &allowed_ips).await
    }

    /// Adds all rows in one statement: `insert` and then `($1, $2), ($1, $3), ...`.
    async fn add_texts(&mut self, insert: &str, texts: &BTreeSet<String>) -> Result<(), Fault> {
        if texts.is_empty() {
            return Ok(());
        }
        let rows: Vec<String> = (2..texts.len() + 2).map(|text| format!("($1, ${text})")).collect();
        let mut values = vec![Value::Text(&self.id)];
        values.extend(texts.iter().map(|text| Value::Text(text)));
        self.session
            .run_built(format!("{insert}{}", rows.join(", ")), &values)
            .await
            .map_err(conflict_if_unique_violation)
    }

    async fn add_key(&mut self, key: &StoredKey) -> Result<(), Fault> {
        let id = key.id.to_string();
        let expires = match key.state {
            KeyState::Active => None,
            KeyState::Retiring { expires } => Some(expires.as_microsecond()),
        };
        let values = [
            id.as_str().into(),
            self.id.as_str().into(),
            key.api_key.as_str().into(),
            key.sealed.bytes.as_slice().into(),
            key.sealed.sealed_with.as_str().into(),
            key.created.as_microsecond().into(),
            expires.into(),
        ];
        self.session.run(ADD_KEY, &values).await.map_err(key_refusal)
    }

    async fn record(&mut self, action: &str, changes: &[FieldChange]) -> Result<(), Fault> {
        let requested_by = self.change.requested_by.as_ref().map(Requester::as_str);
        self.add_entry(requested_by, action, &journal_text(changes)).await
    }

    async fn add_entry(&mut self, requested_by: Option<&str>, action: &str, changes: &str) -> Result<(), Fault> {
        let values = [
            self.id.as_str().into(),
            self.at.into(),
            self.change.actor.as_str().into(),
            self.change.generation.into(),
            requested_by.into(),
            action.into(),
            changes.into(),
        ];
        Ok(self.session.run(ADD_JOURNAL_ENTRY, &values).await?)
    }
}

/// Returns the text of the journal's column `changes`.
pub(super) fn journal_text(changes: &[FieldChange]) -> String {
    let change = |change: &FieldChange| json!({ "field": change.field.as_str(), "old": change.old, "new": change.new });
    changes.iter().map(change).collect::<serde_json::Value>().to_string()
}

/// Returns the parameters `$1` to `$10` of [`CREATE`] and [`UPDATE`].
fn account_values<'a>(
    id: &'a str,
    version: Version,
    settings: &'a Settings,
    name_key: &'a str,
    at: i64,
) -> Vec<Value<'a>> {
    vec![
        id.into(),
        version.0.into(),
        settings.name.as_str().into(),
        name_key.into(),
        settings.description.as_str().into(),
        settings.enabled.into(),
        settings.use_refresh_token.into(),
        settings.affiliate.as_ref().map(AffiliateName::as_str).into(),
        settings.allowed_ips.is_any().into(),
        at.into(),
    ]
}

/// Returns the journal's change of the resources that may adopt the account.
pub(super) fn adopter_change(old: Option<&str>, new: Option<&Adopter>) -> FieldChange {
    let new = new.map(ToString::to_string).unwrap_or_default();
    FieldChange { field: Field::Adopter, old: old.unwrap_or_default().to_owned(), new }
}

/// Returns the journal's changes for key pairs that were removed.
fn revocations(keys: &[KeyId]) -> Vec<FieldChange> {
    keys.iter().map(|key| FieldChange { field: Field::Keys, old: key.to_string(), new: String::new() }).collect()
}

/// Fails with a conflict unless the statement updated exactly the row of the observed version.
fn exactly_one(versions: &[(i64,)]) -> Result<(), DatabaseError> {
    if versions.len() == 1 { Ok(()) } else { Err(DatabaseError::Conflict) }
}

/// Returns why a row of `accounts` was refused, from the constraint that the row violates. PostgreSQL's error names the
/// index, SQLite's the columns.
fn refusal(error: sqlx::Error, settings: &Settings) -> Fault {
    let Some(server) = error.as_database_error() else { return error.into() };
    match (server.kind(), &settings.affiliate) {
        (ErrorKind::UniqueViolation, _)
            if server.constraint() == Some("accounts_live_name") || server.message().ends_with("accounts.name_key") =>
        {
            DatabaseError::NameTaken { name: settings.name.clone() }.into()
        }
        // The affiliate is the only foreign key of `accounts`.
        (ErrorKind::ForeignKeyViolation, Some(affiliate)) => {
            DatabaseError::UnknownAffiliate { affiliate: affiliate.clone() }.into()
        }
        _ => conflict_if_unique_violation(error),
    }
}

/// Returns why the one statement was refused that creates an account with its parts.
pub(in crate::database) fn creation_refusal(error: sqlx::Error, settings: &Settings) -> Fault {
    match error.as_database_error().and_then(sqlx::error::DatabaseError::table) {
        Some("accounts") => refusal(error, settings),
        Some("account_keys") => key_refusal(error),
        _ => conflict_if_unique_violation(error),
    }
}

/// Returns why a row of `account_keys` was refused.
fn key_refusal(error: sqlx::Error) -> Fault {
    let is_taken = error.as_database_error().is_some_and(|server| {
        server.kind() == ErrorKind::UniqueViolation
            && (server.constraint() == Some("account_keys_api_key_key")
                || server.message().ends_with("account_keys.api_key"))
    });
    if is_taken { DatabaseError::KeyTaken.into() } else { conflict_if_unique_violation(error) }
}

/// Returns a conflict for a violated unique constraint: another program added the same row first.
fn conflict_if_unique_violation(error: sqlx::Error) -> Fault {
    match error.as_database_error().map(sqlx::error::DatabaseError::kind) {
        Some(ErrorKind::UniqueViolation) => DatabaseError::Conflict.into(),
        _ => error.into(),
    }
}
