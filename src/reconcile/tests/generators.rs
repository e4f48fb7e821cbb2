//! Any desired and any observed state for the property tests, and reconcilers over them.

use super::memory::{Accounts, Counting, Secrets, lock};
use crate::account::{
    Account, AccountId, AccountName, AffiliateName, AllowedIp, AllowedIps, ClusterId, Description, KeyEntropy, KeyId,
    KeyPair, KeyState, Life, Owner, Period, Role, RotationPolicy, RotationRequests, Settings, StoredKey,
    StoredSettings, Version,
};
use crate::api::{AdoptionPolicy, MARK_ANNOTATION, ManagementPolicy};
use crate::database::{Keyring, UnknownAffiliate};
use crate::reconcile::{AllowEveryCreation, AlwaysCurrent, Desired, Reconciler};
use crate::secrets::{IssuedKeys, ResourceIdentity, SecretLayout, SecretManifest, SecretRef};
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

pub const UID: &str = "uid-of-acme";

pub fn owner(name: &str) -> Owner {
    Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: name.to_owned() }
}

pub fn keyring() -> Keyring {
    Keyring::from_random(Zeroizing::new([7; 32]))
}

pub fn pair(seed: u8) -> KeyPair {
    let entropy = KeyEntropy { api_key: [seed; 16], secret_key: Zeroizing::new([seed; 32]) };
    KeyPair::from_entropy(KeyId::from_random([seed; 16]), &entropy)
}

/// Returns the key pair of this seed, marked for a Secret of the owner of this name.
pub fn issued_keys(seed: u8, name: &str) -> IssuedKeys {
    IssuedKeys { mark: keyring().mark(&owner(name), &pair(seed)), pair: pair(seed) }
}

pub fn at(name: &str) -> SecretRef {
    SecretRef { namespace: "ns".to_owned(), name: name.to_owned() }
}

prop_compose! {
    pub fn settings()(
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
    pub fn layout()(
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
    pub fn asked()(trigger in option::of("[tu]"), annotation in option::of("[tu]")) -> RotationRequests {
        RotationRequests { trigger, annotation }
    }
}

prop_compose! {
    pub fn rotation()(interval in option::of(1i64..4), overlap in 0i64..2, asked in asked()) -> RotationPolicy {
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

pub fn life() -> impl Strategy<Value = Life> {
    let since = Timestamp::UNIX_EPOCH;
    prop::sample::select(vec![Life::Live, Life::Retained { since }, Life::Deleted { since }])
}

/// Settings as they may be in the database, valid or not.
pub fn stored() -> impl Strategy<Value = StoredSettings> {
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
pub enum Row {
    Whole,
    Lost,
    Retiring,
}

pub fn row() -> impl Strategy<Value = Row> {
    prop_oneof![4 => Just(Row::Whole), 2 => Just(Row::Lost), 1 => Just(Row::Retiring)]
}

pub fn account(id: u8, owner: Option<Owner>, life: Life, settings: StoredSettings, row: Row) -> Account {
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
pub enum Place {
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

pub fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Empty),
        (layout(), 1..=3_u8, btree_map("api|secret|extra", "[xy]", 0..2), any::<bool>(), any::<bool>())
            .prop_map(|(layout, keys, spoilt, uid, unseen)| Place::Own { layout, keys, spoilt, uid, unseen }),
        layout().prop_map(|layout| Place::Others { layout }),
        (any::<bool>(), any::<bool>()).prop_map(|(controlled, unseen)| Place::Foreign { controlled, unseen }),
    ]
}

pub fn fill(secrets: &Secrets, at: &SecretRef, place: Place) {
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
pub fn keys_of(accounts: &Accounts, name: &str) -> Option<(KeyId, String, String)> {
    let rows = lock(&accounts.rows);
    let account = rows.iter().find(|row| row.owner == Some(owner(name)))?;
    let key = account.active_key()?;
    let secret_key = keyring().open(account.id, key.id, &key.sealed).unwrap();
    Some((key.id, key.api_key.as_str().to_owned(), secret_key.expose().to_owned()))
}

pub fn everything(accounts: &Accounts, secrets: &Secrets) -> (Vec<Account>, BTreeMap<SecretRef, Secret>) {
    (lock(&accounts.rows).clone(), lock(&secrets.objects).clone())
}

pub fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8(value.0.clone()).unwrap())).collect()
}

pub fn is_foreign(secret: &Secret) -> bool {
    ResourceIdentity { owner: owner("acme"), uid: Some(UID.to_owned()) }.check(&secret.metadata).is_err()
}
