//! A database that is only read: changes are answered as it would answer them, and remembered here instead of made.
//!
//! The same reconciler runs against it as against the real one. What it then says it has done is what it would do.

mod overlay;

use super::{AccountDatabase, Action, Change, DatabaseError, Deletions, IsDeclared, Keyring, Purged, UnknownAffiliate};
use crate::account::{
    Account, AccountId, AccountName, ApiKey, ClusterId, KeyPair, Life, Owner, Settings, StoredKey, Version,
};
use async_trait::async_trait;
use jiff::Timestamp;
use overlay::Overlay;
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rehearses changes to a database, or to one that is yet to be made.
#[derive(Debug)]
pub struct DryRunDatabase {
    real: Option<Arc<dyn AccountDatabase>>,
    /// Seals a worthless secret key in the place of each real one.
    mask: Option<Keyring>,
    stage: Mutex<Overlay>,
}

impl DryRunDatabase {
    /// Over this database; `None`: over one that would be made.
    pub fn new(real: Option<Arc<dyn AccountDatabase>>) -> Self {
        Self { real, mask: None, stage: Mutex::default() }
    }

    /// Over this database, without its secret keys: each account is given out with worthless ones that `mask` opens, so
    /// that nobody needs the real keyring.
    pub fn without_keys(real: Option<Arc<dyn AccountDatabase>>, mask: Keyring) -> Self {
        Self { real, mask: Some(mask), stage: Mutex::default() }
    }

    /// A panic elsewhere cannot leave the stage half changed.
    fn stage(&self) -> MutexGuard<'_, Overlay> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what is nobody's business but that of the accounts that were changed so far: they must not be asked for again,
    /// unless by somebody whom they stand in the way of. So it takes little memory to rehearse for many, one after another.
    pub fn compact(&self) {
        self.stage().compact();
    }

    /// The account on the stage, or else the one that was read, unless that one is on the stage as another by now.
    fn give_out(&self, staged: Option<Account>, read: Option<Account>) -> Option<Account> {
        if staged.is_some() {
            return staged;
        }
        let mut stage = self.stage();
        let account = self.masked(read.filter(|account| !stage.is_changed(account.id))?);
        stage.record_unchanged(&account);
        Some(account)
    }

    /// Those that were read and are as they were, and those on the stage that are `wanted`.
    fn all(&self, read: Vec<Account>, wanted: impl Fn(&Account) -> bool) -> Vec<Account> {
        let mut accounts: Vec<Account> = read.into_iter().filter_map(|read| self.give_out(None, Some(read))).collect();
        accounts.extend(self.stage().all_changed().filter(|account| wanted(account)).cloned());
        accounts
    }

    /// The account that a change is made to, as it would be now.
    async fn before(&self, change: &Change) -> Result<Option<Account>, DatabaseError> {
        let known = self.stage().known(change.account);
        match (known, &change.action) {
            // Its id is new.
            (None, Action::Create { .. } | Action::Import { .. }) => Ok(None),
            (None, _) => self.find_by_id(change.account).await,
            (known, _) => Ok(known),
        }
    }

    fn masked(&self, mut account: Account) -> Account {
        if let Some(mask) = &self.mask {
            for key in &mut account.keys {
                let worthless = KeyPair::without_secret(key.id, key.api_key.clone()).secret_key;
                key.sealed = mask.seal(account.id, key.id, &worthless, [0; 12]);
            }
        }
        account
    }

