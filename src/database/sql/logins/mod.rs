//! The tables of logins over SQL: live logins, used assertions, and when each key pair was used.

mod accept;
mod rows;
pub(super) mod uses;

pub(in crate::database) use accept::{Acceptance, Accepted, accept, begin_in_one_statement, begin_many};

use super::fault::Fault;
use super::{CALL_TIMEOUT, Dialect, Session, SqlAccounts, Value};
use crate::account::{AccountId, KeyUse};
use crate::database::DatabaseError;
use crate::login::{
    AccessChange, AssertionUse, EndReason, Generations, Login, LoginDatabase, LoginId, RefreshWrite, TokenHash,
    UsedAssertion,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use rows::LoginRow;
use serde_json::json;

/// Builds a query for the logins that fulfil a condition.
macro_rules! logins {
    ($condition:literal) => {
        concat!(
            "SELECT id, account_id, key_id, address, began_at, expires_at, access_hash, access_expires_at, ",
            "refresh_hash, family_seed, previous_access_hash, previous_access_expires_at, previous_refresh_hash, ",
            "ended_at, end_reason FROM logins WHERE ",
            $condition
        )
    };
}

const BY_ID: &str = logins!("id = $1");

const BY_ACCESS_TOKEN: &str = logins!("access_hash = $1 OR previous_access_hash = $1");

const LIVE: &str = logins!("ended_at IS NULL AND expires_at > $1 ORDER BY began_at, id");

const LIVE_OF_ACCOUNT: &str = logins!("account_id = $2 AND ended_at IS NULL AND expires_at > $1 ORDER BY began_at, id");

const END: &str = "UPDATE logins SET ended_at = $2, end_reason = $3 WHERE id = $1 AND ended_at IS NULL RETURNING id";

/// Ends some logins of an account. An account may have very many, and one statement must take only seconds.
const END_SOME: &str = "UPDATE logins SET ended_at = $2, end_reason = $3 WHERE id IN (SELECT id FROM logins \
     WHERE account_id = $1 AND ended_at IS NULL LIMIT $4) AND ended_at IS NULL RETURNING id";

const NOT_ENDED: &str = "SELECT id FROM logins WHERE account_id = $1 AND ended_at IS NULL LIMIT 1";

/// How many logins one statement ends.
const ENDS_AT_ONCE: i64 = 1000;

/// How many uses one statement records.
const USES_AT_ONCE: usize = 1000;

impl<D: Dialect> SqlAccounts<D> {
    async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, DatabaseError> {
        self.answer_at_once(CALL_TIMEOUT, self.dialect.accept(acceptance)).await
    }

    async fn logins(&self, query: &'static str, values: &[Value<'_>]) -> Result<Vec<Login>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<LoginRow> = session.rows(query, values).await?;
            session.finish().await?;
            Ok(rows.into_iter().map(LoginRow::decode).collect::<Result<_, _>>()?)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn any(&self, query: &'static str, values: &[Value<'_>]) -> Result<bool, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<(String,)> = session.rows(query, values).await?;
            session.finish().await?;
            Ok(!rows.is_empty())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    /// Runs one statement that writes, and returns how many rows it answered.
    async fn single(&self, statement: &'static str, values: &[Value<'_>]) -> Result<usize, DatabaseError> {
        let work = async {
            let mut session = self.dialect.single().await?;
            let rows: Vec<(String,)> = session.rows(statement, values).await?;
            session.finish().await?;
            Ok::<_, Fault>(rows.len())
        };
        self.answer(CALL_TIMEOUT, work).await
    }
}

#[async_trait]
impl<D: Dialect> LoginDatabase for SqlAccounts<D> {
    async fn begin(&self, login: &Login, assertion: &UsedAssertion) -> Result<AssertionUse, DatabaseError> {
        let begin = Acceptance::Begin { login: login.clone(), assertion: assertion.clone() };
        Ok(self.accept(begin).await?.into())
    }

