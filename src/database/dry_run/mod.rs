//! The database of a dry run: reads the real database, and keeps the changes in memory instead of writing them.
//!
//! The same reconciler runs against this database as against the real one. The changes that it then reports are the
//! changes that a real run would make. So each answer here must be the real database's answer after the changes so far.

mod overlay;

use super::{AccountDatabase, Action, Change, DatabaseError, Deletions, IsDeclared, Keyring, Purged, UnknownAffiliate};
use crate::account::{
    Account, AccountId, AccountName, ApiKey, ClusterId, KeyPair, KeyUse, Life, Owner, Settings, StoredKey, Version,
};
use async_trait::async_trait;
use jiff::Timestamp;
use overlay::Overlay;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A dry run of changes to an existing database, or to a database that does not exist yet.
#[derive(Debug)]
pub struct DryRunDatabase {
    real: Option<Arc<dyn AccountDatabase>>,
    /// Seals a dummy secret key in place of each real one.
    mask: Option<Keyring>,
    overlay: Mutex<Overlay>,
}

impl DryRunDatabase {
    /// Creates a dry run on this database; `None`: on a database that does not exist yet.
    pub fn new(real: Option<Arc<dyn AccountDatabase>>) -> Self {
        Self { real, mask: None, overlay: Mutex::default() }
    }

    /// Creates a dry run on this database without its secret keys. Each account has dummy secret keys that `mask`
    /// opens, so the user does not need the real keyring.
    pub fn without_keys(real: Option<Arc<dyn AccountDatabase>>, mask: Keyring) -> Self {
        Self { real, mask: Some(mask), overlay: Mutex::default() }
    }

    /// Locks the overlay. A poisoned lock is used too, because no code that holds it leaves a partial change.
    fn overlay(&self) -> MutexGuard<'_, Overlay> {
        self.overlay.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reduces the accounts that were changed so far to what conflicts with other accounts (names, owners, API keys),
    /// so that a dry run of many accounts takes little memory. The caller must not read these accounts again for their
    /// own sake.
    pub fn compact(&self) {
        self.overlay().compact();
    }

    /// Returns `changed`, the account from the overlay. Without one it returns the account that was read, masked,
    /// unless the overlay has a changed version of it.
    fn give_out(&self, changed: Option<Account>, read: Option<Account>) -> Option<Account> {
        if changed.is_some() {
            return changed;
        }
        let mut overlay = self.overlay();
        let account = self.masked(read.filter(|account| !overlay.is_changed(account.id))?);
        overlay.record_unchanged(&account);
        Some(account)
    }

    /// Returns the accounts that were read and not changed, and the changed ones for which `wanted` is true.
    fn all(&self, read: Vec<Account>, wanted: impl Fn(&Account) -> bool) -> Vec<Account> {
        let mut accounts: Vec<Account> = read.into_iter().filter_map(|read| self.give_out(None, Some(read))).collect();
        accounts.extend(self.overlay().all_changed().filter(|account| wanted(account)).cloned());
        accounts
    }

    /// Returns the account of a change as it would be before the change.
    async fn before(&self, change: &Change) -> Result<Option<Account>, DatabaseError> {
        let known = self.overlay().known(change.account);
        match (known, &change.action) {
            // The id is new, so no account has it.
            (None, Action::Create { .. } | Action::Import { .. }) => Ok(None),
            (None, _) => self.find_by_id(change.account).await,
            (known, _) => Ok(known),
        }
    }

    fn masked(&self, mut account: Account) -> Account {
        if let Some(mask) = &self.mask {
            for key in &mut account.keys {
                let dummy = KeyPair::without_secret(key.id, key.api_key.clone()).secret_key;
                key.sealed = mask.seal(account.id, key.id, &dummy, [0; 12]);
            }
        }
        account
    }

    /// Checks the rules that involve other rows: unique names, owners and API keys, and known affiliates.
    async fn check(&self, change: &Change, before: Option<&Account>) -> Result<(), DatabaseError> {
        match &change.action {
            Action::Create { owner, settings, key, unknown_affiliate, .. } => {
                self.check_owner(owner).await?;
                self.check_settings(change.account, before, settings, *unknown_affiliate).await?;
                self.check_key(key).await
            }
            Action::Import { settings, key, unknown_affiliate, .. } => {
                self.check_settings(change.account, before, settings, *unknown_affiliate).await?;
                self.check_key(key).await
            }
            Action::Update { settings, unknown_affiliate, .. } => {
                self.check_settings(change.account, before, settings, *unknown_affiliate).await
            }
            Action::Adopt { owner, .. } => self.check_owner(owner).await,
            Action::Rotate { key, .. } | Action::RestoreKey { key, .. } => self.check_key(key).await,
            Action::AllowAdoption { .. }
            | Action::Revoke { .. }
            | Action::Suspend { .. }
            | Action::Resume { .. }
            | Action::Delete { .. }
            | Action::Retain { .. } => Ok(()),
        }
    }

