//! The account database over SQL. The code here serves both databases; [`Dialect`] holds what differs between them.

mod commit;
mod creation;
mod dialect;
mod fault;
mod gathering;
mod journal;
mod logins;
mod migrations;
mod name_keys;
mod purge;
mod read;
mod register;
mod reseal;
mod revoked;
mod rows;
mod sweep;
mod write;

pub(super) use commit::{Answer, ChangeGroup, Committed, make_and_read_back, stored};
pub(super) use creation::Creation;
pub(super) use dialect::{Dialect, ErrorKind, Row, Session, Value, binding, session};
pub(super) use fault::{Fault, said};
pub(super) use gathering::{Gathering, Group};
pub(super) use logins::{Acceptance, Accepted, accept, begin_in_one_statement, begin_many};
pub(super) use migrations::{TABLE as MIGRATIONS_TABLE, apply_missing};
pub(super) use name_keys::{MIGRATION as NAME_KEYS_MIGRATION, renew as renew_name_keys};
pub(super) use read::{Which, select_accounts, which, whole_in_postgres};
pub(super) use rows::{AccountRow, KeyRow, Parts};
pub(super) use write::{apply, creation_refusal};

use super::{
    AccountDatabase, Change, Changed, Changes, DatabaseError, Deletions, IsDeclared, Obstacles, Purged, SweepMark,
};
use crate::account::{Account, AccountId, AccountName, AffiliateName, ApiKey, ClusterId, KeyUse, Owner, Version};
use async_trait::async_trait;
use commit::Commits;
use futures::stream::BoxStream;
use jiff::Timestamp;
use rows::{HolderRow, VersionRow};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a call may take before it fails. Without this limit a call on a half-open connection would never end.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a transaction of many changes may take.
const MANY_WITHIN: Duration = Duration::from_mins(10);

/// How long a migration may take, including the wait for other programs that migrate.
const MIGRATE_WITHIN: Duration = Duration::from_mins(10);

const VERSIONS: &str = "SELECT owner_namespace, owner_name, version FROM accounts WHERE owner_cluster = $1";

/// The account database in an SQL database.
#[derive(Debug)]
pub(super) struct SqlAccounts<D> {
    dialect: Arc<D>,
    /// One permit for each call or group of calls that may run at a time. A wait for a permit is no failure, so no time
    /// limit includes it.
    turns: Arc<Semaphore>,
    commits: Commits,
}

impl<D: Dialect> SqlAccounts<D> {
    pub fn new(dialect: D) -> Self {
        let turns = Arc::new(Semaphore::new(dialect.at_a_time()));
        Self { dialect: Arc::new(dialect), turns, commits: Commits::new() }
    }

