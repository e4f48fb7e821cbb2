//! The two ports in memory, with the constraints that the real ones enforce.

use crate::account::{
    Account, AccountId, AccountName, ApiKey, ClusterId, KeyUse, Life, Owner, Settings, StoredKey, Version,
};
use crate::database::{
    AccountDatabase, Action, Change, DatabaseError, Deletions, IsDeclared, Purged, UnknownAffiliate,
};
use crate::reconcile::{Environment, RandomnessError};
use crate::secrets::{
    FoundSecret, Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef, SecretStore, Stored, VerifiedSecret,
};
use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::{Mutex, PoisonError};

/// Accounts in memory.
#[derive(Debug, Default)]
pub struct Accounts {
    pub rows: Mutex<Vec<Account>>,
    pub affiliates: Mutex<BTreeSet<String>>,
    /// Every committed change, so that tests can count them.
    pub changes: Mutex<Vec<Change>>,
    /// How often an account was searched by its owner.
    pub searches: Mutex<usize>,
    /// Faults of the next commits. A fault may let the change happen and lose only the answer.
    pub faults: Mutex<Vec<Fault>>,
    /// A database trigger that rewrites every account when it is written.
    pub trigger: Mutex<Option<fn(&mut Account)>>,
    /// How many accounts were created by hand.
    pub made_by_hand: Mutex<u8>,
    /// API keys that were revoked or purged.
    pub revoked: Mutex<HashSet<ApiKey>>,
}

/// What goes wrong with one commit.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    /// The change is not made.
    NotMade,
    /// The change is made, and the answer is lost.
    AnswerLost,
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Accounts {
    fn make(&self, change: &Change) -> Result<Account, DatabaseError> {
        let mut rows = lock(&self.rows);
        let mut account = change.effect(rows.iter().find(|row| row.id == change.account))?;
        if let Some(trigger) = *lock(&self.trigger) {
            trigger(&mut account);
            let parts = change.not_stored(&account);
            if !parts.is_empty() && !change.may_stay(&account, &parts) {
                return Err(DatabaseError::NotStored { parts });
            }
        }
        let has_owner = |owner: &Owner| rows.iter().any(|row| row.owner.as_ref() == Some(owner));
        match &change.action {
            Action::Create { owner, settings, key, unknown_affiliate, .. } => {
                self.check(&rows, change, settings, *unknown_affiliate)?;
                if has_owner(owner) {
                    return Err(DatabaseError::Conflict);
                }
                no_key_is(&rows, key)?;
            }
            Action::Import { settings, key, unknown_affiliate, .. } => {
                self.check(&rows, change, settings, *unknown_affiliate)?;
                no_key_is(&rows, key)?;
            }
            Action::Update { settings, unknown_affiliate, .. } => {
                self.check(&rows, change, settings, *unknown_affiliate)?;
            }
            Action::Adopt { owner, .. } if has_owner(owner) => return Err(DatabaseError::Conflict),
            Action::Rotate { key, .. } | Action::RestoreKey { key, .. } => no_key_is(&rows, key)?,
            _ => {}
        }
        if let Action::Create { key, .. } | Action::Import { key, .. } | Action::RestoreKey { key, .. } = &change.action
            && lock(&self.revoked).contains(&key.api_key)
        {
            return Err(DatabaseError::KeyRevoked);
        }
        let before = rows.iter().filter(|row| row.id == account.id).flat_map(|row| &row.keys);
        let is_left = |key: &StoredKey| account.keys.iter().any(|left| left.api_key == key.api_key);
        lock(&self.revoked).extend(before.filter(|key| !is_left(key)).map(|key| key.api_key.clone()));
        rows.retain(|row| row.id != account.id);
        rows.push(account.clone());
        lock(&self.changes).push(change.clone());
        Ok(account)
    }

    fn check(
        &self,
        rows: &[Account],
        change: &Change,
        settings: &Settings,
        on: UnknownAffiliate,
    ) -> Result<(), DatabaseError> {
        let name = settings.name.comparable();
        let taken = |row: &Account| row.id != change.account && row.reserved_name().is_some_and(|kept| kept == name);
        if rows.iter().any(taken) {
            return Err(DatabaseError::NameTaken { name: settings.name.clone() });
        }
        if let Some(affiliate) = &settings.affiliate {
            let mut known = lock(&self.affiliates);
            match on {
                UnknownAffiliate::Register => _ = known.insert(affiliate.to_string()),
                UnknownAffiliate::Refuse if known.contains(affiliate.as_str()) => {}
                UnknownAffiliate::Refuse => {
                    return Err(DatabaseError::UnknownAffiliate { affiliate: affiliate.clone() });
                }
            }
        }
        Ok(())
    }
}

