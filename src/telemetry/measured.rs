//! Wraps an account database and counts each call and its errors in the metrics.

use super::Metrics;
use crate::account::{Account, AccountId, AccountName, AffiliateName, ApiKey, ClusterId, Owner, Version};
use crate::database::{AccountDatabase, Change, Changed, DatabaseError, Deletions, IsDeclared, Obstacles, Purged};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// An account database whose calls are counted.
#[derive(Debug)]
pub struct MeasuredDatabase {
    /// The database that does the calls.
    pub database: Arc<dyn AccountDatabase>,
    /// The metrics in which the calls are counted.
    pub metrics: Arc<Metrics>,
}

impl MeasuredDatabase {
    fn count<T>(&self, answer: Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        self.metrics.database(answer.as_ref().err());
        answer
    }
}

#[async_trait]
impl AccountDatabase for MeasuredDatabase {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        self.count(self.database.find_by_owner(owner).await)
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        self.count(self.database.find_by_owners(owners).await)
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        self.count(self.database.find_by_name(name).await)
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        self.count(self.database.find_by_id(id).await)
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        self.count(self.database.find_by_api_key(api_key).await)
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        self.count(self.database.find_holders(names, api_keys).await)
    }

    async fn find_obstacles(
        &self,
        names: &[AccountName],
        affiliates: &[AffiliateName],
    ) -> Result<Obstacles, DatabaseError> {
        self.count(self.database.find_obstacles(names, affiliates).await)
    }

    async fn answers(&self) -> Result<(), DatabaseError> {
        self.count(self.database.answers().await)
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        self.count(self.database.list_by_cluster(cluster).await)
    }

    async fn list_readable(&self, cluster: &ClusterId) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        self.count(self.database.list_readable(cluster).await)
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.count(self.database.versions(cluster).await)
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        self.database.changes()
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        self.count(self.database.commit(change).await)
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        self.count(self.database.live(cluster).await)
    }

    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        self.count(self.database.deletions(cluster, since).await)
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.count(self.database.affiliates().await)
    }

    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        self.count(self.database.purge(cluster, is_declared, deleted_before, at).await)
    }

    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        self.count(self.database.trim_journal(before).await)
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        self.count(self.database.identity().await)
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        self.count(self.database.revoked(api_keys).await)
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.count(self.database.sealing_keys_in_use().await)
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        self.count(self.database.pending_migrations().await)
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        self.count(self.database.migrate().await)
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
