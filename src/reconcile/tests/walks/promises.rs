//! The promises of the design about every single write. A witness checks them: it knows what is declared and what the
//! reconciler has read, and it shares no code with the plan.

use super::super::generators::keyring;
use super::declared::Declared;
use crate::account::{
    Account, AccountId, ApiKey, KeyState, Life, RotationRequests, SecretKey, StoredKey, comparable_name,
};
use crate::api::{AdoptionPolicy, Choice, DeletionPolicy};
use crate::secrets::{FoundSecret, Lookup, SecretRef};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeMap, HashMap, HashSet};

/// The maximum number of key pairs of an account that may authenticate at a time.
const MOST_PAIRS: usize = 3;

/// What is known at the moment of a write, and the promises that were broken.
#[derive(Debug, Default)]
pub struct Witness {
    pub now: Timestamp,
    /// The resource that is being reconciled.
    acting: Option<Acting>,
    /// The account as the reconciler has read it.
    pub account_seen: Option<Account>,
    /// The Secrets as the reconciler has read them.
    seen: BTreeMap<SecretRef, Shown>,
    /// The requests to rotate that were answered for each account.
    pub answered: HashMap<AccountId, RotationRequests>,
    /// API keys that were revoked or purged.
    pub revoked: HashSet<ApiKey>,
    pub writes: usize,
    pub broken: Vec<String>,
}

/// The resource that is being reconciled.
#[derive(Debug, Clone)]
pub struct Acting {
    pub declared: Declared,
    /// The deletion policy, if the resource is being deleted.
    pub going: Option<DeletionPolicy>,
}

/// What the reconciler has read of a Secret.
#[derive(Debug, Clone)]
enum Shown {
    Nothing,
    Unchanged,
    Own(Option<(ApiKey, SecretKey)>),
    /// The resource's own Secret, with a key pair of unproven origin.
    Unproven,
    Foreign,
}

impl Witness {
    /// Begins the reconcile of another resource, which starts with this account from a bulk read.
    pub fn begin(&mut self, acting: Acting, known: Option<Account>) {
        self.acting = Some(acting);
        self.account_seen = known;
        self.seen.clear();
    }