    async fn refresh(
        &self,
        login: LoginId,
        expected: &TokenHash,
        next: &Generations,
        assertion: &UsedAssertion,
    ) -> Result<RefreshWrite, DatabaseError> {
        let (next, assertion) = (next.clone(), assertion.clone());
        Ok(self.accept(Acceptance::Refresh { login, expected: *expected, next, assertion }).await?.into())
    }

    async fn use_assertion(&self, assertion: &UsedAssertion) -> Result<AssertionUse, DatabaseError> {
        Ok(self.accept(Acceptance::Nothing { assertion: assertion.clone() }).await?.into())
    }

    async fn find(&self, login: LoginId) -> Result<Option<Login>, DatabaseError> {
        Ok(self.logins(BY_ID, &[login.to_string().as_str().into()]).await?.pop())
    }

    async fn find_by_access_token(&self, token: &TokenHash) -> Result<Option<Login>, DatabaseError> {
        Ok(self.logins(BY_ACCESS_TOKEN, &[token.as_bytes().as_slice().into()]).await?.pop())
    }

    async fn end(&self, login: LoginId, at: Timestamp, reason: EndReason) -> Result<bool, DatabaseError> {
        let login = login.to_string();
        let values = [login.as_str().into(), at.as_microsecond().into(), reason.as_str().into()];
        Ok(self.single(END, &values).await? > 0)
    }

    async fn end_account(&self, account: AccountId, at: Timestamp, reason: EndReason) -> Result<usize, DatabaseError> {
        let account = account.to_string();
        let account = Value::from(account.as_str());
        let values = [account, at.as_microsecond().into(), reason.as_str().into(), ENDS_AT_ONCE.into()];
        let mut ended = 0;
        loop {
            let some = self.single(END_SOME, &values).await?;
            ended += some;
            // A statement may find nothing to end because another call ended the same logins meanwhile.
            if some == 0 && !self.any(NOT_ENDED, &[account]).await? {
                return Ok(ended);
            }
        }
    }

    async fn list(&self, account: Option<AccountId>, now: Timestamp) -> Result<Vec<Login>, DatabaseError> {
        let now = now.as_microsecond().into();
        match account.map(|account| account.to_string()) {
            Some(account) => self.logins(LIVE_OF_ACCOUNT, &[now, account.as_str().into()]).await,
            None => self.logins(LIVE, &[now]).await,
        }
    }

    async fn purge_expired(&self, now: Timestamp, limit: usize) -> Result<usize, DatabaseError> {
        let limit = Value::from(i64::try_from(limit).unwrap_or(i64::MAX));
        let now = now.as_microsecond().into();
        let mut removed = 0;
        for statement in D::PURGE_BY_TIME {
            removed += self.single(statement, &[now, limit]).await?;
        }
        Ok(removed + self.single(D::PURGE_USES, &[limit]).await?)
    }

    async fn record_uses(&self, uses: &[KeyUse]) -> Result<(), DatabaseError> {
        let row =
            |used: &KeyUse| json!([used.key.to_string(), used.first.as_microsecond(), used.last.as_microsecond()]);
        for uses in uses.chunks(USES_AT_ONCE) {
            let listed = uses.iter().map(row).collect::<serde_json::Value>().to_string();
            self.single(D::RECORD_USES, &[listed.as_str().into()]).await?;
        }
        Ok(())
    }

    fn changes(&self) -> BoxStream<'static, AccessChange> {
        self.dialect.access_changes()
    }

    async fn heartbeat(&self, number: u64) -> Result<(), DatabaseError> {
        self.answer(CALL_TIMEOUT, self.dialect.heartbeat(number)).await
    }

    async fn data_version(&self) -> Result<Option<i64>, DatabaseError> {
        self.answer_at_once(CALL_TIMEOUT, self.dialect.data_version()).await
    }

    fn data_version_at_once(&self) -> Option<i64> {
        self.dialect.data_version_at_once()
    }
}