fn no_key_is(rows: &[Account], wanted: &StoredKey) -> Result<(), DatabaseError> {
    let taken = rows.iter().flat_map(|row| &row.keys).any(|key| key.api_key == wanted.api_key);
    if taken { Err(DatabaseError::KeyTaken) } else { Ok(()) }
}

#[async_trait]
impl AccountDatabase for Accounts {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        *lock(&self.searches) += 1;
        Ok(lock(&self.rows).iter().find(|row| row.owner.as_ref() == Some(owner)).cloned())
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        let owned = |row: &&Account| row.owner.as_ref().is_some_and(|owner| owners.contains(owner));
        Ok(lock(&self.rows).iter().filter(owned).cloned().collect())
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        let found = |row: &&Account| row.reserved_name().is_some_and(|kept| kept == name.comparable());
        Ok(lock(&self.rows).iter().find(found).cloned())
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        Ok(lock(&self.rows).iter().find(|row| row.id == id).cloned())
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        let has_it = |row: &&Account| row.keys.iter().any(|key| key.api_key == *api_key);
        Ok(lock(&self.rows).iter().find(has_it).cloned())
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        let has_one = |row: &&Account| {
            let is_named = row.reserved_name().is_some_and(|kept| names.iter().any(|name| name.comparable() == kept));
            is_named || row.keys.iter().any(|key| api_keys.contains(&key.api_key))
        };
        Ok(lock(&self.rows).iter().filter(has_one).cloned().collect())
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        let owned = |row: &&Account| row.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster);
        Ok(lock(&self.rows).iter().filter(owned).cloned().collect())
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        let accounts = self.list_by_cluster(cluster).await?;
        Ok(accounts.into_iter().filter_map(|account| Some((account.owner?, account.version))).collect())
    }

    async fn key_uses(&self, _: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        Ok(Vec::new())
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        let lost = || DatabaseError::Unavailable { reason: "a fault".to_owned() };
        match lock(&self.faults).pop() {
            Some(Fault::NotMade) => Err(lost()),
            Some(Fault::AnswerLost) => self.make(change).and(Err(lost())),
            None => self.make(change),
        }
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        let live =
            |row: &Account| row.owner.clone().filter(|owner| owner.cluster == *cluster && row.life == Life::Live);
        Ok(lock(&self.rows).iter().filter_map(live).collect())
    }

    /// Counts every deletion: only the real database records which deletions were confirmed.
    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        let deleted = |row: &&Account| {
            row.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster)
                && matches!(row.life, Life::Deleted { since: at } if at >= since)
        };
        let deleted = lock(&self.rows).iter().filter(deleted).count();
        Ok(Deletions { live: self.live(cluster).await?.len(), deleted })
    }

    async fn purge(
        &self,
        _: &ClusterId,
        is_declared: IsDeclared<'_>,
        deleted_before: Timestamp,
        _: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        let mut rows = lock(&self.rows);
        let before = rows.len();
        let is_due = |row: &Account| matches!(row.life, Life::Deleted { since } if since < deleted_before);
        let stays = |row: &Account| !is_due(row) || row.owner.as_ref().is_some_and(is_declared);
        let purged = rows.iter().filter(|row| !stays(row)).flat_map(|row| &row.keys);
        lock(&self.revoked).extend(purged.map(|key| key.api_key.clone()));
        rows.retain(stays);
        Ok(Purged { accounts: before - rows.len(), refused: Vec::new() })
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        Ok(lock(&self.affiliates).clone())
    }

    async fn trim_journal(&self, _: Timestamp) -> Result<usize, DatabaseError> {
        Ok(0)
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        Ok(Some("memory".to_owned()))
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        let revoked = lock(&self.revoked);
        Ok(api_keys.iter().filter(|key| revoked.contains(key)).cloned().collect())
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        Ok(lock(&self.rows).iter().flat_map(|row| &row.keys).map(|key| key.sealed.sealed_with.clone()).collect())
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        Ok(Vec::new())
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        Ok(())
    }
}

/// Secrets in memory, with versions as an API server has them.
#[derive(Debug, Default)]
pub struct Secrets {
    pub objects: Mutex<BTreeMap<SecretRef, Secret>>,
    /// How many writes were made.
    pub writes: Mutex<u64>,
    /// Names that seem absent until they are written to, as in a cache that lags.
    pub unseen: Mutex<BTreeSet<SecretRef>>,
    /// Whether every replacement is refused.
    pub refusing: Mutex<bool>,
    /// An admission policy that rewrites every Secret when it is written.
    pub policy: Mutex<Option<fn(&mut Secret)>>,
}

