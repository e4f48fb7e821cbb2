//! Property tests of the reconciler, for any desired and any observed state.

use super::memory::{Accounts, Counting, Secrets, lock};
use crate::account::{
    Account, AccountId, AccountName, AffiliateName, AllowedIp, AllowedIps, ClusterId, Description, KeyEntropy, KeyId,
    KeyPair, KeyState, Life, MAX_LIVE_KEY_PAIRS, Owner, Period, Role, RotationPolicy, RotationRequests, Settings,
    StoredKey, StoredSettings, Version, expired, rotation_reason,
};
use crate::api::{AdoptionPolicy, MARK_ANNOTATION, ManagementPolicy};
use crate::database::{Keyring, UnknownAffiliate};
use crate::reconcile::{
    AllowEveryCreation, AlwaysCurrent, Desired, Done, NotReady, Observed, ObservedSecret, Outcome, Reconciler,
    SecretPlan, Verified, plan, status,
};
use crate::secrets::{FoundSecret, IssuedKeys, ResourceIdentity, SecretLayout, SecretManifest, SecretRef};
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use proptest::collection::{btree_map, btree_set, vec};
use proptest::option;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use zeroize::Zeroizing;

const UID: &str = "uid-of-acme";

pub fn owner(name: &str) -> Owner {
    Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: name.to_owned() }
}

pub fn keyring() -> Keyring {
    Keyring::from_random(Zeroizing::new([7; 32]))
}

fn pair(seed: u8) -> KeyPair {
    let entropy = KeyEntropy { api_key: [seed; 16], secret_key: Zeroizing::new([seed; 32]) };
    KeyPair::from_entropy(KeyId::from_random([seed; 16]), &entropy)
}

/// Returns the key pair of this seed, marked for a Secret of the owner of this name.
fn issued_keys(seed: u8, name: &str) -> IssuedKeys {
    IssuedKeys { mark: keyring().mark(&owner(name), &pair(seed)), pair: pair(seed) }
}

fn at(name: &str) -> SecretRef {
    SecretRef { namespace: "ns".to_owned(), name: name.to_owned() }
}

prop_compose! {
    fn settings()(
        name in "[AaBb]{1,2}",
        description in "[xy]{0,1}",
        enabled: bool,
        use_refresh_token: bool,
        affiliate in option::of("[NS]"),
        roles in btree_set(prop::sample::select(Role::ALL.to_vec()), 0..3),
        ips in vec(prop::sample::select(vec!["10.0.0.0/8", "203.0.113.7", "2001:db8::/32"]), 0..3),
    ) -> Settings {
        Settings {
            name: AccountName::parse(&name).unwrap(),
            description: Description::parse(&description).unwrap(),
            enabled,
            use_refresh_token,
            affiliate: affiliate.map(|name| AffiliateName::parse(&name).unwrap()),
            roles,
            allowed_ips: AllowedIps::from_networks(ips.iter().map(|ip| AllowedIp::parse(ip).unwrap())),
        }
    }
}

prop_compose! {
    fn layout()(
        name in prop::sample::select(vec!["s1", "s2"]),
        swapped: bool,
        labels in btree_map("[ab]", "[12]", 0..2),
        annotations in btree_map("[ab]", "[12]", 0..2),
    ) -> SecretLayout {
        let (api_key, secret_key) = if swapped { ("secret", "api") } else { ("api", "secret") };
        SecretLayout {
            at: at(name),
            api_key_field: api_key.to_owned(),
            secret_key_field: secret_key.to_owned(),
            labels,
            annotations,
        }
    }
}

prop_compose! {
    fn asked()(trigger in option::of("[tu]"), annotation in option::of("[tu]")) -> RotationRequests {
        RotationRequests { trigger, annotation }
    }
}

prop_compose! {
    fn rotation()(interval in option::of(1i64..4), overlap in 0i64..2, asked in asked()) -> RotationPolicy {
        let period = |hours: i64| Period::parse(&format!("{hours}h")).unwrap();
        RotationPolicy {
            interval: interval.map(period),
            overlap: period(overlap.min(interval.unwrap_or(2) - 1)),
            requests: asked,
        }
    }
}

prop_compose! {
    pub fn desired()(settings in settings(), secret in layout(), rotation in rotation(), adopt: bool) -> Desired {
        let adoption = if adopt { AdoptionPolicy::IfUnowned } else { AdoptionPolicy::Never };
        let (uid, generation, management) = (Some(UID.to_owned()), Some(3), ManagementPolicy::Enforce);
        Desired {
            owner: owner("acme"), uid, generation, settings, declares_addresses: true, secret, rotation, adoption, management,
            paused: false, requested_by: None,
        }
    }
}

