//! A life of a few accounts in which the program sends each of its statements to the account database.
//!
//! Ids, keys and times are fixed, so that two recordings of one program are equal.

use crate::database_contract::fixture::{
    affiliate, change, deletion, full_settings, keyring, name, now, owner, settings, update,
};
use futures::future::join_all;
use jiff::ToSpan as _;
use opsadmin_operator::account::{
    Account, AccountId, Adopter, KeyEntropy, KeyId, KeyPair, KeyState, KeyUse, Requester, RotationRequests, Settings,
    StoredKey, SuspensionReason,
};
use opsadmin_operator::database::{AccountAdmin, Action, Change, Resealed, UnknownAffiliate, WithLogins};
use opsadmin_operator::login::{
    AssertionHash, AssertionUse, EndReason, Family, FamilySeed, Generation, Generations, IssuedToken, Login, LoginId,
    RefreshWrite, TokenHash, Tokens, UsedAssertion,
};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// Sends each statement of the program to a migrated, empty database.
pub async fn run(program: &WithLogins) {
    let database = &*program.accounts;
    start(database).await;
    let [first, second] = creations(database).await;
    changes(database, first).await;
    let imported = adoptions(database).await;
    reads(database, &second, &imported).await;
    logins(program, &second).await;
    seals(database, &second).await;
    ends(database, second).await;
}

/// What a controller asks before it begins to work.
async fn start(database: &dyn AccountAdmin) {
    database.answers().await.unwrap();
    database.migrate().await.unwrap();
    database.schema().await.unwrap();
    database.identity().await.unwrap();
    database.history().await.unwrap();
    database.missing_privileges().await.unwrap();
    database.sealing_keys_in_use().await.unwrap();
    database.list_by_cluster(&owner("any").cluster).await.unwrap();
    assert!(database.register_affiliate(&affiliate("North"), now()).await.unwrap());
}

async fn creations(database: &dyn AccountAdmin) -> [Account; 2] {
    // The first one begins at once, and the others wait for it and are committed together.
    let names = ["first", "second", "third"];
    let changes = [1, 2, 3].map(|number| creation(number, full_settings_in_one_line(names[usize::from(number) - 1])));
    let made = join_all(changes.iter().map(|change| database.commit(change))).await;
    let [first, second, _] = made.try_into().expect("there are three");
    assert_eq!(database.find_by_id(changes[1].account).await.unwrap(), second.as_ref().ok().cloned());
    [first.unwrap(), second.unwrap()]
}

/// Each change that an account that a resource declares can have.
async fn changes(database: &dyn AccountAdmin, account: Account) {
    let commit = async |change: Change| database.commit(&change).await.unwrap();
    let requested_by = Some(Requester::new("argocd-controller", Some(now()), Some("alice@example.com")));
    let account = commit(Change { requested_by, ..update(&account, &settings("renamed")) }).await;
    let account = commit(rotation(&account, 11, true)).await;
    let account = commit(rotation(&account, 12, true)).await;
    let retiring: Vec<KeyId> =
        account.keys.iter().filter(|key| key.state != KeyState::Active).map(|key| key.id).collect();
    let account = commit(change(account.id, Action::Revoke { expected: account.version, keys: retiring })).await;
    let account = commit(rotation(&account, 13, false)).await;
    let reason = SuspensionReason::parse("a leak").unwrap();
    let account = commit(change(account.id, Action::Suspend { expected: account.version, reason })).await;
    let account = commit(change(account.id, Action::Resume { expected: account.version })).await;
    let gone = commit(deletion(&account)).await;
    assert_eq!(database.find_deleted_by_name(&name("renamed")).await.unwrap().len(), 1);
    let account = commit(update(&gone, &settings("renamed"))).await;
    let key = key(account.id, 14);
    commit(change(account.id, Action::RestoreKey { expected: account.version, key })).await;
}

/// An imported account that a resource adopts, and a retained one that another resource adopts.
async fn adoptions(database: &dyn AccountAdmin) -> Account {
    let commit = async |change: Change| database.commit(&change).await.unwrap();
    let id = AccountId::from_random([4; 16]);
    let here = Adopter::parse("one/partners/imported").unwrap();
    let (settings, unknown_affiliate) = (full_settings_in_one_line("imported"), UnknownAffiliate::Register);
    let import = Action::Import { settings, key: key(id, 4), adopter: None, unknown_affiliate };
    database.commit_all(&[change(id, import)]).await.unwrap();
    let imported = database.find_by_id(id).await.unwrap().unwrap();
    let allowed = Action::AllowAdoption { expected: imported.version, adopter: Some(here) };
    let imported = commit(change(id, allowed)).await;
    assert_eq!(database.list_undeclared().await.unwrap().len(), 1);
    let answered = RotationRequests { trigger: Some("spring".to_owned()), annotation: None };
    let adopt = Action::Adopt { expected: imported.version, owner: owner("imported"), answered };
    let owned = commit(change(id, adopt)).await;
    commit(change(id, Action::Retain { expected: owned.version })).await
}