    /// Whether the database as a whole allows this change.
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
        // Who has the name already keeps everybody else from having it.
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
        let (staged, is_without) = {
            let stage = self.stage();
            (stage.by_owner(owner), stage.owners_without.contains(owner))
        };
        let read = match (&self.real, &staged) {
            (Some(real), None) if !is_without => real.find_by_owner(owner).await?,
            _ => None,
        };
        if read.is_none() && staged.is_none() {
            self.stage().owners_without.insert(owner.clone());
        }
        Ok(self.give_out(staged, read))
    }

    async fn find_by_owners(&self, owners: &[Owner]) -> Result<Vec<Account>, DatabaseError> {
        let read = match &self.real {
            Some(real) => real.find_by_owners(owners).await?,
            None => Vec::new(),
        };
        let owners: HashSet<&Owner> = owners.iter().collect();
        let with: HashSet<&Owner> = read.iter().filter_map(|account| account.owner.as_ref()).collect();
        self.stage().owners_without.extend(owners.difference(&with).map(|owner| (*owner).clone()));
        Ok(self.all(read, |account| account.owner.as_ref().is_some_and(|owner| owners.contains(owner))))
    }

    async fn find_by_name(&self, name: &AccountName) -> Result<Option<Account>, DatabaseError> {
        let comparable = name.comparable();
        let (staged, is_free) = {
            let stage = self.stage();
            (stage.by_name(&comparable), stage.free_names.contains(&comparable))
        };
        let read = match (&self.real, &staged) {
            (Some(real), None) if !is_free => real.find_by_name(name).await?,
            _ => None,
        };
        if read.is_none() && staged.is_none() {
            self.stage().free_names.insert(comparable);
        }
        Ok(self.give_out(staged, read))
    }

    async fn find_by_id(&self, id: AccountId) -> Result<Option<Account>, DatabaseError> {
        let staged = self.stage().changed(id);
        let read = match (&self.real, &staged) {
            (Some(real), None) => real.find_by_id(id).await?,
            _ => None,
        };
        Ok(self.give_out(staged, read))
    }

    async fn find_by_api_key(&self, api_key: &ApiKey) -> Result<Option<Account>, DatabaseError> {
        let (staged, is_free) = {
            let stage = self.stage();
            (stage.by_api_key(api_key), stage.free_keys.contains(api_key))
        };
        let read = match (&self.real, &staged) {
            (Some(real), None) if !is_free => real.find_by_api_key(api_key).await?,
            _ => None,
        };
        // A pair that was revoked on the stage is nobody's any more.
        Ok(self.give_out(staged, read).filter(|account| account.keys.iter().any(|key| key.api_key == *api_key)))
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
        let mut stage = self.stage();
        stage.free_names.extend(names.difference(&kept).cloned());
        stage.free_keys.extend(api_keys.difference(&held).map(|key| (*key).clone()));
        drop(stage);
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

    async fn commit(&self, change: &Change) -> Result<Account, DatabaseError> {
        let before = self.before(change).await?;
        let after = change.effect(before.as_ref())?;
        self.check(change, before.as_ref()).await?;
        let mut stage = self.stage();
        if let (Some(known), Some(affiliate)) = (&mut stage.affiliates, change.registers()) {
            known.insert(affiliate.as_str().to_owned());
        }
        stage.put(before.as_ref(), after.clone());
        Ok(after)
    }

    async fn live(&self, cluster: &ClusterId) -> Result<Vec<Owner>, DatabaseError> {
        let mut owners = match &self.real {
            Some(real) => real.live(cluster).await?,
            None => Vec::new(),
        };
        let stage = self.stage();
        owners.retain(|owner| !stage.is_owner_of_changed(owner));
        let staged = stage.all_changed().filter(|account| account.life == Life::Live);
        owners.extend(staged.filter_map(|live| live.owner.clone()).filter(|owner| owner.cluster == *cluster));
        Ok(owners)
    }

    /// What is deleted on the stage counts as deleted, and what is live there as live. One that was deleted before and is live
    /// again on the stage counts as both.
    async fn deletions(&self, cluster: &ClusterId, since: Timestamp) -> Result<Deletions, DatabaseError> {
        let mut counted = match &self.real {
            Some(real) => real.deletions(cluster, since).await?,
            None => Deletions::default(),
        };
        counted.live = self.live(cluster).await?.len();
        let stage = self.stage();
        let is_here = |account: &&Account| account.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster);
        let is_gone = |account: &&Account| matches!(account.life, Life::Deleted { since: at } if at >= since);
        counted.deleted += stage.all_changed().filter(is_here).filter(is_gone).count();
        Ok(counted)
    }

    async fn affiliates(&self) -> Result<BTreeSet<String>, DatabaseError> {
        let known = self.stage().affiliates.clone();
        let known = match (known, &self.real) {
            (Some(known), _) => known,
            (None, Some(real)) => real.affiliates().await?,
            (None, None) => BTreeSet::new(),
        };
        self.stage().affiliates = Some(known.clone());
        Ok(known)
    }

    /// Nothing is purged in a dry run: it is over long before anything's time is.
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
        let stage = self.stage();
        revoked.extend(api_keys.iter().filter(|key| stage.revoked.contains(*key)).cloned());
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

    /// Not even the schema is changed.
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