fn life() -> impl Strategy<Value = Life> {
    let since = Timestamp::UNIX_EPOCH;
    prop::sample::select(vec![Life::Live, Life::Retained { since }, Life::Deleted { since }])
}

/// Settings as they may be in the database, valid or not.
fn stored() -> impl Strategy<Value = StoredSettings> {
    let garbage = btree_set(prop::sample::select(vec!["Nobody", "not an IP", "0.0.0.0/0"]), 0..2);
    (settings(), garbage, any::<bool>(), any::<bool>()).prop_map(|(settings, garbage, spoil, any_ip)| {
        let mut stored = StoredSettings::from(&settings);
        if spoil {
            let garbage: BTreeSet<String> = garbage.into_iter().map(str::to_owned).collect();
            stored.roles.extend(garbage.clone());
            stored.allowed_ips.extend(garbage);
            stored.any_ip = any_ip;
        }
        stored
    })
}

/// The state of an account's key pair in the database.
#[derive(Debug, Clone, Copy)]
enum Row {
    Whole,
    Lost,
    Retiring,
}

fn row() -> impl Strategy<Value = Row> {
    prop_oneof![4 => Just(Row::Whole), 2 => Just(Row::Lost), 1 => Just(Row::Retiring)]
}

fn account(id: u8, owner: Option<Owner>, life: Life, settings: StoredSettings, row: Row) -> Account {
    let (id, pair) = (AccountId::from_random([id; 16]), pair(id));
    let key = StoredKey {
        id: pair.id,
        sealed: keyring().seal(id, pair.id, &pair.secret_key, [0; 12]),
        api_key: pair.api_key,
        state: match row {
            Row::Retiring => KeyState::Retiring { expires: Timestamp::UNIX_EPOCH },
            Row::Whole | Row::Lost => KeyState::Active,
        },
        created: Timestamp::UNIX_EPOCH,
    };
    let (answered, suspension) = (RotationRequests::default(), None);
    let keys = if matches!(row, Row::Lost) { Vec::new() } else { vec![key] };
    Account {
        id,
        version: Version(5),
        owner,
        adopter: None,
        life,
        settings,
        keys,
        answered_requests: answered,
        suspension,
    }
}

/// What may exist under a Secret's name.
#[derive(Debug, Clone)]
enum Place {
    Empty,
    /// The resource's own Secret, perhaps with another layout, other keys or changed data.
    Own {
        layout: SecretLayout,
        keys: u8,
        spoilt: BTreeMap<String, String>,
        uid: bool,
        unseen: bool,
    },
    /// The Secret of another resource.
    Others {
        layout: SecretLayout,
    },
    /// A Secret without any metadata of this program.
    Foreign {
        controlled: bool,
        unseen: bool,
    },
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Empty),
        (layout(), 1..=3_u8, btree_map("api|secret|extra", "[xy]", 0..2), any::<bool>(), any::<bool>())
            .prop_map(|(layout, keys, spoilt, uid, unseen)| Place::Own { layout, keys, spoilt, uid, unseen }),
        layout().prop_map(|layout| Place::Others { layout }),
        (any::<bool>(), any::<bool>()).prop_map(|(controlled, unseen)| Place::Foreign { controlled, unseen }),
    ]
}

fn fill(secrets: &Secrets, at: &SecretRef, place: Place) {
    let mut hidden = false;
    let secret = match place {
        Place::Empty => return,
        Place::Own { layout, keys, spoilt, uid, unseen } => {
            hidden = unseen;
            let identity = ResourceIdentity { owner: owner("acme"), uid: uid.then(|| UID.to_owned()) };
            let tie = identity.owner_reference();
            let mut secret = SecretManifest::new(&layout, identity, &issued_keys(keys, "acme")).to_secret();
            if let Some(tie) = tie {
                // An earlier version wrote Secrets with an owner reference and without a mark.
                secret.metadata.owner_references = Some(vec![tie]);
                secret.metadata.annotations.get_or_insert_default().remove(MARK_ANNOTATION);
            }
            let data = secret.data.get_or_insert_default();
            data.extend(spoilt.into_iter().map(|(key, value)| (key, ByteString(value.into_bytes()))));
            secret
        }
        Place::Others { layout } => {
            let identity = ResourceIdentity { owner: owner("other"), uid: Some("uid-of-other".to_owned()) };
            SecretManifest::new(&layout, identity, &issued_keys(2, "other")).to_secret()
        }
        Place::Foreign { controlled, unseen } => {
            hidden = unseen;
            let controller = OwnerReference {
                kind: "Certificate".to_owned(),
                uid: "x".to_owned(),
                controller: Some(true),
                ..Default::default()
            };
            let mut secret = Secret::default();
            secret.metadata.owner_references = controlled.then(|| vec![controller]);
            secret
        }
    };
    secrets.put(at, secret);
    if hidden {
        lock(&secrets.unseen).insert(at.clone());
    }
}