async fn reads(database: &dyn AccountAdmin, account: &Account, retained: &Account) {
    let (cluster, api_key) = (owner("any").cluster, account.keys[0].api_key.clone());
    assert!(database.find_by_owner(&owner("number-2")).await.unwrap().is_some());
    assert_eq!(database.find_by_owners(&[owner("number-1"), owner("number-2")]).await.unwrap().len(), 2);
    assert!(database.find_by_name(&name("SECOND")).await.unwrap().is_some());
    assert!(database.find_by_api_key(&api_key).await.unwrap().is_some());
    assert_eq!(database.find_holders(&[name("imported")], std::slice::from_ref(&api_key)).await.unwrap().len(), 2);
    let obstacles = database.find_obstacles(&[name("second"), name("imported")], &[affiliate("North")]).await.unwrap();
    assert_eq!((obstacles.names.len(), obstacles.affiliates.len()), (2, 1));
    assert_eq!(database.find_by_resource(None, &owner("imported").name).await.unwrap(), std::slice::from_ref(retained));
    assert_eq!(database.list().await.unwrap().len(), 4);
    assert_eq!(database.find_readable(&[owner("number-1"), owner("number-2")]).await.unwrap().len(), 2);
    assert_eq!(database.versions(&cluster).await.unwrap().len(), 4);
    assert_eq!(database.live(&cluster).await.unwrap().len(), 3);
    // Not with a mark: its moment is another one in each database.
    assert_eq!(database.changes_since(&cluster, None).await.unwrap().accounts, None);
    assert_eq!(database.versions_after(&cluster, None, 3).await.unwrap().len(), 3);
    assert_eq!(database.live_after(&cluster, None, 3).await.unwrap().len(), 3);
    assert_eq!(database.owners().await.unwrap().len(), 4);
    assert_eq!(database.names(10).await.unwrap().len(), 4);
    assert_eq!(database.affiliates().await.unwrap().len(), 2);
    assert_eq!(database.deletions(&cluster, now()).await.unwrap().live, 3);
    assert!(!database.journal(account.id).await.unwrap().is_empty());
    assert!(!database.journal_after(0, 10).await.unwrap().is_empty());
    assert!(database.revoked(&[api_key]).await.unwrap().is_empty());
}

/// The life of two logins: one with an access token, and one that is refreshed.
async fn logins(program: &WithLogins, account: &Account) {
    let database = program.logins.as_ref();
    let pair = account.keys[0].id;
    let assertion = |number: u8| {
        let hash = AssertionHash::from_bytes([number; 32]);
        UsedAssertion { key: pair, hash, until: now() + 2.minutes() }
    };
    let token = |number: u8| IssuedToken { hash: TokenHash::from_bytes([number; 32]), expires: now() + 5.minutes() };
    let generation =
        |number: u8| Generation { refresh: TokenHash::from_bytes([number; 32]), access: token(number + 1) };
    let login = |number: u8, tokens: Tokens| Login {
        id: LoginId::from_random([number; 16]),
        account: account.id,
        key: pair,
        began: now(),
        address: "203.0.113.7".parse().unwrap(),
        tokens,
        end: None,
    };
    let seed = FamilySeed::from_bytes([9; 32]);
    let family = Family { seed, current: generation(10), previous: None, expires: now() + 8.hours() };
    let (short, long) = (login(1, Tokens::Access(token(1))), login(2, Tokens::Family(family)));
    assert_eq!(database.begin(&short, &assertion(1)).await.unwrap(), AssertionUse::First);
    assert_eq!(database.begin(&long, &assertion(1)).await.unwrap(), AssertionUse::Replay);
    assert_eq!(database.begin(&long, &assertion(2)).await.unwrap(), AssertionUse::First);
    let next = Generations { current: generation(20), previous: generation(10) };
    let current = TokenHash::from_bytes([10; 32]);
    assert_eq!(database.refresh(long.id, &current, &next, &assertion(3)).await.unwrap(), RefreshWrite::Done);
    assert_eq!(database.refresh(long.id, &current, &next, &assertion(4)).await.unwrap(), RefreshWrite::Overtaken);
    assert_eq!(database.use_assertion(&assertion(4)).await.unwrap(), AssertionUse::First);
    assert_eq!(database.find(short.id).await.unwrap(), Some(short.clone()));
    assert!(database.find_by_access_token(&token(21).hash).await.unwrap().is_some());
    assert_eq!(database.list(None, now()).await.unwrap().len(), 2);
    assert_eq!(database.list(Some(account.id), now()).await.unwrap().len(), 2);
    assert!(database.end(short.id, now(), EndReason::Revoked).await.unwrap());
    assert_eq!(database.end_account(account.id, now(), EndReason::LoggedOut).await.unwrap(), 1);
    let used = KeyUse { key: pair, first: now(), last: now() + 1.minute() };
    database.record_uses(&[used]).await.unwrap();
    let accounts = program.accounts.as_ref();
    assert_eq!(accounts.uses(Some(account.id)).await.unwrap(), [used]);
    assert_eq!(accounts.uses(None).await.unwrap(), [used]);
    let owner = account.owner.clone().unwrap();
    assert_eq!(accounts.key_uses(&owner.cluster).await.unwrap(), [(owner, used)]);
    database.heartbeat(1).await.unwrap();
    database.data_version().await.unwrap();
    assert_eq!(database.purge_expired(now() + 1.hour(), 100).await.unwrap(), 1 + 4);
}

