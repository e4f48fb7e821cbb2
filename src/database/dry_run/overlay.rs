//! The overlay of a dry run: the accounts that the dry run changed, with indexes to find them by.

use crate::account::{
    Account, AccountId, ApiKey, Life, Owner, SealedSecret, StoredKey, StoredSettings, comparable_name,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::mem::{self, Discriminant};

/// The changed accounts of a dry run, and what the dry run knows of the real database.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    /// The accounts that differ from the real database.
    changed: HashMap<AccountId, OverlayAccount>,
    /// The unchanged accounts that a caller has read. A change of one starts from here.
    unchanged: HashMap<AccountId, Account>,
    /// Owners that have no account in the real database.
    pub owners_without: HashSet<Owner>,
    /// Comparable names that no account in the real database holds.
    pub free_names: HashSet<String>,
    /// API keys that no account in the real database has.
    pub free_keys: HashSet<ApiKey>,
    /// The changed accounts, by owner.
    by_owner: HashMap<Owner, AccountId>,
    /// The changed accounts that are not deleted, by comparable name.
    by_name: HashMap<String, AccountId>,
    /// The changed accounts, by each API key that they have or had.
    by_api_key: HashMap<ApiKey, AccountId>,
    /// API keys of key pairs that the dry run removed from an account.
    pub revoked: HashSet<ApiKey>,
    /// The accounts that were changed since the last [`Overlay::compact`].
    uncompacted: Vec<AccountId>,
    /// The affiliates that OpsAdmin knows or would know; `None`: not read yet.
    pub affiliates: Option<BTreeSet<String>>,
}

#[derive(Debug)]
struct OverlayAccount {
    account: Account,
    /// The account's index keys in the real database, if it exists there.
    original: Option<IndexKeys>,
}

/// The parts of an account that can conflict with other accounts.
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
        self.changed.get(&id).map(|entry| entry.account.clone())
    }

    /// Returns the account as it would be now, if it was changed or read.
    pub fn known(&self, id: AccountId) -> Option<Account> {
        self.changed(id).or_else(|| self.unchanged.get(&id).cloned())
    }

    pub fn all_changed(&self) -> impl Iterator<Item = &Account> {
        self.changed.values().map(|entry| &entry.account)
    }

    pub fn is_changed(&self, id: AccountId) -> bool {
        self.changed.contains_key(&id)
    }

    pub fn is_owner_of_changed(&self, owner: &Owner) -> bool {
        self.by_owner.contains_key(owner)
    }

    /// Stores an unchanged account that a caller has read.
    pub fn record_unchanged(&mut self, account: &Account) {
        self.unchanged.insert(account.id, account.clone());
    }

    /// Stores a changed account. `before` is the account before the change.
    pub fn put(&mut self, before: Option<&Account>, account: Account) {
        let id = account.id;
        let is_left = |key: &StoredKey| account.keys.iter().any(|left| left.api_key == key.api_key);
        let removed = before.into_iter().flat_map(|before| &before.keys).filter(|key| !is_left(key));
        self.revoked.extend(removed.map(|key| key.api_key.clone()));
        self.unchanged.remove(&id);
        let original = match self.changed.remove(&id) {
            Some(entry) => {
                self.unindex(&entry.account);
                entry.original
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
        self.changed.insert(id, OverlayAccount { account, original });
        self.uncompacted.push(id);
    }

    /// Reduces the accounts so far to what can conflict with other accounts.
    pub fn compact(&mut self) {
        self.unchanged.clear();
        self.owners_without.clear();
        self.free_names.clear();
        self.free_keys.clear();
        for id in mem::take(&mut self.uncompacted) {
            let Some(OverlayAccount { account, original }) = self.changed.remove(&id) else { continue };
            if original.as_ref() == Some(&IndexKeys::of(&account)) {
                self.unindex(&account);
                account.keys.iter().for_each(|key| _ = self.by_api_key.remove(&key.api_key));
            } else {
                // A later resource may adopt a retained account, and then needs all of it.
                let is_retained = matches!(account.life, Life::Retained { .. });
                let account = if is_retained { account } else { index_only(account) };
                self.changed.insert(id, OverlayAccount { account, original });
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

/// Removes from the account what cannot conflict with other accounts: its settings except the name, and its sealed
/// keys.
fn index_only(mut account: Account) -> Account {
    account.settings = StoredSettings { name: account.settings.name, ..StoredSettings::empty() };
    for key in &mut account.keys {
        key.sealed = SealedSecret { sealed_with: String::new(), bytes: Vec::new() };
    }
    account
}