prop_compose! {
    /// The accounts and Secrets of a test: the resource's account, another account, and what is under the two Secret
    /// names.
    pub fn world()(
        own in option::weighted(0.8, (life(), stored(), row())),
        other in option::of((life(), stored(), row(), any::<bool>())),
        first in place(),
        second in place(),
    ) -> (Arc<Accounts>, Arc<Secrets>) {
        let (accounts, secrets) = (Accounts::default(), Secrets::default());
        lock(&accounts.rows).extend(own.map(|(life, settings, row)| account(1, Some(owner("acme")), life, settings, row)));
        lock(&accounts.rows).extend(other.map(|(life, settings, row, owned)| {
            account(2, owned.then(|| owner("other")), life, settings, row)
        }));
        lock(&accounts.affiliates).insert("N".to_owned());
        fill(&secrets, &at("s1"), first);
        fill(&secrets, &at("s2"), second);
        (Arc::new(accounts), Arc::new(secrets))
    }
}

pub fn reconciler(accounts: &Arc<Accounts>, secrets: &Arc<Secrets>) -> Reconciler {
    Reconciler {
        database: Arc::clone(accounts) as _,
        secrets: Arc::clone(secrets) as _,
        keyring: keyring().into(),
        unknown_affiliate: UnknownAffiliate::Refuse,
        actor: "test".to_owned(),
        environment: Arc::new(Counting::default()),
        declarations: Arc::new(AlwaysCurrent),
        unassigned: crate::account::UnassignedPolicy::Adopt,
        creations: Arc::new(AllowEveryCreation),
    }
}

/// Returns the reconciler at a time given in hours since the epoch.
pub fn reconciler_at(accounts: &Arc<Accounts>, secrets: &Arc<Secrets>, hours: i64) -> Reconciler {
    let environment = Counting::default();
    *lock(&environment.now) = Timestamp::from_second(hours * 3600).unwrap();
    Reconciler { environment: Arc::new(environment), ..reconciler(accounts, secrets) }
}

/// Returns the reconciler with a clock that the test can move.
pub fn reconciler_with_clock(accounts: &Arc<Accounts>, secrets: &Arc<Secrets>) -> (Reconciler, Arc<Counting>) {
    let clock = Arc::new(Counting::default());
    (Reconciler { environment: Arc::clone(&clock) as _, ..reconciler(accounts, secrets) }, clock)
}

pub fn run<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// Returns the active key pair of the account of this owner, opened.
fn keys_of(accounts: &Accounts, name: &str) -> Option<(KeyId, String, String)> {
    let rows = lock(&accounts.rows);
    let account = rows.iter().find(|row| row.owner == Some(owner(name)))?;
    let key = account.active_key()?;
    let secret_key = keyring().open(account.id, key.id, &key.sealed).unwrap();
    Some((key.id, key.api_key.as_str().to_owned(), secret_key.expose().to_owned()))
}

pub fn everything(accounts: &Accounts, secrets: &Secrets) -> (Vec<Account>, BTreeMap<SecretRef, Secret>) {
    (lock(&accounts.rows).clone(), lock(&secrets.objects).clone())
}

fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8(value.0.clone()).unwrap())).collect()
}

