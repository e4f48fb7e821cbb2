//! An account database that is changed only while this process leads and is not frozen.

use super::fence::Leadership;
use crate::account::{Account, AccountId, AccountName, AffiliateName, ApiKey, ClusterId, KeyUse, Owner, Version};
use crate::controller::freeze::Freeze;
use crate::database::{
    AccountDatabase, Change, Changed, Changes, DatabaseError, Deletions, IsDeclared, Obstacles, Purged, SweepMark,
};
use async_trait::async_trait;
use futures::stream::BoxStream;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// The account database behind the fence and the freeze. Reads pass in any case.
///
/// The fence compares the clock before each step of a transaction, so also before `COMMIT`. A `COMMIT` that was sent
/// before the end of the leadership may take effect after it. The database's constraints keep that harmless: the rows
/// are locked until then, and a later change of the same account is refused as a conflict and observes again.
#[derive(Debug)]
pub(in crate::controller) struct FencedDatabase {
    /// The database that does the calls.
    pub database: Arc<dyn AccountDatabase>,
    /// Whether this process leads.
    pub leadership: Leadership,
    /// Whether the controller is frozen.
    pub freeze: Freeze,
}

impl FencedDatabase {
    async fn write<T>(&self, work: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
        if let Err(frozen) = self.freeze.permits_change() {
            return Err(DatabaseError::Unavailable { reason: frozen.to_string() });
        }
        match self.leadership.guard(work).await {
            Ok(done) => done,
            Err(not_leading) => Err(DatabaseError::Unavailable { reason: not_leading.to_string() }),
        }
    }
}

#[async_trait]
impl AccountDatabase for FencedDatabase {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        self.database.find_by_owner(owner).await
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        self.database.find_by_owners(owners).await
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        self.database.find_by_name(name).await
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        self.database.find_by_id(id).await
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        self.database.find_by_api_key(api_key).await
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        self.database.find_holders(names, api_keys).await
    }

    async fn find_obstacles(
        &self,
        names: &[AccountName],
        affiliates: &[AffiliateName],
    ) -> Result<Obstacles, DatabaseError> {
        self.database.find_obstacles(names, affiliates).await
    }

    async fn answers(&self) -> Result<(), DatabaseError> {
        self.database.answers().await
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        self.database.list_by_cluster(cluster).await
    }

    async fn find_readable(&self, owners: &[Owner]) -> Result<Vec<Result<Account, DatabaseError>>, DatabaseError> {
        self.database.find_readable(owners).await
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.database.versions(cluster).await
    }

    async fn versions_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.database.versions_after(cluster, after, limit).await
    }

    async fn changes_since(&self, cluster: &ClusterId, since: Option<&SweepMark>) -> Result<Changes, DatabaseError> {
        self.database.changes_since(cluster, since).await
    }

    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        self.database.key_uses(cluster).await
    }

    fn changes(&self) -> BoxStream<'static, Changed> {
        self.database.changes()
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        self.write(self.database.commit(change)).await
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        self.database.live(cluster).await
    }

    async fn live_after(
        &self,
        cluster: &ClusterId,
        after: Option<&Owner>,
        limit: usize,
    ) -> Result<Vec<Owner>, DatabaseError> {
        self.database.live_after(cluster, after, limit).await
    }

    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        self.database.deletions(cluster, since).await
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.database.affiliates().await
    }

    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        self.write(self.database.purge(cluster, is_declared, deleted_before, at)).await
    }

    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        self.write(self.database.trim_journal(before)).await
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        self.database.identity().await
    }

    async fn history(&self) -> Result<Option<String>, DatabaseError> {
        self.database.history().await
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        self.database.revoked(api_keys).await
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.database.sealing_keys_in_use().await
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        self.database.pending_migrations().await
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        self.write(self.database.migrate()).await
    }

    async fn close(&self) {
        self.database.close().await;
    }
}
