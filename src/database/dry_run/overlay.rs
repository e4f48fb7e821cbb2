//! What would have become of accounts, as far as anybody can still come upon it.

use crate::account::{
    Account, AccountId, ApiKey, Life, Owner, SealedSecret, StoredKey, StoredSettings, comparable_name,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::{self, Discriminant};

/// The accounts of a dry run.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// Those that are no longer as the database has them.
    changed: HashMap<AccountId, OverlayAccount>,
    /// Those that were given out as the database has them: whoever changes one knows it from here.
    unchanged: HashMap<AccountId, Account>,
    /// Whom the database has no account of.
    pub owners_without: HashSet<Owner>,
    /// Comparable names that no account in the database has.
    pub free_names: HashSet<String>,
    /// API keys that no account in the database has.
    pub free_keys: HashSet<ApiKey>,
    /// The changed ones, by owner.
    by_owner: HashMap<Owner, AccountId>,
    /// The changed ones that are not deleted, by comparable name.
    by_name: HashMap<String, AccountId>,
    /// The changed ones, by each API key that they had; they may have it no longer.
    by_api_key: HashMap<ApiKey, AccountId>,
    /// API keys of pairs that an account had and has no longer.
    pub revoked: HashSet<ApiKey>,
    /// Those that were changed since all was settled the last time.
    unsettled: Vec<AccountId>,
    /// The affiliates that are known or would be; `None`: not yet read.
    pub affiliates: Option<BTreeSet<String>>,
}

#[derive(Debug)]
struct OverlayAccount {
    account: Account,
    /// How it stands in the database, if it is there.
    stood: Option<IndexKeys>,
}

/// What of an account stands in the way of others, or not.
#[derive(Debug, PartialEq, Eq)]
struct IndexKeys {
    name: String,
    owner: Option<Owner>,
    life: Discriminant<Life>,
    api_keys: BTreeSet<ApiKey>,
}

impl IndexKeys {
    fn of(account: &Account) -> Self {
        Self {
            name: comparable_name(&account.settings.name),
            owner: account.owner.clone(),
            life: mem::discriminant(&account.life),
            api_keys: account.keys.iter().map(|key| key.api_key.clone()).collect(),
        }
    }
}

impl Overlay {
    pub fn by_owner(&self, owner: &Owner) -> Option<Account> {
        self.changed(*self.by_owner.get(owner)?)
    }

    pub fn by_name(&self, comparable: &str) -> Option<Account> {
        self.changed(*self.by_name.get(comparable)?)
    }

    pub fn by_api_key(&self, api_key: &ApiKey) -> Option<Account> {
        self.changed(*self.by_api_key.get(api_key)?)
    }

    pub fn changed(&self, id: AccountId) -> Option<Account> {
        self.changed.get(&id).map(|staged| staged.account.clone())
    }

    /// The account as it would be now, if it was changed or given out.
    pub fn known(&self, id: AccountId) -> Option<Account> {
        self.changed(id).or_else(|| self.unchanged.get(&id).cloned())
    }

    pub fn all_changed(&self) -> impl Iterator<Item = &Account> {
        self.changed.values().map(|staged| &staged.account)
    }

    pub fn is_changed(&self, id: AccountId) -> bool {
        self.changed.contains_key(&id)
    }

    pub fn is_owner_of_changed(&self, owner: &Owner) -> bool {
        self.by_owner.contains_key(owner)
    }

    /// Remembers an account that is as the database has it.
    pub fn record_unchanged(&mut self, account: &Account) {
        self.unchanged.insert(account.id, account.clone());
    }

    /// Remembers an account as it would be now; `before` as it was.
    pub fn put(&mut self, before: Option<&Account>, account: Account) {
        let id = account.id;
        let is_left = |key: &StoredKey| account.keys.iter().any(|left| left.api_key == key.api_key);
        let removed = before.into_iter().flat_map(|before| &before.keys).filter(|key| !is_left(key));
        self.revoked.extend(removed.map(|key| key.api_key.clone()));
        self.unchanged.remove(&id);
        let stood = match self.changed.remove(&id) {
            Some(staged) => {
                self.unindex(&staged.account);
                staged.stood
            }
            None => before.map(IndexKeys::of),
        };
        if let Some(owner) = &account.owner {
            self.by_owner.insert(owner.clone(), id);
        }
        if let Some(name) = account.reserved_name() {
            self.by_name.insert(name, id);
        }
        self.by_api_key.extend(account.keys.iter().map(|key| (key.api_key.clone(), id)));
        self.changed.insert(id, OverlayAccount { account, stood });
        self.unsettled.push(id);
    }

    /// Keeps of the accounts so far only what others can come upon.
    pub fn compact(&mut self) {
        self.unchanged.clear();
        self.owners_without.clear();
        self.free_names.clear();
        self.free_keys.clear();
        for id in mem::take(&mut self.unsettled) {
            let Some(OverlayAccount { account, stood }) = self.changed.remove(&id) else { continue };
            if stood.as_ref() == Some(&IndexKeys::of(&account)) {
                self.unindex(&account);
                account.keys.iter().for_each(|key| _ = self.by_api_key.remove(&key.api_key));
            } else {
                // Whoever takes over what was let go of meets all of it.
                let is_retained = matches!(account.life, Life::Retained { .. });
                let account = if is_retained { account } else { index_only(account) };
                self.changed.insert(id, OverlayAccount { account, stood });
            }
        }
    }

    fn unindex(&mut self, account: &Account) {
        if let Some(owner) = &account.owner
            && self.by_owner.get(owner) == Some(&account.id)
        {
            self.by_owner.remove(owner);
        }
        let name = comparable_name(&account.settings.name);
        if self.by_name.get(&name) == Some(&account.id) {
            self.by_name.remove(&name);
        }
    }
}

/// The account without what is nobody's business but its own.
fn index_only(mut account: Account) -> Account {
    account.settings = StoredSettings { name: account.settings.name, ..StoredSettings::empty() };
    for key in &mut account.keys {
        key.sealed = SealedSecret { sealed_with: String::new(), bytes: Vec::new() };
    }
    account
}
