//! Logins on PostgreSQL: most writes are one statement without a transaction around it, and the server tells what
//! changed about access.

use super::Postgres;
use super::listening::News;
use super::pool::WRITE;
use crate::account::{AccountId, Version};
use crate::database::sql::{Acceptance, Accepted, Fault, Session as _, accept, begin_in_one_statement};
use crate::login::{AccessChange, LoginId};
use serde::{Deserialize, Serialize};

const NOTIFY: &str = "SELECT pg_notify($1, $2)::text";

/// The JSON of a notification: of an account or a login as the triggers of the migration write it, or of a heartbeat.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Payload {
    Account { account: String, version: Option<i64> },
    Login { login: String },
    Heartbeat { heartbeat: u64 },
}

impl Postgres {
    /// Writes an acceptance. A new login and an assertion alone are one statement. A refresh is a transaction, because
    /// its assertion must not stay recorded if the login was changed in the meantime.
    pub(super) async fn write_acceptance(&self, acceptance: &Acceptance) -> Result<Accepted, Fault> {
        let (mut session, accepted);
        match acceptance {
            Acceptance::Begin { login, assertion } => {
                session = self.pool.single(WRITE).await?;
                accepted = begin_in_one_statement(&mut session, login, assertion).await?;
            }
            Acceptance::Nothing { .. } => {
                session = self.pool.single(WRITE).await?;
                accepted = accept(&mut session, acceptance).await?;
            }
            Acceptance::Refresh { .. } => {
                session = self.pool.begin(WRITE).await?;
                accepted = accept(&mut session, acceptance).await?;
                if accepted != Accepted::Done {
                    return Ok(accepted);
                }
            }
        }
        session.finish().await?;
        Ok(accepted)
    }

    /// Notifies each listener, behind the notifications of everything that was committed before.
    pub(super) async fn send_heartbeat(&self, heartbeat: u64) -> Result<(), Fault> {
        let payload = serde_json::json!({ "heartbeat": heartbeat }).to_string();
        let mut session = self.pool.single(WRITE).await?;
        session.run(NOTIFY, &[AccessChange::CHANNEL.into(), payload.as_str().into()]).await?;
        Ok(session.finish().await?)
    }
}

impl News for AccessChange {
    const CHANNEL: &'static str = "opsadmin_access";

    fn anything() -> Self {
        Self::Everything
    }

    fn read(payload: &str) -> Self {
        let change = match serde_json::from_str(payload) {
            Ok(Payload::Account { account, version }) => {
                AccountId::parse(&account).map(|id| Self::Account { id, version: version.map(Version) })
            }
            Ok(Payload::Login { login }) => LoginId::parse(&login).map(Self::Login),
            Ok(Payload::Heartbeat { heartbeat }) => Some(Self::Heartbeat(heartbeat)),
            Err(_) => None,
        };
        change.unwrap_or(Self::Everything)
    }

    fn silence(reason: String) -> Option<Self> {
        tracing::warn!("cannot hear of changes of the account database, so that each request reads it: {reason}");
        None
    }
}
