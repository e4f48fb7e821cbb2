//! The two ports with simulated failures, and a witness that sees every write.

use super::super::memory::{Accounts, Secrets, lock};
use super::edits::Target;
use super::promises::Witness;
use super::steps::{SLOTS, Trouble};
use crate::account::{Account, AccountId, AccountName, ApiKey, ClusterId, KeyUse, Owner, Version};
use crate::database::{AccountDatabase, Change, DatabaseError, Deletions, IsDeclared, Purged};
use crate::secrets::{
    FoundSecret, Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef, SecretStore, Stored, VerifiedSecret,
};
use async_trait::async_trait;
use jiff::Timestamp;
use std::collections::{BTreeSet, HashSet};
use std::sync::Mutex;

/// Both ports, with the state behind them.
#[derive(Debug, Default)]
pub struct Ports {
    pub accounts: Accounts,
    pub secrets: Secrets,
    pub plot: Mutex<Plot>,
    pub witness: Mutex<Witness>,
}

/// The failures of the next calls, and the targets of other writers' edits.
#[derive(Debug, Default)]
pub struct Plot {
    troubles: Vec<(usize, Trouble)>,
    targets: [Option<Target>; SLOTS],
    calls: usize,
}

impl Plot {
    /// Starts to count calls, and sets the failures by the number of the call.
    pub fn begin(&mut self, troubles: &[(usize, Trouble)], targets: [Option<Target>; SLOTS]) {
        *self = Self { troubles: troubles.to_vec(), targets, calls: 0 };
    }
}

/// What happens to one call.
enum Turn {
    NotMade,
    Made { lost: bool },
}

impl Ports {
    fn turn(&self) -> Turn {
        let mut plot = lock(&self.plot);
        let call = plot.calls;
        plot.calls += 1;
        let mut lost = false;
        for (_, trouble) in plot.troubles.iter().filter(|(at, _)| *at == call) {
            match trouble {
                Trouble::NotMade => return Turn::NotMade,
                Trouble::AnswerLost => lost = true,
                Trouble::Meanwhile(edit) => {
                    if let Some(target) = &plot.targets[edit.slot()] {
                        edit.make(target, &self.accounts, &self.secrets, lock(&self.witness).now);
                    }
                }
            }
        }
        Turn::Made { lost }
    }

    /// Makes one call to the database, or simulates its failure.
    async fn call_database<T>(&self, call: impl Future<Output = Result<T, DatabaseError>>) -> Result<T, DatabaseError> {
        let unavailable = || DatabaseError::Unavailable { reason: "trouble".to_owned() };
        match self.turn() {
            Turn::NotMade => Err(unavailable()),
            Turn::Made { lost: true } => call.await.and(Err(unavailable())),
            Turn::Made { lost: false } => call.await,
        }
    }

    /// Makes one call to the store of Secrets, or simulates its failure. Shows the witness what the call changed at
    /// this Secret.
    async fn call_secrets<T>(
        &self,
        at: &SecretRef,
        call: impl Future<Output = Result<T, SecretError>>,
    ) -> Result<T, SecretError> {
        let unavailable = || SecretError::Unavailable { at: at.clone(), reason: "trouble".to_owned() };
        let turn = self.turn();
        let before = lock(&self.secrets.objects).get(at).cloned();
        let answer = match turn {
            Turn::NotMade => return Err(unavailable()),
            Turn::Made { lost: true } => call.await.and(Err(unavailable())),
            Turn::Made { lost: false } => call.await,
        };
        let after = lock(&self.secrets.objects).get(at).cloned();
        if before != after {
            lock(&self.witness).saw_secret(at, before.as_ref(), after.as_ref());
        }
        answer
    }
}

#[async_trait]
impl AccountDatabase for Ports {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        let found = self.call_database(self.accounts.find_by_owner(owner)).await?;
        lock(&self.witness).account_seen.clone_from(&found);
        Ok(found)
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        self.call_database(self.accounts.find_by_owners(owners)).await
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        self.call_database(self.accounts.find_by_name(name)).await
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        self.call_database(self.accounts.find_by_id(id)).await
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        self.call_database(self.accounts.find_by_api_key(api_key)).await
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        self.call_database(self.accounts.find_holders(names, api_keys)).await
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        self.call_database(self.accounts.list_by_cluster(cluster)).await
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        self.call_database(self.accounts.versions(cluster)).await
    }

    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        self.call_database(self.accounts.key_uses(cluster)).await
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        self.call_database(async {
            let before = lock(&self.accounts.rows).clone();
            let answer = self.accounts.commit(change).await;
            let after = lock(&self.accounts.rows).clone();
            let mut witness = lock(&self.witness);
            witness.revoked.clone_from(&lock(&self.accounts.revoked));
            witness.saw_commit(&before, &after);
            if let Ok(account) = &answer {
                witness.account_seen = Some(account.clone());
            }
            answer
        })
        .await
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.call_database(self.accounts.affiliates()).await
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        self.call_database(self.accounts.live(cluster)).await
    }

    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        self.call_database(self.accounts.deletions(cluster, since)).await
    }

    async fn purge(
        &self,
        cluster: &ClusterId,
        is_declared: IsDeclared<'_>,
        before: Timestamp,
        at: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        self.call_database(self.accounts.purge(cluster, is_declared, before, at)).await
    }

    async fn trim_journal(&self, before: Timestamp) -> Result<usize, DatabaseError> {
        self.call_database(self.accounts.trim_journal(before)).await
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        self.call_database(self.accounts.identity()).await
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        self.call_database(self.accounts.revoked(api_keys)).await
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        self.call_database(self.accounts.sealing_keys_in_use()).await
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        self.call_database(self.accounts.pending_migrations()).await
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        self.call_database(self.accounts.migrate()).await
    }
}

#[async_trait]
impl SecretStore for Ports {
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        let sight = self.call_secrets(at, self.secrets.find(at, verified)).await?;
        lock(&self.witness).saw_sight(at, &sight);
        Ok(sight)
    }

    async fn confirm(&self, at: &SecretRef) -> Result<Lookup, SecretError> {
        let sight = self.call_secrets(at, self.secrets.confirm(at)).await?;
        lock(&self.witness).saw_sight(at, &sight);
        Ok(sight)
    }

    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError> {
        let nowhere = SecretRef { namespace: wanted.owner.namespace.clone(), name: String::new() };
        self.call_secrets(&nowhere, self.secrets.owned_by(wanted)).await
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        self.call_secrets(&manifest.at, self.secrets.create(manifest)).await
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        self.call_secrets(&manifest.at, self.secrets.replace(found, manifest)).await
    }

    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        self.call_secrets(at, self.secrets.remove(at, of)).await
    }

    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        self.call_secrets(at, self.secrets.release(at, of)).await
    }
}