fn is_foreign(secret: &Secret) -> bool {
    ResourceIdentity { owner: owner("acme"), uid: Some(UID.to_owned()) }.check(&secret.metadata).is_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// One reconcile makes everything as declared or reports why not. The next reconcile changes nothing.
    #[test]
    fn a_second_reconcile_changes_nothing(desired in desired(), (accounts, secrets) in world(), hours in 0i64..5) {
        let reconciler = reconciler_at(&accounts, &secrets, hours);
        let outcome = run(reconciler.reconcile(&desired, None, None));
        let after = everything(&accounts, &secrets);
        let again = run(reconciler.reconcile(&desired, None, None));
        prop_assert_eq!(&again.done, &[]);
        prop_assert_eq!(everything(&accounts, &secrets), after);
        prop_assert_eq!(outcome.not_ready.map(|r| r.to_string()), again.not_ready.map(|r| r.to_string()));
    }

    /// If the resource is Ready, the account and the Secret are exactly as declared.
    #[test]
    fn a_ready_resource_is_as_declared(desired in desired(), (accounts, secrets) in world()) {
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        if outcome.not_ready.is_some() {
            return Ok(());
        }
        let account = run(reconciler(&accounts, &secrets).database.find_by_owner(&desired.owner)).unwrap().unwrap();
        prop_assert_eq!(account.life, Life::Live);
        prop_assert_eq!(account.settings, StoredSettings::from(&desired.settings));
        let (_, api_key, secret_key) = keys_of(&accounts, "acme").unwrap();
        let secret = lock(&secrets.objects)[&desired.secret.at].clone();
        let expected = BTreeMap::from([
            (desired.secret.api_key_field.clone(), api_key),
            (desired.secret.secret_key_field.clone(), secret_key),
        ]);
        prop_assert_eq!(texts(&secret), expected);
        let labels = secret.metadata.labels.unwrap();
        prop_assert!(desired.secret.labels.iter().all(|(name, value)| labels.get(name) == Some(value)));
    }

    /// Keys change only when a rotation was requested, or when neither the database nor the resource's own Secret has
    /// keys. A key pair that the database lost is restored from the Secret, unless another account uses it. An existing
    /// account gets no other key pair.
    #[test]
    fn keys_change_only_on_request_or_when_there_are_none(
        desired in desired(), (accounts, secrets) in world(), hours in 0i64..5,
    ) {
        let find = || run(reconciler(&accounts, &secrets).database.find_by_owner(&desired.owner)).unwrap();
        let (account, before) = (find(), keys_of(&accounts, "acme"));
        let known: Vec<String> = lock(&accounts.rows)
            .iter()
            .flat_map(|row| &row.keys)
            .map(|key| key.api_key.as_str().to_owned())
            .collect();
        let at_place = lock(&secrets.objects).get(&desired.secret.at).cloned();
        let in_secret = at_place
            .filter(|secret| !is_foreign(secret) && !lock(&secrets.unseen).contains(&desired.secret.at))
            .map(|secret| FoundSecret::new(desired.secret.at.clone(), secret))
            .and_then(|found| {
                let (api_key, secret_key) = found.keys()?;
                let is_proven = keyring().verifies_mark(found.mark(), &owner("acme"), &api_key, &secret_key);
                Some((api_key, secret_key, is_proven))
            });
        let outcome = run(reconciler_at(&accounts, &secrets, hours).reconcile(&desired, None, None));
        prop_assume!(!outcome.done.contains(&Done::Adopted));
        let after = keys_of(&accounts, "acme");
        let now = Timestamp::from_second(hours * 3600).unwrap();
        match (account, before, in_secret) {
            (Some(account), Some(before), _) => {
                let asked = rotation_reason(&desired.rotation, &account, now).is_some();
                if !asked {
                    prop_assert_eq!(after, Some(before));
                } else if !desired.rotation.overlap.is_zero() {
                    let kept = find().unwrap().keys.into_iter().any(|key| key.id == before.0);
                    prop_assert!(kept, "the old pair goes on working for the overlap");
                }
            }
            (account, None, Some((_, _, false))) => {
                prop_assert!(outcome.not_ready.is_some());
                prop_assert!(after.is_none() && account.is_some() == find().is_some(), "nobody believes these keys");
            }
            (_, None, Some((api_key, _, _))) if known.iter().any(|known| known == api_key.as_str()) => {
                prop_assert_eq!(after, None);
                prop_assert!(outcome.not_ready.is_some());
            }
            (_, None, Some((api_key, secret_key, _))) => match after {
                Some((_, api, secret)) => {
                    let may_rotate = desired.rotation.interval.is_some() || desired.rotation.requests != RotationRequests::default();
                    let given_back = (api.as_str(), secret.as_str()) == (api_key.as_str(), secret_key.expose());
                    prop_assert!(given_back || may_rotate);
                }
                None => prop_assert!(outcome.not_ready.is_some(), "it is given back, or something else is in the way"),
            },
            (Some(_), None, None) if !lock(&secrets.objects).contains_key(&desired.secret.at) => {
                prop_assert_eq!(after, None);
            }
            _ => {}
        }
    }

    /// However often a rotation is requested, an account has few key pairs, and the newest is in the Secret.
    #[test]
    fn key_pairs_stay_few(desired in desired(), (accounts, secrets) in world(), steps in vec((0i64..3, "[a-c]"), 1..12)) {
        let (reconciler, clock) = reconciler_with_clock(&accounts, &secrets);
        let mut desired = desired;
        for (hours, trigger) in steps {
            let later = clock.move_by(hours);
            desired.rotation.requests.trigger = Some(trigger);
            let outcome = run(reconciler.reconcile(&desired, None, None));
            let Some(account) = outcome.account.filter(|_| outcome.not_ready.is_none()) else {
                return Ok(());
            };
            prop_assert!(account.keys.len() <= MAX_LIVE_KEY_PAIRS, "{:?}", account.keys);
            prop_assert_eq!(account.keys.iter().filter(|key| key.state == KeyState::Active).count(), 1);
            prop_assert!(expired(&account, later).is_empty());
            let (_, api_key, _) = keys_of(&accounts, "acme").unwrap();
            let secret = lock(&secrets.objects)[&desired.secret.at].clone();
            prop_assert_eq!(&texts(&secret)[&desired.secret.api_key_field], &api_key);
        }
    }

    /// For a resource that only observes, differences are reported and nothing is changed.
    #[test]
    fn observing_changes_nothing(desired in desired(), (accounts, secrets) in world(), hours in 0i64..5) {
        let observed = Desired { management: ManagementPolicy::Observe, ..desired };
        let before = everything(&accounts, &secrets);
        let outcome = run(reconciler_at(&accounts, &secrets, hours).reconcile(&observed, None, None));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(outcome.drift.is_empty(), outcome.not_ready.is_none());
    }

    /// A frozen controller changes nothing. If it reports nothing that is left to do, a reconcile does nothing either,
    /// except that it removes expired key pairs.
    #[test]
    fn a_frozen_controller_changes_nothing_and_leaves_nothing_out(
        desired in desired(), (accounts, secrets) in world(), hours in 0i64..5,
    ) {
        let before = everything(&accounts, &secrets);
        let reported = run(reconciler_at(&accounts, &secrets, hours).report_frozen(&desired, None, None));
        prop_assert_eq!(everything(&accounts, &secrets), before);
        prop_assert_eq!(reported.done, []);
        let is_pending = matches!(reported.not_ready, Some(NotReady::Frozen { .. }));
        let reconciled = run(reconciler_at(&accounts, &secrets, hours).reconcile(&desired, None, None));
        let is_left_out = |done: &Done| !is_pending && !matches!(done, Done::Revoked(_));
        prop_assert!(!reconciled.done.iter().any(is_left_out), "{:?} {:?}", reported.not_ready, reconciled.done);
    }

    /// Foreign Secrets and accounts of other owners are not changed.
    #[test]
    fn foreign_secrets_and_accounts_are_not_changed(desired in desired(), (accounts, secrets) in world()) {
        let foreign = |(rows, objects): (Vec<Account>, BTreeMap<SecretRef, Secret>)| {
            let may_be_adopted = |row: &Account| {
                desired.adoption == AdoptionPolicy::IfUnowned && (row.owner.is_none() || row.life != Life::Live)
            };
            let rows = rows.into_iter().filter(|row| row.owner != Some(owner("acme")) && !may_be_adopted(row));
            let rows: Vec<_> = rows.collect();
            let objects: BTreeMap<_, _> = objects.into_iter().filter(|(_, secret)| is_foreign(secret)).collect();
            (rows, objects)
        };
        let before = foreign(everything(&accounts, &secrets));
        run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        prop_assert_eq!(foreign(everything(&accounts, &secrets)), before);
    }

    /// A plan never changes a foreign Secret.
    #[test]
    fn a_foreign_secret_is_never_in_a_plan(desired in desired(), own in option::of((life(), stored(), row())), stale_secrets in vec("s[3-5]", 0..3)) {
        let account = own.map(|(life, settings, row)| account(1, Some(owner("acme")), life, settings, row));
        let stale_secrets = stale_secrets.iter().map(|name| at(name)).collect();
        let secret = ObservedSecret::Foreign { holder: "them".to_owned() };
        let plan = plan(&desired, &Observed { account, secret, stale_secrets }, Timestamp::UNIX_EPOCH);
        prop_assert_eq!(plan.secret, SecretPlan::Refuse { holder: "them".to_owned() });
        prop_assert!(plan.remove.is_empty(), "the keys would be nowhere");
    }

    /// A refusal never widens access: each account is set as it was before or as declared.
    #[test]
    fn a_refused_account_is_set_as_it_was_or_as_declared(desired in desired(), (accounts, secrets) in world()) {
        let before = lock(&accounts.rows).clone();
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        let after = lock(&accounts.rows).clone();
        let is_as_it_was = |row: &Account| before.iter().any(|was| was.id == row.id && was.settings == row.settings);
        let is_as_declared = |row: &Account| row.settings == StoredSettings::from(&desired.settings);
        prop_assert!(after.iter().all(|row| is_as_it_was(row) || is_as_declared(row)));
        if matches!(outcome.not_ready, Some(NotReady::NameTaken { .. } | NotReady::UnknownAffiliate { .. })) {
            prop_assert!(after.iter().all(is_as_it_was));
        }
    }

    /// A resource that declares no addresses never makes an account usable from more addresses. Everything else is
    /// done, and the status reports that the list was kept.
    #[test]
    fn an_address_list_that_the_spec_leaves_out_is_kept(desired in desired(), (accounts, secrets) in world()) {
        let mut silent = Desired { declares_addresses: false, ..desired };
        silent.settings.allowed_ips = AllowedIps::any();
        let before = lock(&accounts.rows).clone();
        let outcome = run(reconciler(&accounts, &secrets).reconcile(&silent, None, None));
        for row in &*lock(&accounts.rows) {
            let Some(was) = before.iter().find(|was| was.id == row.id) else { continue };
            prop_assert_eq!(row.settings.any_ip, was.settings.any_ip);
            prop_assert!(row.settings.allowed_ips.is_subset(&was.settings.allowed_ips));
        }
        if let Some(NotReady::AllowedIpsMissing { .. }) = outcome.not_ready {
            let account = outcome.account.unwrap();
            prop_assert!(!account.settings.any_ip);
            let declared = StoredSettings::from(&silent.settings);
            let kept = StoredSettings { any_ip: false, allowed_ips: account.settings.allowed_ips.clone(), ..declared };
            prop_assert_eq!(account.settings, kept);
        } else if outcome.not_ready.is_none() {
            prop_assert!(outcome.account.unwrap().settings.any_ip);
        }
    }

    /// A Secret that the status says was verified is not read again, but any later edit is still corrected.
    #[test]
    fn a_verified_secret_is_not_read_until_it_changes(desired in desired(), (accounts, secrets) in world(), edit in "api|secret|extra") {
        let reconciler = reconciler(&accounts, &secrets);
        let outcome = run(reconciler.reconcile(&desired, None, None));
        if outcome.not_ready.is_some() {
            return Ok(());
        }
        let said = status(desired.generation, &desired.secret.at.name, &outcome, None, Timestamp::UNIX_EPOCH);
        let verified = Verified::of(&said);
        prop_assert!(verified.is_some());
        let good = lock(&secrets.objects)[&desired.secret.at].clone();
        let again = run(reconciler.reconcile(&desired, verified.as_ref(), None));
        let said_again = status(desired.generation, &desired.secret.at.name, &again, Some(&said), Timestamp::UNIX_EPOCH);
        prop_assert_eq!(said_again, said, "nothing new, so nothing is written");

        let mut edited = good.clone();
        edited.data.get_or_insert_default().insert(edit, ByteString(b"edited".to_vec()));
        secrets.put(&desired.secret.at, edited);
        let put_back = run(reconciler.reconcile(&desired, verified.as_ref(), None));
        prop_assert!(put_back.not_ready.is_none());
        prop_assert_eq!(&lock(&secrets.objects)[&desired.secret.at].data, &good.data);
    }

    /// No outcome contains a secret key in plain text.
    #[test]
    fn no_outcome_shows_a_secret_key(desired in desired(), (accounts, secrets) in world()) {
        let outcome: Outcome = run(reconciler(&accounts, &secrets).reconcile(&desired, None, None));
        let said = status(desired.generation, "s", &outcome, None, Timestamp::UNIX_EPOCH);
        let done: Vec<String> = outcome.done.iter().map(ToString::to_string).collect();
        let not_ready = outcome.not_ready.as_ref().map(ToString::to_string);
        let shown = format!("{outcome:?} {done:?} {not_ready:?} {}", serde_json::to_string(&said).unwrap());
        prop_assert!(!shown.contains("opsa_sk_"), "{}", shown);
    }
}
