//! What is known now about a token or an API key: from memory if that is certainly not older than a second, else from the database.

use super::access_cache::{AccessCache, Ticket};
use super::metrics::Metrics;
use crate::account::{Account, AccountId, ApiKey};
use crate::database::{DatabaseError, WithLogins};
use crate::login::{AccessChange, KnownAccount, Login, LoginId, TokenHash};
use jiff::Timestamp;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// How long the last heartbeat may be ago for an answer from memory to count.
pub(super) const FRESH_FOR: Duration = Duration::from_secs(1);

/// How long the database may take. A proxy must get an answer before it gives up.
const READ_WITHIN: Duration = Duration::from_secs(3);

/// Answers what is known about tokens.
pub(super) struct CurrentAccess {
    database: WithLogins,
    /// Whether the database tells changes. One that tells none has a number of its last commit instead.
    is_told: bool,
    cache: Mutex<AccessCache>,
    /// When the last heartbeat that came back was sent. Everything that was committed before it has been heard.
    heartbeat: Mutex<Option<Instant>>,
    metrics: Arc<Metrics>,
}

/// A login and its account; each `None` if the database has none.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub login: Option<Arc<Login>>,
    pub account: Option<Arc<KnownAccount>>,
}

impl CurrentAccess {
    pub fn new(database: WithLogins, is_told: bool, metrics: Arc<Metrics>) -> Self {
        Self { database, is_told, cache: Mutex::new(AccessCache::new()), heartbeat: Mutex::default(), metrics }
    }

    /// Returns the login that has this token, and its account.
    ///
    /// # Errors
    /// The state is not known: the database does not answer, or an entry cannot be read.
    pub async fn of_token(&self, token: &TokenHash, now: Timestamp) -> Result<Known, DatabaseError> {
        if self.is_memory_current()
            && let Some((login, Some(account))) = self.kept(token, now)
        {
            self.metrics.cache_hits.inc();
            return Ok(Known { login: Some(login), account: Some(account) });
        }
        in_time(self.read(token, now)).await
    }

    /// Returns the account that has this API key.
    ///
    /// # Errors
    /// As [`Self::of_token`].
    pub async fn of_api_key(&self, api_key: &ApiKey) -> Result<Option<Arc<KnownAccount>>, DatabaseError> {
        in_time(async {
            let (may_use_memory, asked) = self.begin().await?;
            let kept = if may_use_memory { self.cache().account_with(api_key) } else { None };
            if kept.is_some() {
                return Ok(kept);
            }
            let account = self.database.accounts.find_by_api_key(api_key).await?.map(kept_account);
            if let Some(account) = &account {
                self.cache().keep_account(Arc::clone(account), asked);
            }
            Ok(account)
        })
        .await
    }

    /// Returns the ticket for a login that begins now, for [`Self::began`].
    pub fn ticket(&self) -> Ticket {
        self.cache().ticket()
    }

    /// Keeps a login that this server has just recorded, so that the first use of its token reads nothing.
    pub fn began(&self, token: TokenHash, login: Login, ticket: Ticket) {
        self.keep_login(token, login, ticket);
    }

    async fn read(&self, token: &TokenHash, now: Timestamp) -> Result<Known, DatabaseError> {
        let (may_use_memory, asked) = self.begin().await?;
        let kept = if may_use_memory { self.kept(token, now) } else { None };
        if let Some((login, Some(account))) = kept {
            self.metrics.cache_hits.inc();
            return Ok(Known { login: Some(login), account: Some(account) });
        }
        self.metrics.cache_misses.inc();
        let login = match kept {
            Some((login, _)) => login,
            None => match self.database.logins.find_by_access_token(token).await? {
                Some(login) => self.keep_login(*token, login, asked),
                None => return Ok(Known { login: None, account: None }),
            },
        };
        let account = self.database.accounts.find_by_id(login.account).await?.map(kept_account);
        if let Some(account) = &account {
            self.cache().keep_account(Arc::clone(account), asked);
        }
        Ok(Known { login: Some(login), account })
    }

