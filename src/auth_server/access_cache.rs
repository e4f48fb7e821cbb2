//! What the database said about tokens and accounts, kept in memory until it changes.
//!
//! Each change has a number. An answer of the database carries the number at which it was asked for, and counts only as
//! long as nothing that it depends on has changed since. So a load in flight never brings back what was there before.

use crate::account::{AccountId, ApiKey};
use crate::login::{KnownAccount, Login, LoginId, TokenHash};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::Arc;

/// The most tokens that are kept. Together with their logins they need about 50 MiB.
const TOKENS: usize = 100_000;

/// The most accounts that are kept.
const ACCOUNTS: usize = 10_000;

/// Most accounts have one pair of keys, and a second one for a while after a rotation.
const KEYS_OF_AN_ACCOUNT: usize = 2;

/// The changes of all accounts share this number of counters, and so do those of all logins. Two that share one only
/// make each other be read again.
const COUNTERS: usize = 4096;

/// Logins by the hash of their token, and accounts.
pub(super) struct AccessCache {
    /// The number of changes so far.
    changes: u64,
    /// The number of the last change that may have changed anything.
    everything: u64,
    changed_accounts: LastChanges,
    changed_logins: LastChanges,
    logins: Bounded<TokenHash, Entry<Login>>,
    accounts: Bounded<AccountId, Entry<KnownAccount>>,
    /// The accounts of API keys, also of keys that their account does not have any more.
    api_keys: Bounded<ApiKey, AccountId>,
    data_version: Option<i64>,
}

/// The number of the last change when a load began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket(u64);

struct Entry<T> {
    value: Arc<T>,
    asked: Ticket,
}

impl AccessCache {
    pub fn new() -> Self {
        Self::with_room_for(TOKENS, ACCOUNTS)
    }

    fn with_room_for(tokens: usize, accounts: usize) -> Self {
        Self {
            changes: 0,
            everything: 0,
            changed_accounts: LastChanges::new(),
            changed_logins: LastChanges::new(),
            logins: Bounded::new(tokens),
            accounts: Bounded::new(accounts),
            api_keys: Bounded::new(KEYS_OF_AN_ACCOUNT * accounts),
            data_version: None,
        }
    }

    /// Returns the ticket of a load. Take it before the database is asked.
    pub fn ticket(&self) -> Ticket {
        Ticket(self.changes)
    }

    /// Returns the login that has this token.
    pub fn login(&self, token: &TokenHash) -> Option<Arc<Login>> {
        let entry = self.logins.get(token)?;
        self.is_current_login(&entry.value, entry.asked).then(|| Arc::clone(&entry.value))
    }

    /// Returns the account.
    pub fn account(&self, id: AccountId) -> Option<Arc<KnownAccount>> {
        let entry = self.accounts.get(&id)?;
        self.is_current_account(id, entry.asked).then(|| Arc::clone(&entry.value))
    }

    /// Returns the account that has this API key.
    pub fn account_with(&self, api_key: &ApiKey) -> Option<Arc<KnownAccount>> {
        let account = self.account(*self.api_keys.get(api_key)?)?;
        account.keys.iter().any(|pair| pair.api_key == *api_key).then_some(account)
    }

    /// Keeps a login that was loaded, unless it was ended since the load began.
    pub fn keep_login(&mut self, token: TokenHash, login: Arc<Login>, asked: Ticket) {
        let is_older = self.logins.get(&token).is_some_and(|kept| kept.asked > asked);
        if !is_older && self.is_current_login(&login, asked) {
            self.logins.insert(token, Entry { value: login, asked });
        }
    }

    /// Keeps an account that was loaded, unless it was changed since the load began or a newer version is kept.
    pub fn keep_account(&mut self, account: Arc<KnownAccount>, asked: Ticket) {
        let id = account.id;
        let kept = self.accounts.get(&id).filter(|kept| self.is_current_account(id, kept.asked));
        let is_older = kept.is_some_and(|kept| kept.asked > asked || kept.value.version > account.version);
        if !is_older && self.is_current_account(id, asked) {
            for pair in &account.keys {
                self.api_keys.insert(pair.api_key.clone(), id);
            }
            self.accounts.insert(id, Entry { value: account, asked });
        }
    }