    async fn all(&self, which: &read::Which, values: &[Value<'_>]) -> Result<Vec<Account>, Fault> {
        let mut session = self.dialect.read().await?;
        let accounts = read::all(&mut session, which, values).await?;
        session.finish().await?;
        Ok(accounts)
    }

    async fn each(
        &self,
        which: &read::Which,
        values: &[Value<'_>],
    ) -> Result<Vec<Result<Account, DatabaseError>>, Fault> {
        let mut session = self.dialect.read().await?;
        let accounts = read::each(&mut session, which, values).await?;
        session.finish().await?;
        Ok(accounts)
    }

    async fn texts(&self, statement: &'static str) -> Result<BTreeSet<String>, Fault> {
        let mut session = self.dialect.read().await?;
        let texts: Vec<(String,)> = session.rows(statement, &[]).await?;
        session.finish().await?;
        Ok(texts.into_iter().map(|(text,)| text).collect())
    }
}

#[async_trait]
impl<D: Dialect> AccountDatabase for SqlAccounts<D> {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        let values = [owner.cluster.as_str().into(), owner.namespace.as_str().into(), owner.name.as_str().into()];
        self.answer(CALL_TIMEOUT, self.dialect.find(&read::BY_OWNER, &values)).await
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        let listed = listed(owners);
        self.answer(CALL_TIMEOUT, self.all(&D::BY_OWNERS, &[listed.as_str().into()])).await
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.dialect.find(&read::BY_NAME, &[name.comparable().as_str().into()])).await
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.dialect.find(&read::BY_ID, &[id.to_string().as_str().into()])).await
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.dialect.find(&read::BY_API_KEY, &[api_key.as_str().into()])).await
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        let names = names.iter().map(AccountName::comparable).collect::<serde_json::Value>().to_string();
        let api_keys = api_keys.iter().map(ApiKey::as_str).collect::<serde_json::Value>().to_string();
        let values = [names.as_str().into(), api_keys.as_str().into()];
        self.answer(CALL_TIMEOUT, self.all(&D::HOLDERS, &values)).await
    }

    async fn find_obstacles(
        &self,
        names: &[AccountName],
        affiliates: &[AffiliateName],
    ) -> Result<Obstacles, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let mut found = Obstacles::default();
            if !names.is_empty() {
                let names = names.iter().map(AccountName::comparable).collect::<serde_json::Value>().to_string();
                let rows: Vec<HolderRow> = session.rows(D::NAMES, &[names.as_str().into()]).await?;
                found.names = rows.into_iter().map(HolderRow::read).collect();
            }
            if !affiliates.is_empty() {
                let names = affiliates.iter().map(AffiliateName::as_str).collect::<serde_json::Value>().to_string();
                let rows: Vec<(String,)> = session.rows(D::AFFILIATES, &[names.as_str().into()]).await?;
                found.affiliates = rows.into_iter().map(|(name,)| name).collect();
            }
            session.finish().await?;
            Ok(found)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn answers(&self) -> Result<(), DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            session.run("SELECT 1", &[]).await?;
            session.finish().await?;
            Ok(())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.all(&read::BY_CLUSTER, &[cluster.as_str().into()])).await
    }

    async fn find_readable(&self, owners: &[Owner]) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        let listed = listed(owners);
        self.answer(CALL_TIMEOUT, self.each(&D::BY_OWNERS, &[listed.as_str().into()])).await
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let rows: Vec<VersionRow> = session.rows(VERSIONS, &[cluster.as_str().into()]).await?;
            session.finish().await?;
            Ok(rows.into_iter().map(|row| row.of(cluster)).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn versions_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let versions = sweep::versions_after(&mut session, cluster, after, limit).await?;
            session.finish().await?;
            Ok(versions)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn changes_since(&self, cluster: &ClusterId, since: Option<&SweepMark>) -> Result<Changes, DatabaseError> {
        let Some(query) = D::CHANGES else {
            let commit = self.answer(CALL_TIMEOUT, self.dialect.data_version()).await?;
            return Ok(commit.map_or_else(Changes::unknown, |commit| sweep::by_commit(commit, since)));
        };
        let work = async {
            let mut session = self.dialect.read().await?;
            let changes = sweep::changes(&mut session, query, cluster, since).await?;
            session.finish().await?;
            Ok(changes)
        };
        let mut changes = self.answer(CALL_TIMEOUT, work).await?;
        // Asked after the changes: if the database was replaced in between, they are not believed.
        let history = self.history().await?;
        if history.is_none() {
            return Ok(Changes::unknown());
        }
        if since.is_some_and(|since| since.history != history) {
            changes.accounts = None;
        }
        changes.mark = changes.mark.map(|mark| SweepMark { history, ..mark });
        Ok(changes)
    }

    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let uses = logins::uses::of_cluster(&mut session, cluster).await?;
            session.finish().await?;
            Ok(uses)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        self.dialect.changes()
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        self.commit_in_group(change).await
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        const LIVE: &str = "SELECT owner_namespace, owner_name FROM accounts \
             WHERE owner_cluster = $1 AND deleted_at IS NULL AND retained_at IS NULL";
        let work = async {
            let mut session = self.dialect.read().await?;
            let names: Vec<(String, String)> = session.rows(LIVE, &[cluster.as_str().into()]).await?;
            session.finish().await?;
            let owner = |(namespace, name)| Owner { cluster: cluster.clone(), namespace, name };
            Ok(names.into_iter().map(owner).collect())
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn live_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<Owner>, DatabaseError> {
        let work = async {
            let mut session = self.dialect.read().await?;
            let owners = sweep::live_after(&mut session, cluster, after, limit).await?;
            session.finish().await?;
            Ok(owners)
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        const DELETIONS: &str = "SELECT count(*) FILTER (WHERE deleted_at IS NULL AND retained_at IS NULL), \
             count(*) FILTER (WHERE deleted_at >= $2 AND NOT deletion_confirmed) FROM accounts WHERE owner_cluster = $1";
        let work = async {
            let mut session = self.dialect.read().await?;
            let values = [cluster.as_str().into(), since.as_microsecond().into()];
            let counts: Vec<(i64, i64)> = session.rows(DELETIONS, &values).await?;
            session.finish().await?;
            let (live, deleted) = counts.first().copied().unwrap_or_default();
            let count = |count: i64| usize::try_from(count).unwrap_or_default();
            Ok(Deletions { live: count(live), deleted: count(deleted) })
        };
        self.answer(CALL_TIMEOUT, work).await
    }

    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        let due = async {
            let mut session = self.dialect.read().await?;
            let due = purge::due(&mut session, cluster, is_declared, deleted_before).await?;
            session.finish().await?;
            Ok(due)
        };
        let due = self.answer(CALL_TIMEOUT, due).await?;
        let mut purged = Purged::default();
        let mut batches: VecDeque<&[purge::Due]> = due.chunks(purge::BATCH).collect();
        while let Some(batch) = batches.pop_front() {
            let work = async {
                let mut session = self.dialect.write().await?;
                let purged = purge::purge(&mut session, batch, deleted_before, at).await?;
                session.finish().await?;
                Ok(purged)
            };
            match (self.answer(CALL_TIMEOUT, work).await, batch) {
                (Ok(accounts), _) => purged.accounts += accounts,
                (Err(DatabaseError::Refused { reason }), [alone]) => purged.refused.push(alone.refused(reason)),
                // The database refuses one account of the batch. Smaller batches separate it from the others.
                (Err(DatabaseError::Refused { .. }), _) => {
                    let (first, second) = batch.split_at(batch.len() / 2);
                    batches.push_front(second);
                    batches.push_front(first);
                }
                (Err(error), _) => return Err(error),
            }
        }
        Ok(purged)
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.texts("SELECT name FROM affiliates")).await
    }

    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        let ends = async {
            let mut session = self.dialect.read().await?;
            let ends = journal::ends(&mut session).await?;
            session.finish().await?;
            Ok(ends)
        };
        let mut removed = 0;
        for after in journal::steps(self.answer(CALL_TIMEOUT, ends).await?) {
            let work = async {
                let mut session = self.dialect.write().await?;
                let removed = journal::trim(&mut session, after, before).await?;
                session.finish().await?;
                Ok(removed)
            };
            removed += self.answer(CALL_TIMEOUT, work).await?;
        }
        Ok(removed)
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        Ok(self.answer(CALL_TIMEOUT, self.texts("SELECT id FROM database_identity")).await?.pop_first())
    }

    async fn history(&self) -> Result<Option<String>, DatabaseError> {
        let Some(statement) = D::HISTORY else { return Ok(None) };
        match self.answer(CALL_TIMEOUT, self.texts(statement)).await {
            Ok(mut histories) => Ok(histories.pop_first()),
            // Some managed servers do not allow the question.
            Err(DatabaseError::Refused { reason }) => {
                tracing::debug!(%reason, "the account database does not tell which history it continues");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        let by_hash: HashMap<String, &ApiKey> = api_keys.iter().map(|key| (revoked::hash(key.as_str()), key)).collect();
        let listed = by_hash.keys().map(String::as_str).collect::<serde_json::Value>().to_string();
        let work = async {
            let mut session = self.dialect.read().await?;
            let found: Vec<(String,)> = session.rows(D::REVOKED, &[listed.as_str().into()]).await?;
            session.finish().await?;
            Ok(found)
        };
        let found = self.answer(CALL_TIMEOUT, work).await?;
        Ok(found.iter().filter_map(|(hash,)| by_hash.get(hash)).map(|key| (*key).clone()).collect())
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.texts("SELECT DISTINCT sealed_with FROM account_keys")).await
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        self.answer(CALL_TIMEOUT, self.pending()).await
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        let work = async {
            if !self.pending().await?.is_empty() {
                self.dialect.migrate().await?;
            }
            Ok(())
        };
        self.answer(MIGRATE_WITHIN, work).await
    }

    async fn close(&self) {
        self.dialect.close().await;
    }
}

/// Returns a JSON list of lists of cluster, namespace and name.
fn listed(owners: &[Owner]) -> String {
    let parts = owners.iter().map(|owner| [owner.cluster.as_str(), &owner.namespace, &owner.name]);
    parts.map(Vec::from).collect::<serde_json::Value>().to_string()
}