/// A rotation of the keyring.
async fn seals(database: &dyn AccountAdmin, account: &Account) {
    let (old, new) = (keyring(), keyring().with_another(Zeroizing::new([8; 32])).sealing_with_last_key());
    let sealing = |ring: &opsadmin_operator::database::Keyring| ring.marks_with().unwrap().to_owned();
    assert_eq!(database.sealed_pairs().await.unwrap().len(), 1);
    let pairs = database.sealed_with_other_keys(&sealing(&new), None, 100).await.unwrap();
    let pair = pairs.iter().find(|pair| pair.account == account.id).unwrap();
    database.sealed_with_other_keys(&sealing(&new), Some(pair), 100).await.unwrap();
    let secret = old.open(pair.account, pair.key.id, &pair.key.sealed).unwrap();
    let sealed = new.seal(pair.account, pair.key.id, &secret, [9; 12]);
    let resealed = Resealed { account: pair.account, key: pair.key.id, before: sealing(&old), sealed };
    assert_eq!(database.reseal(&[resealed], now()).await.unwrap(), 1);
    database.supersede("unused", now()).await.unwrap();
    let retired = database.retire(&BTreeSet::from(["unused".to_owned()]), now()).await.unwrap();
    assert_eq!(retired, database.outgoing_keys().await.unwrap());
}

/// The end of an account, and of its journal.
async fn ends(database: &dyn AccountAdmin, account: Account) {
    let account = database.find_by_id(account.id).await.unwrap().unwrap();
    database.commit(&deletion(&account)).await.unwrap();
    let later = now() + 1.hour();
    assert_eq!(database.purge(&owner("any").cluster, &|_| false, later, later).await.unwrap().accounts, 1);
    database.trim_journal(later).await.unwrap();
    database.pending_migrations().await.unwrap();
}

fn creation(number: u8, settings: Settings) -> Change {
    let id = AccountId::from_random([number; 16]);
    let answered = RotationRequests { trigger: None, annotation: Some(format!("request {number}")) };
    let (owner, key) = (owner(&format!("number-{number}")), key(id, number));
    change(id, Action::Create { owner, settings, key, answered, unknown_affiliate: UnknownAffiliate::Register })
}

fn rotation(account: &Account, number: u8, overlaps: bool) -> Change {
    let answered = RotationRequests { trigger: Some(format!("trigger {number}")), annotation: None };
    let old_expires = overlaps.then(|| now() + 24.hours());
    let (expected, key) = (account.version, key(account.id, number));
    change(account.id, Action::Rotate { expected, key, old_expires, revoke: Vec::new(), answered })
}

fn key(account: AccountId, number: u8) -> StoredKey {
    let entropy = KeyEntropy { api_key: [number; 16], secret_key: Zeroizing::new([number; 32]) };
    let pair = KeyPair::from_entropy(KeyId::from_random([number; 16]), &entropy);
    StoredKey {
        id: pair.id,
        sealed: keyring().seal(account, pair.id, &pair.secret_key, [number; 12]),
        api_key: pair.api_key,
        state: KeyState::Active,
        created: now(),
    }
}

/// The server's log has one line for each statement and its parameters.
fn full_settings_in_one_line(account_name: &str) -> Settings {
    let description = opsadmin_operator::account::Description::parse("Zoë's 🔌, and a 'quoted' word").unwrap();
    Settings { description, ..full_settings(account_name) }
}