    pub fn account_changed(&mut self, id: AccountId) {
        self.changes += 1;
        self.changed_accounts.note(&id, self.changes);
    }

    pub fn login_changed(&mut self, id: LoginId) {
        self.changes += 1;
        self.changed_logins.note(&id, self.changes);
    }

    pub fn everything_changed(&mut self) {
        self.changes += 1;
        self.everything = self.changes;
        self.logins.clear();
        self.accounts.clear();
        self.api_keys.clear();
    }

    /// Forgets everything if this number of the last commit is another one than before.
    pub fn is_at(&mut self, data_version: i64) {
        if self.data_version != Some(data_version) {
            self.everything_changed();
            self.data_version = Some(data_version);
        }
    }

    /// The number of tokens that are kept.
    pub fn tokens(&self) -> usize {
        self.logins.entries.len()
    }

    fn is_current_login(&self, login: &Login, asked: Ticket) -> bool {
        self.everything <= asked.0 && self.changed_logins.last(&login.id) <= asked.0
    }

    fn is_current_account(&self, id: AccountId, asked: Ticket) -> bool {
        self.everything <= asked.0 && self.changed_accounts.last(&id) <= asked.0
    }
}

/// The number of the last change of each id, in bounded memory.
struct LastChanges {
    counters: Box<[u64]>,
    hasher: RandomState,
}

impl LastChanges {
    fn new() -> Self {
        Self { counters: vec![0; COUNTERS].into_boxed_slice(), hasher: RandomState::new() }
    }

    fn note(&mut self, id: &impl Hash, change: u64) {
        let counter = self.counter(id);
        self.counters[counter] = change;
    }

    fn last(&self, id: &impl Hash) -> u64 {
        self.counters[self.counter(id)]
    }

    fn counter(&self, id: &impl Hash) -> usize {
        usize::try_from(self.hasher.hash_one(id) % COUNTERS as u64).unwrap_or(0)
    }
}

/// A map that forgets its oldest keys.
struct Bounded<K, V> {
    most: usize,
    entries: HashMap<K, V>,
    by_age: VecDeque<K>,
}

impl<K: Hash + Eq + Clone, V> Bounded<K, V> {
    fn new(most: usize) -> Self {
        Self { most, entries: HashMap::new(), by_age: VecDeque::new() }
    }

    fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key)
    }

    fn insert(&mut self, key: K, value: V) {
        if self.entries.insert(key.clone(), value).is_some() {
            return;
        }
        self.by_age.push_back(key);
        if self.by_age.len() > self.most
            && let Some(oldest) = self.by_age.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.by_age.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Account, KeyId, Version, samples};
    use crate::login::{IssuedToken, Tokens};
    use jiff::Timestamp;
    use std::net::{IpAddr, Ipv4Addr};

    fn token(number: u8) -> TokenHash {
        TokenHash::from_bytes([number; 32])
    }

    fn login(number: u8) -> Arc<Login> {
        Arc::new(Login {
            id: LoginId::from_random([number; 16]),
            account: samples::account().id,
            key: KeyId::from_random([1; 16]),
            began: Timestamp::UNIX_EPOCH,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            tokens: Tokens::Access(IssuedToken { hash: token(number), expires: Timestamp::MAX }),
            end: None,
        })
    }

    fn account(version: i64) -> Arc<KnownAccount> {
        Arc::new(KnownAccount::new(Account { version: Version(version), ..samples::account() }))
    }

    #[test]
    fn what_was_loaded_is_kept_until_it_changes() {
        let mut cache = AccessCache::new();
        let (id, ticket) = (account(1).id, cache.ticket());
        cache.keep_login(token(1), login(1), ticket);
        cache.keep_account(account(1), ticket);
        assert!(cache.login(&token(1)).is_some() && cache.account(id).is_some());
        cache.login_changed(login(1).id);
        assert!(cache.login(&token(1)).is_none() && cache.account(id).is_some());
        cache.account_changed(id);
        assert!(cache.account(id).is_none());
    }

    #[test]
    fn a_load_in_flight_does_not_bring_back_what_has_changed() {
        let change: [fn(&mut AccessCache); 2] = [
            |cache| {
                cache.login_changed(login(1).id);
                cache.account_changed(account(1).id);
            },
            AccessCache::everything_changed,
        ];
        for change in change {
            let mut cache = AccessCache::new();
            let ticket = cache.ticket();
            change(&mut cache);
            cache.keep_login(token(1), login(1), ticket);
            cache.keep_account(account(1), ticket);
            assert!(cache.login(&token(1)).is_none() && cache.account(account(1).id).is_none());
        }
    }

    #[test]
    fn the_newer_of_two_loads_stays() {
        let mut cache = AccessCache::new();
        let ticket = cache.ticket();
        cache.keep_account(account(2), ticket);
        cache.keep_account(account(1), ticket);
        assert_eq!(cache.account(account(1).id).unwrap().version, Version(2));
        // After a failover the versions may be lower.
        cache.everything_changed();
        cache.keep_account(account(1), cache.ticket());
        assert_eq!(cache.account(account(1).id).unwrap().version, Version(1));
    }

    #[test]
    fn another_data_version_makes_everything_be_read_again() {
        let mut cache = AccessCache::new();
        cache.is_at(7);
        let ticket = cache.ticket();
        cache.keep_login(token(1), login(1), ticket);
        cache.is_at(7);
        assert!(cache.login(&token(1)).is_some());
        cache.is_at(8);
        assert!(cache.login(&token(1)).is_none());
        cache.keep_login(token(1), login(1), ticket);
        assert!(cache.login(&token(1)).is_none());
    }

    #[test]
    fn an_account_is_found_by_the_keys_that_it_has_now() {
        let mut cache = AccessCache::new();
        let api_key = account(1).keys[0].api_key.clone();
        assert!(cache.account_with(&api_key).is_none());
        cache.keep_account(account(1), cache.ticket());
        assert_eq!(cache.account_with(&api_key).unwrap().id, account(1).id);
        cache.account_changed(account(1).id);
        assert!(cache.account_with(&api_key).is_none());
        let without = KnownAccount::new(Account { keys: Vec::new(), ..samples::account() });
        cache.keep_account(Arc::new(without), cache.ticket());
        assert!(cache.account_with(&api_key).is_none(), "the account does not have the pair any more");
    }

    #[test]
    fn the_oldest_tokens_leave_when_there_is_no_room() {
        let mut cache = AccessCache::with_room_for(2, 2);
        for number in 1..=3 {
            cache.keep_login(token(number), login(number), cache.ticket());
            cache.keep_login(token(number), login(number), cache.ticket());
        }
        let kept = [1, 2, 3].map(|number| cache.login(&token(number)).is_some());
        assert_eq!((kept, cache.tokens()), ([false, true, true], 2));
    }

    /// The parts of one entry: the login behind its `Arc`, the entry with its key in a map that may be half empty, and
    /// the key in the order of age, which may be half empty too.
    #[test]
    fn the_most_tokens_need_less_than_64_mib() {
        let behind = size_of::<Login>() + 2 * size_of::<usize>();
        let entry = size_of::<(TokenHash, Entry<Login>)>() + 1;
        let slots = TOKENS.next_power_of_two() * if TOKENS * 8 > TOKENS.next_power_of_two() * 7 { 2 } else { 1 };
        let bytes = TOKENS * behind + slots * entry + TOKENS.next_power_of_two() * size_of::<TokenHash>();
        assert!(bytes < 60 * 1024 * 1024, "{} MiB", bytes / 1024 / 1024);
    }
}