    async fn check_owner(&self, owner: &Owner) -> Result<(), DatabaseError> {
        match self.find_by_owner(owner).await? {
            Some(_) => Err(DatabaseError::Conflict),
            None => Ok(()),
        }
    }

    async fn check_settings(
        &self,
        account: AccountId,
        before: Option<&Account>,
        settings: &Settings,
        unknown_affiliate: UnknownAffiliate,
    ) -> Result<(), DatabaseError> {
        // An account that has the name already keeps it: the database accepts an update that does not change the name.
        let has_name = before.is_some_and(|before| has_name(before, &settings.name));
        if !has_name && self.find_by_name(&settings.name).await?.is_some_and(|holder| holder.id != account) {
            return Err(DatabaseError::NameTaken { name: settings.name.clone() });
        }
        let Some(affiliate) = &settings.affiliate else {
            return Ok(());
        };
        let is_known = self.affiliates().await?.contains(affiliate.as_str());
        match unknown_affiliate {
            UnknownAffiliate::Refuse if !is_known => {
                Err(DatabaseError::UnknownAffiliate { affiliate: affiliate.clone() })
            }
            _ => Ok(()),
        }
    }

    async fn check_key(&self, key: &StoredKey) -> Result<(), DatabaseError> {
        match self.find_by_api_key(&key.api_key).await? {
            Some(_) => Err(DatabaseError::KeyTaken),
            None => Ok(()),
        }
    }
}

/// Whether this name is the account's own.
fn has_name(account: &Account, name: &AccountName) -> bool {
    account.reserved_name().is_some_and(|kept| kept == name.comparable())
}

#[async_trait]
impl AccountDatabase for DryRunDatabase {
    async fn find_by_owner(&self, owner: &Owner) -> Result<Option<Account>, DatabaseError> {
        let (changed, is_without) = {
            let overlay = self.overlay();
            (overlay.by_owner(owner), overlay.owners_without.contains(owner))
        };
        let read = match (&self.real, &changed) {
            (Some(real), None) if !is_without => real.find_by_owner(owner).await?,
            _ => None,
        };
        if read.is_none() && changed.is_none() {
            self.overlay().owners_without.insert(owner.clone());
        }
        Ok(self.give_out(changed, read))
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        let read = match &self.real {
            Some(real) => real.find_by_owners(owners).await?,
            None => Vec::new(),
        };
        let owners: HashSet<&Owner> = owners.iter().collect();
        let with: HashSet<&Owner> = read.iter().filter_map(|account| account.owner.as_ref()).collect();
        self.overlay().owners_without.extend(owners.difference(&with).map(|owner| (*owner).clone()));
        Ok(self.all(read, |account| account.owner.as_ref().is_some_and(|owner| owners.contains(owner))))
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        let comparable = name.comparable();
        let (changed, is_free) = {
            let overlay = self.overlay();
            (overlay.by_name(&comparable), overlay.free_names.contains(&comparable))
        };
        let read = match (&self.real, &changed) {
            (Some(real), None) if !is_free => real.find_by_name(name).await?,
            _ => None,
        };
        if read.is_none() && changed.is_none() {
            self.overlay().free_names.insert(comparable);
        }
        Ok(self.give_out(changed, read))
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        let changed = self.overlay().changed(id);
        let read = match (&self.real, &changed) {
            (Some(real), None) => real.find_by_id(id).await?,
            _ => None,
        };
        Ok(self.give_out(changed, read))
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        let (changed, is_free) = {
            let overlay = self.overlay();
            (overlay.by_api_key(api_key), overlay.free_keys.contains(api_key))
        };
        let read = match (&self.real, &changed) {
            (Some(real), None) if !is_free => real.find_by_api_key(api_key).await?,
            _ => None,
        };
        // The overlay's index may name an account that no longer has this key pair.
        Ok(self.give_out(changed, read).filter(|account| account.keys.iter().any(|key| key.api_key == *api_key)))
    }

    async fn find_holders(&self, names: &[AccountName], api_keys: &[ApiKey]) -> Result<Vec<Account>, DatabaseError> {
        let read = match &self.real {
            Some(real) => real.find_holders(names, api_keys).await?,
            None => Vec::new(),
        };
        let names: HashSet<String> = names.iter().map(AccountName::comparable).collect();
        let api_keys: HashSet<&ApiKey> = api_keys.iter().collect();
        let kept: HashSet<String> = read.iter().filter_map(Account::reserved_name).collect();
        let held: HashSet<&ApiKey> = read.iter().flat_map(|account| &account.keys).map(|key| &key.api_key).collect();
        let mut overlay = self.overlay();
        overlay.free_names.extend(names.difference(&kept).cloned());
        overlay.free_keys.extend(api_keys.difference(&held).map(|key| (*key).clone()));
        drop(overlay);
        Ok(self.all(read, |account| {
            account.reserved_name().is_some_and(|kept| names.contains(&kept))
                || account.keys.iter().any(|key| api_keys.contains(&key.api_key))
        }))
    }