impl Secrets {
    pub fn put(&self, at: &SecretRef, mut secret: Secret) -> String {
        let mut writes = lock(&self.writes);
        *writes += 1;
        secret.metadata.resource_version = Some(writes.to_string());
        lock(&self.objects).insert(at.clone(), secret);
        writes.to_string()
    }

    fn write(&self, manifest: &SecretManifest, mut secret: Secret) -> Stored {
        if let Some(policy) = *lock(&self.policy) {
            policy(&mut secret);
        }
        self.put(&manifest.at, secret);
        Stored::of(lock(&self.objects)[&manifest.at].clone(), manifest)
    }
}

#[async_trait]
impl SecretStore for Secrets {
    async fn find(&self, at: &SecretRef, verified: Option<VerifiedSecret<'_>>) -> Result<Lookup, SecretError> {
        if lock(&self.unseen).contains(at) {
            return Ok(Lookup::Absent);
        }
        Ok(match lock(&self.objects).get(at) {
            None => Lookup::Absent,
            Some(Secret { metadata, .. }) if verified.is_some_and(|known| known.is(metadata)) => Lookup::Unchanged,
            Some(secret) => Lookup::Found(Box::new(FoundSecret::new(at.clone(), secret.clone()))),
        })
    }

    async fn confirm(&self, at: &SecretRef) -> Result<Lookup, SecretError> {
        lock(&self.unseen).remove(at);
        self.find(at, None).await
    }

    async fn owned_by(&self, wanted: &ResourceIdentity) -> Result<Vec<SecretRef>, SecretError> {
        let unseen = lock(&self.unseen);
        let is_own = |at: &SecretRef, secret: &Secret| {
            at.namespace == wanted.owner.namespace && !unseen.contains(at) && wanted.check(&secret.metadata).is_ok()
        };
        let own = |(at, secret): (&SecretRef, &Secret)| is_own(at, secret).then(|| at.clone());
        Ok(lock(&self.objects).iter().filter_map(own).collect())
    }

    async fn create(&self, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        lock(&self.unseen).remove(&manifest.at);
        if lock(&self.objects).contains_key(&manifest.at) {
            return Err(SecretError::Exists(manifest.at.clone()));
        }
        Ok(self.write(manifest, manifest.to_secret()))
    }

    async fn replace(&self, found: &FoundSecret, manifest: &SecretManifest) -> Result<Stored, SecretError> {
        if *lock(&self.refusing) {
            return Err(SecretError::Unavailable { at: manifest.at.clone(), reason: "a fault".to_owned() });
        }
        let current = lock(&self.objects).get(&manifest.at).and_then(|secret| secret.metadata.resource_version.clone());
        if current.as_deref() != found.version() {
            return Err(SecretError::Changed(manifest.at.clone()));
        }
        let right = if found.must_be_recreated(manifest) { found.rebuilt(manifest) } else { found.corrected(manifest) };
        Ok(self.write(manifest, right))
    }

    async fn remove(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let mut objects = lock(&self.objects);
        let is_own = objects.get(at).is_some_and(|secret| of.check(&secret.metadata).is_ok());
        if is_own {
            *lock(&self.writes) += 1;
            objects.remove(at);
        }
        Ok(is_own)
    }

    async fn release(&self, at: &SecretRef, of: &ResourceIdentity) -> Result<bool, SecretError> {
        let secret = lock(&self.objects).get(at).cloned().filter(|secret| of.check(&secret.metadata).is_ok());
        let untied = secret.and_then(|secret| FoundSecret::new(at.clone(), secret).without_owner_references(of));
        Ok(untied.map(|untied| self.put(at, untied)).is_some())
    }
}

/// A clock that a test sets, and a counter instead of randomness: every value is different, and every run is the same.
#[derive(Debug, Default)]
pub struct Counting {
    pub now: Mutex<Timestamp>,
    drawn: Mutex<u64>,
}

impl Counting {
    /// Moves the clock by these hours, which may be negative, and returns the new time.
    pub fn move_by(&self, hours: i64) -> Timestamp {
        let mut now = lock(&self.now);
        *now += SignedDuration::from_hours(hours);
        *now
    }
}

impl Environment for Counting {
    fn now(&self) -> Timestamp {
        *lock(&self.now)
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError> {
        let mut drawn = lock(&self.drawn);
        *drawn += 1;
        bytes.fill(0xa5);
        bytes[..8].copy_from_slice(&drawn.to_be_bytes());
        Ok(())
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}
