//! Edits that other writers make in the database and to Secrets during a walk.

use super::super::generators::{keyring, owner};
use super::super::memory::{Accounts, Secrets, lock};
use super::steps::{AccountEdit, Edit, SecretEdit, Slot};
use crate::account::{
    Account, AccountId, ClusterId, KeyEntropy, KeyId, KeyPair, KeyState, Life, Owner, Role, StoredKey, StoredSettings,
    Suspension, comparable_name, samples,
};
use crate::api::{ApiAccount, GROUP, KIND, MARK_ANNOTATION, VERSION};
use crate::secrets::SecretRef;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use zeroize::Zeroizing;

/// A label on Secrets that lost the annotation with the list of formerly declared labels.
pub const UNMARKED: &str = "unmarked";

/// What other writers need to know about a resource to edit its account or its Secret.
#[derive(Debug, Clone)]
pub struct Target {
    pub owner: Owner,
    pub name: String,
    pub secret: SecretRef,
    /// The UID of the resource, if the resource is on the cluster.
    pub uid: Option<String>,
}

impl Target {
    pub fn of(slot: Slot, resource: &ApiAccount, uid: Option<String>) -> Self {
        let metadata_name = resource.metadata.name.clone().unwrap();
        let secret = resource.spec.secret.name.clone().unwrap_or_else(|| format!("{metadata_name}-opsadmin"));
        Self {
            owner: owner(super::world::NAMES[slot]),
            name: resource.spec.name.clone().unwrap_or(metadata_name),
            secret: SecretRef { namespace: "ns".to_owned(), name: secret },
            uid,
        }
    }
}

impl Edit {
    pub fn slot(&self) -> Slot {
        match self {
            Self::Account(slot, _) | Self::Secret(slot, _) => *slot,
        }
    }

    /// Makes the edit if there is something to edit and the database's constraints allow the edit.
    pub fn make(&self, target: &Target, accounts: &Accounts, secrets: &Secrets, now: Timestamp) {
        match self {
            Self::Account(_, AccountEdit::UnownedNamesake) => add_unowned(&target.name, accounts),
            Self::Account(_, edit) => edit_account(edit, target, accounts, now),
            Self::Secret(_, edit) => edit_secret(edit, target, secrets),
        }
    }
}

fn edit_account(edit: &AccountEdit, target: &Target, accounts: &Accounts, now: Timestamp) {
    let mut rows = lock(&accounts.rows);
    let Some(at) = rows.iter().position(|row| row.owner.as_ref() == Some(&target.owner)) else {
        return;
    };
    if matches!(edit, AccountEdit::Delete) {
        rows.remove(at);
        return;
    }
    let mut row = rows[at].clone();
    let settings = &mut row.settings;
    match edit {
        AccountEdit::Name(name) if is_taken(&rows, row.id, name) => return,
        AccountEdit::Name(name) => (*name).clone_into(&mut settings.name),
        AccountEdit::Disable => settings.enabled = false,
        AccountEdit::Enable => settings.enabled = !matches!(row.life, Life::Deleted { .. }),
        AccountEdit::Affiliate(affiliate) => settings.affiliate = affiliate.map(str::to_owned),
        AccountEdit::Administrator => _ = settings.roles.insert(Role::Administrator.to_string()),
        AccountEdit::AnyIp => settings.any_ip = true,
        AccountEdit::NoIp => settings.allowed_ips.clear(),
        AccountEdit::Suspend => row.suspension = Some(Suspension { since: now, reason: "unpaid".to_owned() }),
        AccountEdit::Resume => row.suspension = None,
        AccountEdit::DeleteActive => row.keys.retain(|key| key.state != KeyState::Active),
        AccountEdit::RetireActive => {
            let expires = now + SignedDuration::from_hours(1);
            for key in row.keys.iter_mut().filter(|key| key.state == KeyState::Active) {
                key.state = KeyState::Retiring { expires };
            }
        }
        AccountEdit::TakenElsewhere => {
            let cluster = ClusterId::parse("elsewhere").unwrap();
            let theirs = Owner { cluster, ..target.owner.clone() };
            if rows.iter().any(|row| row.owner.as_ref() == Some(&theirs)) {
                return;
            }
            row.owner = Some(theirs);
        }
        AccountEdit::LetGo => row.owner = None,
        AccountEdit::Delete | AccountEdit::UnownedNamesake => return,
    }
    row.version.0 += 1;
    rows[at] = row;
}