    async fn list_by_cluster(&self, cluster: &ClusterId) -> Result<Vec<Account>, DatabaseError> {
        let read = match &self.real {
            Some(real) => real.list_by_cluster(cluster).await?,
            None => Vec::new(),
        };
        Ok(self.all(read, |account| account.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster)))
    }

    async fn versions(&self, cluster: &ClusterId) -> Result<Vec<(Owner, Version)>, DatabaseError> {
        let accounts = self.list_by_cluster(cluster).await?;
        Ok(accounts.into_iter().filter_map(|account| Some((account.owner?, account.version))).collect())
    }

    async fn key_uses(&self, cluster: &ClusterId) -> Result<Vec<(Owner, KeyUse)>, DatabaseError> {
        match &self.real {
            Some(real) => real.key_uses(cluster).await,
            None => Ok(Vec::new()),
        }
    }

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        let before = self.before(change).await?;
        let after = change.effect(before.as_ref())?;
        self.check(change, before.as_ref()).await?;
        let mut overlay = self.overlay();
        if let (Some(known), Some(affiliate)) = (&mut overlay.affiliates, change.registers()) {
            known.insert(affiliate.as_str().to_owned());
        }
        overlay.put(before.as_ref(), after.clone());
        Ok(after)
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        let mut owners = match &self.real {
            Some(real) => real.live(cluster).await?,
            None => Vec::new(),
        };
        let overlay = self.overlay();
        owners.retain(|owner| !overlay.is_owner_of_changed(owner));
        let changed = overlay.all_changed().filter(|account| account.life == Life::Live);
        owners.extend(changed.filter_map(|live| live.owner.clone()).filter(|owner| owner.cluster == *cluster));
        Ok(owners)
    }

    /// Counts the real database's deletions and those of the dry run. An account that was deleted in the real database
    /// and that the dry run restores counts both as deleted and as live.
    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        let mut counted = match &self.real {
            Some(real) => real.deletions(cluster, since).await?,
            None => Deletions::default(),
        };
        counted.live = self.live(cluster).await?.len();
        let overlay = self.overlay();
        let is_here = |account: &&Account| account.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster);
        let is_deleted = |account: &&Account| matches!(account.life, Life::Deleted { since: at } if at >= since);
        counted.deleted += overlay.all_changed().filter(is_here).filter(is_deleted).count();
        Ok(counted)
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        let known = self.overlay().affiliates.clone();
        let known = match (known, &self.real) {
            (Some(known), _) => known,
            (None, Some(real)) => real.affiliates().await?,
            (None, None) => BTreeSet::new(),
        };
        self.overlay().affiliates = Some(known.clone());
        Ok(known)
    }

    /// Purges nothing, because a dry run ends long before an account becomes due.
    async fn purge(
        &self,
        _: &ClusterId,
        _: IsDeclared<'_>,
        _: Timestamp,
        _: Timestamp,
    ) -> Result<Purged, DatabaseError> {
        Ok(Purged::default())
    }

    async fn trim_journal(&self, _: Timestamp) -> Result<usize, DatabaseError> {
        Ok(0)
    }

    async fn identity(&self) -> Result<Option<String>, DatabaseError> {
        match &self.real {
            Some(real) => real.identity().await,
            None => Ok(None),
        }
    }

    async fn revoked(&self, api_keys: &[ApiKey]) -> Result<HashSet<ApiKey>, DatabaseError> {
        let mut revoked = match &self.real {
            Some(real) => real.revoked(api_keys).await?,
            None => HashSet::new(),
        };
        let overlay = self.overlay();
        revoked.extend(api_keys.iter().filter(|key| overlay.revoked.contains(*key)).cloned());
        Ok(revoked)
    }

    async fn sealing_keys_in_use(&self) -> Result<BTreeSet<String>, DatabaseError> {
        match (&self.mask, &self.real) {
            (None, Some(real)) => real.sealing_keys_in_use().await,
            _ => Ok(BTreeSet::new()),
        }
    }

    async fn pending_migrations(&self) -> Result<Vec<String>, DatabaseError> {
        match &self.real {
            Some(real) => real.pending_migrations().await,
            None => Ok(Vec::new()),
        }
    }

    /// Fails if migrations are missing, because a dry run does not change the schema.
    async fn migrate(&self) -> Result<(), DatabaseError> {
        match self.pending_migrations().await? {
            pending if pending.is_empty() => Ok(()),
            pending => Err(DatabaseError::OlderSchema { pending }),
        }
    }

    async fn close(&self) {
        if let Some(real) = &self.real {
            real.close().await;
        }
    }
}