    /// Returns whether memory may be used now, and the ticket for loads that begin now.
    async fn begin(&self) -> Result<(bool, Ticket), DatabaseError> {
        if !self.is_told
            && let Some(version) = self.database.logins.data_version().await?
        {
            let mut cache = self.cache();
            cache.is_at(version);
            return Ok((true, cache.ticket()));
        }
        Ok((self.is_fresh(), self.cache().ticket()))
    }

    /// Returns whether it is known without waiting that memory may be used now.
    fn is_memory_current(&self) -> bool {
        if self.is_told {
            return self.is_fresh();
        }
        let version = self.database.logins.data_version_at_once();
        if let Some(version) = version {
            self.cache().is_at(version);
        }
        version.is_some()
    }

    /// Returns whether the last heartbeat is young enough for memory to be used.
    fn is_fresh(&self) -> bool {
        self.heartbeat_age().is_some_and(|age| age < FRESH_FOR)
    }

    /// Returns the login in memory, with its account if that is in memory too. A token that has expired is read again,
    /// because a repeated refresh may have moved its end.
    fn kept(&self, token: &TokenHash, now: Timestamp) -> Option<(Arc<Login>, Option<Arc<KnownAccount>>)> {
        let cache = self.cache();
        let login = cache.login(token).filter(|login| login.access_token(token).is_some_and(|it| it.expires > now))?;
        let account = cache.account(login.account);
        Some((login, account))
    }

    fn keep_login(&self, token: TokenHash, login: Login, asked: Ticket) -> Arc<Login> {
        let login = Arc::new(login);
        self.cache().keep_login(token, Arc::clone(&login), asked);
        login
    }

    /// Notes a change that this server made itself, before the database tells it.
    pub fn login_ended(&self, login: LoginId) {
        self.cache().login_changed(login);
    }

    /// Notes what the database tells. Heartbeats are for [`Self::heard`].
    pub fn changed(&self, change: AccessChange) {
        match change {
            AccessChange::Account { id, .. } => self.account_changed(id),
            AccessChange::Login(id) => self.login_ended(id),
            AccessChange::Everything => self.cache().everything_changed(),
            AccessChange::Heartbeat(_) => {}
        }
    }

    fn account_changed(&self, account: AccountId) {
        self.cache().account_changed(account);
    }

    /// Notes that the heartbeat that was sent at this time has come back.
    pub fn heard(&self, sent: Instant) {
        let mut last = self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Some(last.map_or(sent, |last| last.max(sent)));
    }

    /// Returns how long ago the last heartbeat that came back was sent; `None` if none has come back.
    pub fn heartbeat_age(&self) -> Option<Duration> {
        let last = *self.heartbeat.lock().unwrap_or_else(PoisonError::into_inner);
        last.map(|sent| sent.elapsed())
    }

    /// The number of tokens in memory.
    pub fn tokens_in_memory(&self) -> usize {
        self.cache().tokens()
    }

    fn cache(&self) -> MutexGuard<'_, AccessCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for CurrentAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CurrentAccess").finish_non_exhaustive()
    }
}

fn kept_account(account: Account) -> Arc<KnownAccount> {
    Arc::new(KnownAccount::new(account))
}

/// Limits the time that the database may take.
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
    let answer = timeout(READ_WITHIN, answer).await;
    answer.unwrap_or_else(|_| Err(DatabaseError::Unavailable { reason: "it did not answer in time".to_owned() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::samples;
    use crate::database::{open, open_with_logins};

    #[tokio::test]
    async fn memory_counts_only_while_a_database_that_tells_changes_is_heard() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("a.db").display());
        let owner = open(url.as_str()).unwrap();
        owner.migrate().await.unwrap();
        let access = CurrentAccess::new(open_with_logins(url.as_str()).unwrap(), true, Arc::new(Metrics::new()));
        // Only memory has this account.
        let account = kept_account(samples::account());
        let api_key = &account.keys[0].api_key;
        let ticket = access.ticket();
        access.cache().keep_account(Arc::clone(&account), ticket);
        assert_eq!(access.of_api_key(api_key).await.unwrap(), None, "nothing was heard yet");
        access.heard(Instant::now());
        assert_eq!(access.of_api_key(api_key).await.unwrap().as_deref(), Some(&*account));
        access.account_changed(account.id);
        assert_eq!(access.of_api_key(api_key).await.unwrap(), None, "it has changed");
    }
}
