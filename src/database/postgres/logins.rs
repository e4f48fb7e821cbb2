//! Logins on PostgreSQL: most writes are one statement without a transaction around it, concurrent logins begin in one
//! statement, and the server tells what changed about access.

use super::Postgres;
use super::listening::News;
use super::pool::{Pool, WRITE, is_end_of_connection};
use crate::account::{AccountId, Version};
use crate::database::sql::{
    Acceptance, Accepted, Fault, Gathering, Group, Session as _, accept, begin_in_one_statement, begin_many,
};
use crate::login::{AccessChange, Login, LoginId, UsedAssertion};
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

/// A login that begins.
pub(super) struct Beginning {
    login: Login,
    assertion: UsedAssertion,
}

type Began = Result<Accepted, Fault>;

/// The groups of logins that begin together. A commit waits for the disk, so one commit for each would be slow.
pub(super) type Beginnings = Gathering<Beginning, Began>;

impl Postgres {
    /// Writes an acceptance. A new login and an assertion alone are one statement. A refresh is a transaction, because
    /// its assertion must not stay recorded if the login was changed in the meantime.
    pub(super) async fn write_acceptance(&self, acceptance: Acceptance) -> Result<Accepted, Fault> {
        let (mut session, accepted);
        match acceptance {
            Acceptance::Begin { login, assertion } => return self.begin_login(Beginning { login, assertion }).await,
            Acceptance::Nothing { .. } => {
                session = self.pool.single(WRITE).await?;
                accepted = accept(&mut session, &acceptance).await?;
            }
            Acceptance::Refresh { .. } => {
                session = self.pool.begin(WRITE).await?;
                accepted = accept(&mut session, &acceptance).await?;
                if accepted != Accepted::Done {
                    return Ok(accepted);
                }
            }
        }
        session.finish().await?;
        Ok(accepted)
    }

    async fn begin_login(&self, beginning: Beginning) -> Began {
        let pool = self.pool.clone();
        let work = |group: Group<Beginning, Began>| async move {
            let (beginnings, callers): (Vec<_>, Vec<_>) =
                group.take().into_iter().map(|job| (job.job, job.caller)).unzip();
            let answers = begin_all(&pool, &beginnings).await;
            callers.into_iter().zip(answers).for_each(|(caller, answer)| caller.answer(answer));
        };
        self.beginnings.join(beginning, work).await.ok_or(sqlx::Error::WorkerCrashed)?
    }

    /// Notifies each listener, behind the notifications of everything that was committed before.
    pub(super) async fn send_heartbeat(&self, heartbeat: u64) -> Result<(), Fault> {
        let payload = serde_json::json!({ "heartbeat": heartbeat }).to_string();
        let mut session = self.pool.single(WRITE).await?;
        session.run(NOTIFY, &[AccessChange::CHANNEL.into(), payload.as_str().into()]).await?;
        Ok(session.finish().await?)
    }
}

/// Begins the logins of a group. If the server refuses the statement for all of them, each begins by itself, so that one
/// cannot keep the others out.
async fn begin_all(pool: &Pool, beginnings: &[Beginning]) -> Vec<Began> {
    if let [alone] = beginnings {
        return vec![begin_alone(pool, alone).await];
    }
    match begin_together(pool, beginnings).await {
        Ok(accepted) => accepted.into_iter().map(Ok).collect(),
        Err(Fault::Driver(error)) if matches!(*error, sqlx::Error::Database(_)) && !is_end_of_connection(&error) => {
            tracing::debug!(%error, "logins do not begin together, but each by itself");
            let mut began = Vec::with_capacity(beginnings.len());
            for beginning in beginnings {
                began.push(begin_alone(pool, beginning).await);
            }
            began
        }
        Err(fault) => beginnings.iter().map(|_| Err(fault.clone())).collect(),
    }
}

async fn begin_together(pool: &Pool, beginnings: &[Beginning]) -> Result<Vec<Accepted>, Fault> {
    let mut session = pool.single(WRITE).await?;
    let logins = beginnings.iter().map(|beginning| (&beginning.login, &beginning.assertion));
    let began = begin_many(&mut session, logins).await?;
    session.finish().await?;
    let accepted = |beginning: &Beginning| {
        if began.contains(&beginning.login.id.to_string()) { Accepted::Done } else { Accepted::Replay }
    };
    Ok(beginnings.iter().map(accepted).collect())
}

async fn begin_alone(pool: &Pool, beginning: &Beginning) -> Began {
    let mut session = pool.single(WRITE).await?;
    let accepted = begin_in_one_statement(&mut session, &beginning.login, &beginning.assertion).await?;
    session.finish().await?;
    Ok(accepted)
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
