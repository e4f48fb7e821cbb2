//! Wraps an account database and counts each call, its duration and its errors in the metrics.

use super::Metrics;
use super::calls::DatabaseCall;
use super::traces::{self, Call, Ending};
use crate::account::{Account, AccountId, AccountName, AffiliateName, ApiKey, ClusterId, KeyUse, Owner, Version};
use crate::database::{
    AccountDatabase, Change, Changed, Changes, DatabaseError, Deletions, IsDeclared, Obstacles, Purged, SweepMark,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// An account database whose calls are counted.
#[derive(Debug)]
pub struct MeasuredDatabase {
    /// The database that does the calls.
    pub database: Arc<dyn AccountDatabase>,
    /// The metrics in which the calls are counted.
    pub metrics: Arc<Metrics>,
}

impl MeasuredDatabase {
    async fn count<T>(
        &self,
        call: DatabaseCall,
        answer: impl Future<Output = Result<T, DatabaseError>> + Send,
    ) -> Result<T, DatabaseError> {
        let started = Instant::now();
        let ending = |answer: &Result<T, DatabaseError>| Ending {
            failure: answer.as_ref().err().map(ToString::to_string),
            ..Ending::default()
        };
        let answer = traces::call(Call::Database(call), answer, ending).await;
        self.metrics.database(call, answer.as_ref().err(), started.elapsed());
        answer
    }
}

#[async_trait]
impl AccountDatabase for MeasuredDatabase {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_by_owner(owner)).await
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_by_owners(owners)).await
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_by_name(name)).await
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_by_id(id)).await
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_by_api_key(api_key)).await
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_holders(names, api_keys)).await
    }

    async fn find_obstacles(
        &self,
        names: &[AccountName],
        affiliates: &[AffiliateName],
    ) -> Result<Obstacles, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.find_obstacles(names, affiliates)).await
    }

    async fn answers(&self) -> Result<(), DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.answers()).await
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.list_by_cluster(cluster)).await
    }

    async fn find_readable(&self, owners: &[Owner]) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.find_readable(owners)).await
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.versions(cluster)).await
    }

    async fn versions_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.versions_after(cluster, after, limit)).await
    }

    async fn changes_since(&self, cluster: &ClusterId, since: Option<&SweepMark>) -> Result<Changes, DatabaseError> {
        self.count(DatabaseCall::List, self.database.changes_since(cluster, since)).await
    }

    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.key_uses(cluster)).await
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        self.database.changes()
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        self.count(DatabaseCall::Commit, self.database.commit(change)).await
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.live(cluster)).await
    }

    async fn live_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<Owner>, DatabaseError> {
        self.count(DatabaseCall::List, self.database.live_after(cluster, after, limit)).await
    }

    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        self.count(DatabaseCall::List, self.database.deletions(cluster, since)).await
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.affiliates()).await
    }

    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.purge(cluster, is_declared, deleted_before, at)).await
    }

    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.trim_journal(before)).await
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.identity()).await
    }

    async fn history(&self) -> Result<Option<String>, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.history()).await
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        self.count(DatabaseCall::Read, self.database.revoked(api_keys)).await
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.sealing_keys_in_use()).await
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.pending_migrations()).await
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        self.count(DatabaseCall::Maintain, self.database.migrate()).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
