//! Creates accounts in one statement: accounts, roles, addresses, key pairs and journal entries, and the affiliates that
//! are to be registered.

use super::pool::PgSession;
use crate::account::{AffiliateName, KeyState, Owner, StoredKey, StoredSettings};
use crate::database::UnknownAffiliate;
use crate::database::sql::{Creation, Session as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::collections::HashSet;

/// Builds the statement. `$1`: a JSON list of [`row`]. It answers the ids of the accounts that it created.
///
/// An account that is not inserted gets no rows in the other tables either. Foreign keys are checked at the end of the
/// statement. Each program inserts in the same order, so that no two wait for each other.
macro_rules! create {
    ($if_taken:literal) => {
        concat!(
            "WITH new AS MATERIALIZED (SELECT * FROM json_to_recordset($1::json) AS new (id TEXT, name TEXT, ",
            "name_key TEXT, description TEXT, enabled BOOLEAN, use_refresh_token BOOLEAN, affiliate TEXT, ",
            "registers BOOLEAN, roles JSON, any_ip BOOLEAN, allowed_ips JSON, at BIGINT, owner_cluster TEXT, ",
            "owner_namespace TEXT, owner_name TEXT, answered_trigger TEXT, answered_annotation TEXT, adopter TEXT, ",
            "pair_id TEXT, api_key TEXT, sealed TEXT, sealed_with TEXT, pair_created_at BIGINT, expires_at BIGINT, ",
            "actor TEXT, generation BIGINT, requested_by TEXT, action TEXT, changes TEXT)), ",
            "inserted AS (INSERT INTO accounts (id, version, name, name_key, description, enabled, use_refresh_token, ",
            "affiliate, any_ip, updated_at, created_at, owner_cluster, owner_namespace, owner_name, answered_trigger, ",
            "answered_annotation, adopter) SELECT id, 1, name, name_key, description, enabled, use_refresh_token, ",
            "affiliate, any_ip, at, at, owner_cluster, owner_namespace, owner_name, answered_trigger, ",
            "answered_annotation, adopter FROM new ORDER BY name_key",
            $if_taken,
            " RETURNING id), ",
            "made AS MATERIALIZED (SELECT new.* FROM new JOIN inserted USING (id)), ",
            "registered AS (INSERT INTO affiliates (name, created_at) SELECT affiliate, min(at) FROM made ",
            "WHERE registers GROUP BY affiliate ORDER BY affiliate ON CONFLICT (name) DO NOTHING), ",
            "roles AS (INSERT INTO account_roles (account_id, role) ",
            "SELECT id, json_array_elements_text(roles) FROM made), ",
            "allowed_ips AS (INSERT INTO account_allowed_ips (account_id, cidr) ",
            "SELECT id, json_array_elements_text(allowed_ips) FROM made), ",
            "pairs AS (INSERT INTO account_keys (id, account_id, api_key, secret_key_sealed, sealed_with, created_at, ",
            "expires_at) SELECT pair_id, id, api_key, decode(sealed, 'base64'), sealed_with, pair_created_at, ",
            "expires_at FROM made), ",
            "entries AS (INSERT INTO account_journal (account_id, at, actor, generation, requested_by, action, changes) ",
            "SELECT id, at, actor, generation, requested_by, action, changes FROM made) ",
            "SELECT id FROM made"
        )
    };
}

/// Refuses everything if a name, an owner or an id is taken.
const CREATE: &str = create!("");

/// Leaves out the accounts whose name, owner or id is taken.
const CREATE_THE_FREE: &str = create!(" ON CONFLICT DO NOTHING");

/// Creates an account. The error tells which constraint refuses it.
pub(super) async fn create(session: &mut PgSession, creation: &Creation<'_>) -> Result<(), sqlx::Error> {
    insert(session, CREATE, std::slice::from_ref(creation)).await.map(drop)
}

/// Creates the accounts whose names, owners and ids are free, and returns their ids.
pub(super) async fn create_the_free(
    session: &mut PgSession,
    creations: &[Creation<'_>],
) -> Result<HashSet<String>, sqlx::Error> {
    insert(session, CREATE_THE_FREE, creations).await
}

async fn insert(
    session: &mut PgSession,
    statement: &'static str,
    creations: &[Creation<'_>],
) -> Result<HashSet<String>, sqlx::Error> {
    let rows = creations.iter().map(row).collect::<Value>().to_string();
    let created: Vec<(String,)> = session.rows(statement, &[rows.as_str().into()]).await?;
    Ok(created.into_iter().map(|(id,)| id).collect())
}

/// Returns everything that the statement stores of a creation.
fn row(creation: &Creation<'_>) -> Value {
    let Creation { change, owner, adopter, settings, key, answered, unknown_affiliate } = creation;
    let StoredKey { id: pair, api_key, state, created, sealed } = key;
    let stored = StoredSettings::from(*settings);
    let expires = match state {
        KeyState::Active => None,
        KeyState::Retiring { expires } => Some(expires.as_microsecond()),
    };
    let entry = creation.entry();
    let owner_part = |part: fn(&Owner) -> &str| owner.map(part);
    json!({
        "id": change.account.to_string(),
        "name": stored.name,
        "name_key": settings.name.comparable(),
        "description": stored.description,
        "enabled": stored.enabled,
        "use_refresh_token": stored.use_refresh_token,
        "affiliate": settings.affiliate.as_ref().map(AffiliateName::as_str),
        "registers": settings.affiliate.is_some() && *unknown_affiliate == UnknownAffiliate::Register,
        "roles": stored.roles,
        "any_ip": stored.any_ip,
        "allowed_ips": stored.allowed_ips,
        "at": change.at.as_microsecond(),
        "owner_cluster": owner_part(|owner| owner.cluster.as_str()),
        "owner_namespace": owner_part(|owner| &owner.namespace),
        "owner_name": owner_part(|owner| &owner.name),
        "answered_trigger": answered.trigger,
        "answered_annotation": answered.annotation,
        "adopter": adopter.map(ToString::to_string),
        "pair_id": pair.to_string(),
        "api_key": api_key.as_str(),
        "sealed": STANDARD.encode(&sealed.bytes),
        "sealed_with": sealed.sealed_with,
        "pair_created_at": created.as_microsecond(),
        "expires_at": expires,
        "actor": change.actor,
        "generation": change.generation,
        "requested_by": entry.requested_by,
        "action": entry.action,
        "changes": entry.changes,
    })
}