fn is_taken(rows: &[Account], except: AccountId, name: &str) -> bool {
    let is_live = |row: &&Account| row.id != except && !matches!(row.life, Life::Deleted { .. });
    rows.iter().filter(is_live).any(|row| comparable_name(&row.settings.name) == comparable_name(name))
}

fn add_unowned(name: &str, accounts: &Accounts) {
    let mut rows = lock(&accounts.rows);
    let mut made = lock(&accounts.made_by_hand);
    let id = AccountId::from_random([0xee - *made; 16]);
    if is_taken(&rows, id, name) || *made > 0x40 {
        return;
    }
    let pair = pair(0xee - *made);
    *made += 1;
    let sealed = keyring().seal(id, pair.id, &pair.secret_key, [0; 12]);
    let (state, created) = (KeyState::Active, Timestamp::UNIX_EPOCH);
    let sample = samples::account();
    rows.push(Account {
        id,
        settings: StoredSettings { name: name.to_owned(), ..sample.settings.clone() },
        keys: vec![StoredKey { id: pair.id, api_key: pair.api_key, sealed, state, created }],
        ..sample
    });
}

/// Returns a key pair that the walk does not generate elsewhere.
fn pair(seed: u8) -> KeyPair {
    let entropy = KeyEntropy { api_key: [seed; 16], secret_key: Zeroizing::new([seed; 32]) };
    KeyPair::from_entropy(KeyId::from_random([seed; 16]), &entropy)
}

fn edit_secret(edit: &SecretEdit, target: &Target, secrets: &Secrets) {
    let at = &target.secret;
    let found = lock(&secrets.objects).get(at).cloned();
    let mut secret = match (edit, found) {
        (SecretEdit::Foreign | SecretEdit::Controlled, _) => Secret::default(),
        (_, None) => return,
        (SecretEdit::Delete, Some(_)) => {
            lock(&secrets.objects).remove(at);
            return;
        }
        (SecretEdit::Unseen, Some(_)) => {
            lock(&secrets.unseen).insert(at.clone());
            return;
        }
        (_, Some(found)) => found,
    };
    let metadata = &mut secret.metadata;
    let data = secret.data.get_or_insert_default();
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    match edit {
        SecretEdit::Empty => data.clear(),
        SecretEdit::Scramble => data.values_mut().for_each(|value| *value = bytes("scrambled")),
        SecretEdit::AddData => _ = data.insert("more".to_owned(), bytes("more")),
        SecretEdit::OtherPair => {
            let pair = pair(0x21);
            data.clear();
            data.insert("a".to_owned(), bytes(pair.api_key.as_str()));
            data.insert("s".to_owned(), bytes(pair.secret_key.expose()));
        }
        SecretEdit::RemoveLabels => metadata.labels = None,
        SecretEdit::RemoveAnnotations => {
            metadata.annotations = None;
            metadata.labels.get_or_insert_default().insert(UNMARKED.to_owned(), "theirs".to_owned());
        }
        SecretEdit::Unmark => _ = metadata.annotations.get_or_insert_default().remove(MARK_ANNOTATION),
        SecretEdit::Tie => {
            let Some(uid) = target.uid.clone() else {
                return;
            };
            let (api_version, kind) = (format!("{GROUP}/{VERSION}"), KIND.to_owned());
            let (name, controller) = (target.owner.name.clone(), Some(true));
            let tie = OwnerReference { api_version, kind, name, uid, controller, block_owner_deletion: None };
            metadata.owner_references = Some(vec![tie]);
        }
        SecretEdit::Decorate => {
            metadata.labels.get_or_insert_default().insert("team".to_owned(), "theirs".to_owned());
            metadata.annotations.get_or_insert_default().insert("note".to_owned(), "theirs".to_owned());
            let uid = "uid-of-theirs";
            let owners = metadata.owner_references.get_or_insert_default();
            if owners.iter().all(|owner| owner.uid != uid) {
                owners.push(OwnerReference { kind: "App".to_owned(), uid: uid.to_owned(), ..Default::default() });
            }
        }
        SecretEdit::MakeImmutable => secret.immutable = Some(true),
        SecretEdit::Foreign => _ = data.insert("theirs".to_owned(), bytes("theirs")),
        SecretEdit::Controlled => {
            let (kind, uid) = ("Certificate".to_owned(), "uid-of-theirs".to_owned());
            let controller = Some(true);
            metadata.owner_references = Some(vec![OwnerReference { kind, uid, controller, ..Default::default() }]);
        }
        SecretEdit::Delete | SecretEdit::Unseen => return,
    }
    secrets.put(at, secret);
}