    pub fn promise(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(what());
        }
    }

    pub fn saw_sight(&mut self, at: &SecretRef, sight: &Lookup) {
        let owns = |found: &FoundSecret| {
            let account = self.account_seen.as_ref();
            let owns = |acting: &Acting| acting.declared.owns_secret(found.metadata(), found.keys().as_ref(), account);
            self.acting.as_ref().is_some_and(owns)
        };
        let shown = match sight {
            Lookup::Absent => Shown::Nothing,
            Lookup::Unchanged => Shown::Unchanged,
            Lookup::Found(found) if owns(found) => match (found.keys(), &self.acting) {
                (Some((api_key, secret_key)), Some(acting))
                    if !keyring().verifies_mark(found.mark(), &acting.declared.owner, &api_key, &secret_key) =>
                {
                    Shown::Unproven
                }
                (pair, _) => Shown::Own(pair),
            },
            Lookup::Found(_) => Shown::Foreign,
        };
        self.seen.insert(at.clone(), shown);
    }

    pub fn saw_commit(&mut self, before: &[Account], after: &[Account]) {
        let find = |rows: &[Account], id: AccountId| rows.iter().find(|row| row.id == id).cloned();
        let mut rows: Vec<_> = before.iter().map(|row| (Some(row.clone()), find(after, row.id))).collect();
        let is_new = |row: &&Account| find(before, row.id).is_none();
        rows.extend(after.iter().filter(is_new).map(|row| (None, Some(row.clone()))));
        for (old, new) in rows.into_iter().filter(|(old, new)| old != new) {
            self.writes += 1;
            let acting = self.acting.clone().expect("somebody acts");
            self.may_write(&acting);
            match (&old, &new) {
                (None, Some(new)) => self.created(&acting, before, new),
                (Some(old), Some(new)) if old.owner.as_ref() == Some(&acting.declared.owner) => {
                    self.changed(&acting, old, new);
                }
                (Some(old), Some(new)) => self.adopted(&acting, old, new),
                (_, None) => self.broken.push(format!("an account was removed: {old:?}")),
            }
        }
    }

    fn may_write(&mut self, acting: &Acting) {
        let declared = &acting.declared;
        let may = acting.going.is_some() || !(declared.is_invalid() || declared.is_paused() || declared.is_observed());
        self.promise(may, || {
            format!("something was written for a resource that is invalid, paused or observed: {declared:?}")
        });
    }

    fn created(&mut self, acting: &Acting, before: &[Account], new: &Account) {
        let declared = &acting.declared;
        self.promise(acting.going.is_none(), || format!("{new:?} was made for a resource that goes"));
        self.promise(new.owner.as_ref() == Some(&declared.owner), || format!("{new:?} has another owner"));
        self.promise(new.life == Life::Live && new.suspension.is_none(), || format!("{new:?} is not live"));
        self.promise(new.settings == declared.settings(), || format!("{new:?} is not as declared"));
        let [key] = &new.keys[..] else {
            self.broken.push(format!("{new:?} has not one pair"));
            return;
        };
        self.promise(key.state == KeyState::Active, || format!("{new:?} has no active pair"));
        let is_used = before.iter().flat_map(|row| &row.keys).any(|known| known.api_key == key.api_key);
        self.promise(!is_used, || format!("{new:?} has the keys of another"));
        let seen = self.seen.get(&declared.place()).cloned();
        self.promise(!matches!(seen, Some(Shown::Unproven)), || {
            format!("{new:?} was made beside keys that may be its own")
        });
        self.promise(!self.revoked.contains(&key.api_key), || format!("{new:?} has a pair that was revoked"));
        if let Some(Shown::Own(Some(pair))) = seen.filter(|seen| !self.is_revoked(seen)) {
            let kept = opened(new, key) == pair;
            self.promise(kept, || format!("{new:?} has other keys than its Secret had"));
        }
        self.answered.insert(new.id, declared.asked());
    }

    fn adopted(&mut self, acting: &Acting, old: &Account, new: &Account) {
        let declared = &acting.declared;
        let is_unowned = old.owner.is_none() && old.life == Life::Live || matches!(old.life, Life::Retained { .. });
        let may = acting.going.is_none()
            && is_unowned
            && declared.resource.spec.adoption_policy == Choice::Known(AdoptionPolicy::IfUnowned)
            && comparable_name(&old.settings.name) == comparable_name(declared.name());
        self.promise(may, || format!("an account of somebody else was touched for {declared:?}: {old:?} → {new:?}"));
        let as_it_was = (&new.settings, &new.keys, &new.suspension) == (&old.settings, &old.keys, &old.suspension);
        self.promise(as_it_was && new.owner.as_ref() == Some(&declared.owner), || {
            format!("adopting {old:?} changed it: {new:?}")
        });
        self.answered.insert(new.id, declared.asked());
    }

    fn changed(&mut self, acting: &Acting, old: &Account, new: &Account) {
        self.promise(new.owner == old.owner, || format!("{old:?} lost its owner: {new:?}"));
        self.promise(new.suspension == old.suspension, || format!("the suspension changed: {old:?} → {new:?}"));
        let (settings, life) = (&new.settings, new.life);
        let as_promised = match acting.going {
            None => {
                let is_restored = old.life != Life::Live;
                let declared = acting.declared.settings();
                life == Life::Live && (*settings == declared || *settings == old.settings && !is_restored)
            }
            Some(DeletionPolicy::Delete) => {
                let mut disabled = old.settings.clone();
                disabled.enabled = false;
                matches!(life, Life::Deleted { .. }) && *settings == disabled && new.keys == old.keys
            }
            Some(DeletionPolicy::Retain) => {
                matches!(life, Life::Retained { .. }) && *settings == old.settings && new.keys == old.keys
            }
        };
        self.promise(as_promised, || format!("{:?}: {old:?} became {new:?}", acting.declared));
        self.keys_changed(acting, old, new);
    }

    fn keys_changed(&mut self, acting: &Acting, old: &Account, new: &Account) {
        let now = self.now;
        let told = || format!("at {now}, for {:?}: {:?} → {:?}", acting.declared, old.keys, new.keys);
        let (gone, added) = (missing(&old.keys, &new.keys), missing(&new.keys, &old.keys));
        let is_expired = |key: &&StoredKey| matches!(key.state, KeyState::Retiring { expires } if expires <= now);
        let live = old.keys.iter().filter(|key| !is_expired(key)).count();
        let kept: Vec<_> = old.keys.iter().filter_map(|old| Some((old, same(old, &new.keys)?))).collect();
        let unchanged = |(old, new): &&(&StoredKey, &StoredKey)| old == new;
        match (old.active_key(), &added[..]) {
            (_, []) => {
                self.promise(gone.iter().all(is_expired), || format!("a pair was revoked early: {}", told()));
                self.promise(kept.iter().all(|pair| unchanged(&pair)), || format!("a pair changed: {}", told()));
            }
            (None, [pair]) => {
                let shown = self.seen.get(&acting.declared.place()).cloned();
                let from_secret = matches!(shown, Some(Shown::Own(Some(in_secret))) if opened(new, pair) == in_secret);
                self.promise(!self.revoked.contains(&pair.api_key), || format!("a revoked pair came back: {}", told()));
                self.promise(from_secret && gone.is_empty(), || format!("an unknown pair was given: {}", told()));
            }
            (Some(active), [_]) => {
                self.rotated(acting, active, new);
                let overlap = acting.declared.overlap();
                let retired = same(active, &new.keys).map(|key| key.state);
                let expected = (!overlap.is_zero()).then(|| KeyState::Retiring { expires: now + overlap });
                self.promise(retired == expected, || format!("the old pair has another end: {}", told()));
                let others = kept.iter().filter(|(old, _)| old.id != active.id);
                self.promise(others.clone().all(|pair| unchanged(&pair)), || format!("a pair changed: {}", told()));
                let too_many = (live + 1).saturating_sub(MOST_PAIRS);
                let early = gone.iter().filter(|key| key.id != active.id && !is_expired(key)).count();
                self.promise(early <= too_many || overlap.is_zero(), || {
                    format!("a pair was revoked early: {}", told())
                });
                let is_alone = new.keys.len() == 1;
                self.promise(is_alone || !overlap.is_zero(), || format!("a leaked pair may go on: {}", told()));
            }
            (_, _) => self.broken.push(format!("more than one pair was made: {}", told())),
        }
        let lives = new.keys.iter().filter(|key| !is_expired(key)).count();
        self.promise(lives <= MOST_PAIRS, || format!("too many pairs work: {}", told()));
        let actives = new.keys.iter().filter(|key| key.state == KeyState::Active).count();
        self.promise(actives == usize::from(new.active_key().is_some()), || format!("two are active: {}", told()));
        self.promise(new.active_key().is_some() || old.active_key().is_none(), || format!("none is left: {}", told()));
    }

    /// Checks that a new key pair is generated only on request or when the rotation is due, and only if a Secret can
    /// hold it.
    fn rotated(&mut self, acting: &Acting, active: &StoredKey, new: &Account) {
        let declared = &acting.declared;
        let answered = self.answered.entry(new.id).or_default();
        let is_asked = declared.asks_beyond(answered);
        if is_asked {
            let asked = declared.asked();
            answered.trigger = asked.trigger.or(answered.trigger.take());
            answered.annotation = asked.annotation.or(answered.annotation.take());
        }
        // A rotation may be up to a tenth of the interval early, so that not all keys are rotated together.
        let now = self.now;
        let is_due = declared.interval().is_some_and(|interval| active.created + interval * 9 / 10 <= now);
        self.promise(acting.going.is_none() && (is_asked || is_due), || {
            format!("keys changed unasked at {now}: {declared:?} {active:?} → {new:?}")
        });
        let shown = self.seen.get(&declared.place()).cloned();
        self.promise(matches!(shown, Some(Shown::Own(_) | Shown::Unproven | Shown::Unchanged)), || {
            format!("keys changed that cannot be handed out: {declared:?}, {shown:?}")
        });
    }

    pub fn saw_secret(&mut self, at: &SecretRef, before: Option<&Secret>, after: Option<&Secret>) {
        self.writes += 1;
        let acting = self.acting.clone().expect("somebody acts");
        self.may_write(&acting);
        let declared = &acting.declared;
        let account = self.account_seen.as_ref();
        let is_own = before.is_none_or(|secret| {
            let holds = FoundSecret::new(at.clone(), secret.clone()).keys();
            declared.owns_secret(&secret.metadata, holds.as_ref(), account)
        });
        self.promise(is_own, || format!("a foreign Secret {at} was touched for {declared:?}: {before:?} → {after:?}"));
        match (acting.going, after) {
            (None, Some(after)) => self.secret_written(declared, at, before, after),
            (None, None) => {
                let is_elsewhere = *at != declared.place();
                self.promise(is_elsewhere && self.hands_out(declared), || {
                    format!("the Secret {at} was deleted and the keys are nowhere: {declared:?}")
                });
            }
            (Some(DeletionPolicy::Delete), None) => {
                let works = self.account_seen.as_ref().is_some_and(|account| account.life == Life::Live);
                self.promise(!works, || format!("the Secret {at} was deleted and its account works: {declared:?}"));
            }
            (Some(DeletionPolicy::Retain), Some(after)) if before.is_none() => {
                let may = !(declared.is_invalid() || declared.is_paused() || declared.is_observed());
                self.promise(may, || format!("a Secret was written for {declared:?}"));
                self.secret_written(declared, at, None, after);
            }
            (Some(DeletionPolicy::Retain), Some(after)) => {
                let mut expected = before.cloned().unwrap_or_default();
                let owners = &mut expected.metadata.owner_references;
                if let Some(owners) = owners {
                    owners.retain(|owner| !declared.is_tied_by(owner));
                }
                owners.take_if(|owners| owners.is_empty());
                expected.metadata.resource_version.clone_from(&after.metadata.resource_version);
                self.promise(*after == expected, || format!("letting go of {at} changed it: {before:?} → {after:?}"));
            }
            (Some(_), _) => self.broken.push(format!("a resource that goes wrote the Secret {at}: {declared:?}")),
        }
    }

    fn secret_written(&mut self, declared: &Declared, at: &SecretRef, before: Option<&Secret>, after: &Secret) {
        self.promise(*at == declared.place(), || format!("a Secret was written at {at} for {declared:?}"));
        let account = self.account_seen.clone().filter(|account| account.active_key().is_some());
        let expected = account.map(|account| {
            let (api_key, secret_key) = opened(&account, account.active_key().unwrap());
            data(declared, &api_key, &secret_key)
        });
        self.promise(expected.as_ref() == Some(&texts(after)), || format!("{at} has other keys than {declared:?} has"));
        let before = before.cloned().unwrap_or_default().metadata;
        let after_metadata = &after.metadata;
        let kept = [(&before.labels, &after_metadata.labels), (&before.annotations, &after_metadata.annotations)]
            .into_iter()
            .all(|(old, new)| {
                old.iter()
                    .flatten()
                    .filter(|(_, value)| *value == "theirs")
                    .all(|(name, value)| new.as_ref().and_then(|new| new.get(name)) == Some(value))
            });
        let owners = |references: &Option<Vec<OwnerReference>>| -> Vec<_> {
            references.iter().flatten().filter(|owner| owner.controller != Some(true)).cloned().collect()
        };
        let owners_kept = owners(&before.owner_references) == owners(&after_metadata.owner_references);
        self.promise(kept && owners_kept, || {
            format!("what others put on {at} is gone: {before:?} → {after_metadata:?}")
        });
        self.seen.insert(at.clone(), Shown::Unchanged);
    }

    /// Returns whether the resource's own Secret exists under the declared name, as far as the reconciler has read.
    fn hands_out(&self, declared: &Declared) -> bool {
        matches!(self.seen.get(&declared.place()), Some(Shown::Own(Some(_)) | Shown::Unproven | Shown::Unchanged))
    }

    fn is_revoked(&self, shown: &Shown) -> bool {
        matches!(shown, Shown::Own(Some((api_key, _))) if self.revoked.contains(api_key))
    }
}

fn same<'a>(key: &StoredKey, among: &'a [StoredKey]) -> Option<&'a StoredKey> {
    among.iter().find(|other| (other.id, &other.api_key, &other.sealed) == (key.id, &key.api_key, &key.sealed))
}

fn missing<'a>(these: &'a [StoredKey], from: &[StoredKey]) -> Vec<&'a StoredKey> {
    these.iter().filter(|key| same(key, from).is_none()).collect()
}

/// Returns the key pair, opened.
pub fn opened(account: &Account, key: &StoredKey) -> (ApiKey, SecretKey) {
    (key.api_key.clone(), keyring().open(account.id, key.id, &key.sealed).unwrap())
}

/// Returns the data that the Secret has to have.
pub fn data(declared: &Declared, api_key: &ApiKey, secret_key: &SecretKey) -> BTreeMap<String, String> {
    let names = &declared.resource.spec.secret.keys;
    BTreeMap::from([
        (names.api_key.clone(), api_key.as_str().to_owned()),
        (names.secret_key.clone(), secret_key.expose().to_owned()),
    ])
}

pub fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8(value.0.clone()).unwrap())).collect()
}
