//! The promises of the design once nothing is left to do: each resource is as declared, or is refused for a reason that
//! holds.

use super::super::generators::{keyring, run};
use super::super::memory::lock;
use super::declared::Declared;
use super::edits::UNMARKED;
use super::promises::{Witness, data, opened, texts};
use super::world::World;
use super::world::here;
use crate::account::{Account, ApiKey, KeyState, Life, comparable_name};
use crate::api::{AdoptionPolicy, ApiAccount, Choice, condition};
use crate::database::AccountDatabase;
use crate::reconcile::{Desired, Evidence, Observed, ObservedSecret, plan};
use crate::secrets::{FoundSecret, SecretRef, SecretStore};
use k8s_openapi::api::core::v1::Secret;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

impl World {
    /// Checks the promises for a resource for which nothing is left to do.
    pub fn is_as_promised(&self, resource: &ApiAccount) {
        let declared = Declared::of(resource);
        let account = run(self.ports.accounts.find_by_owner(&declared.owner)).unwrap();
        let secret = lock(&self.ports.secrets.objects).get(&declared.place()).cloned();
        let found = Found { account, secret, rows: lock(&self.ports.accounts.rows).clone() };
        let conditions = resource.status.iter().flat_map(|status| &status.conditions);
        let ready = conditions.clone().find(|found| found.type_ == condition::READY).unwrap();
        let reason = ready.reason.as_str();
        let mut witness = lock(&self.ports.witness);
        let is_justified = match reason {
            _ if declared.is_invalid() => reason == "InvalidSpec",
            _ if declared.is_paused() => reason == "Paused",
            _ if declared.is_observed() => {
                matches!(reason, "Drifted" | "Reconciled" | "Suspended" | "KeysMissing")
            }
            "Reconciled" | "Suspended" => {
                let suspended = found.account.as_ref().is_some_and(|account| account.suspension.is_some());
                found.is_as_declared(&declared, self, &mut witness);
                suspended == (reason == "Suspended")
            }
            "NameTaken" | "OwnedElsewhere" | "AdoptionRequired" => {
                found.refusal_for_the_name(&declared) == Some(reason)
            }
            "UnknownAffiliate" => declared.resource.spec.affiliate.as_deref() == Some("Nowhere"),
            "SecretConflict" => {
                let is_set = found.is_set_as_declared(&declared);
                found.secret_is_foreign(&declared) && is_set
                    || found.keys_are_anothers(&declared)
                    || found.keys_are_unproven(&declared)
            }
            "KeysMissing" => {
                let revoked = lock(&self.ports.accounts.revoked).clone();
                found.keys_are_lost(&declared, &revoked) && found.is_set_as_declared(&declared)
            }
            _ => false,
        };
        witness.promise(is_justified, || format!("{declared:?} is {reason} ({}): {found:?}", ready.message));
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret =
            self.secret.as_ref().map(|secret| (texts(secret), serde_json::to_string(&secret.metadata).unwrap()));
        let others = self.rows.iter().filter(|row| Some(&row.id) != self.account.as_ref().map(|account| &account.id));
        let others: Vec<_> =
            others.map(|row| (&row.settings.name, row.owner.as_ref().map(ToString::to_string), row.life)).collect();
        write!(f, "\n  account: {:?}\n  Secret: {secret:?}\n  others: {others:?}", self.account)
    }
}

/// What exists for one resource.
struct Found {
    account: Option<Account>,
    secret: Option<Secret>,
    rows: Vec<Account>,
}

impl Found {
    /// Checks that account, keys and Secret are as declared, and that nothing else is left over.
    fn is_as_declared(&self, declared: &Declared, world: &World, witness: &mut Witness) {
        let told = |what: &str| format!("{declared:?} is Ready, and {what}: {self:?}");
        witness.promise(self.is_set_as_declared(declared), || told("not set as declared"));
        let (Some(account), Some(secret)) = (&self.account, &self.secret) else {
            witness.broken.push(told("has no account or no Secret"));
            return;
        };
        let actives: Vec<_> = account.keys.iter().filter(|key| key.state == KeyState::Active).collect();
        let [active] = actives[..] else {
            witness.broken.push(told("has not one active pair"));
            return;
        };
        let (api_key, secret_key) = opened(account, active);
        witness
            .promise(texts(secret) == data(declared, &api_key, &secret_key), || told("has other keys in its Secret"));
        witness.promise(declared.owns(&secret.metadata), || told("has a foreign Secret"));
        let is_tied = secret.metadata.owner_references.iter().flatten().any(|owner| declared.is_tied_by(owner));
        witness.promise(!is_tied, || told("has a Secret that the garbage collector may delete"));
        let is_stray = |(at, secret): (&SecretRef, &Secret)| *at != declared.place() && declared.owns(&secret.metadata);
        let has_strays = lock(&world.ports.secrets.objects).iter().any(is_stray);
        witness.promise(!has_strays, || told("has keys in another Secret too"));
        let labels = secret.metadata.labels.clone().unwrap_or_default();
        let annotations = secret.metadata.annotations.clone().unwrap_or_default();
        let asked = &declared.resource.spec.secret;
        let has = asked.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
            && asked.annotations.iter().all(|(name, value)| annotations.get(name) == Some(value));
        // No other writer sets labels or annotations with the names `a` and `b`.
        let stale = |found: &BTreeMap<String, String>, asked: &BTreeMap<String, String>| {
            ["a", "b"].into_iter().any(|name| found.contains_key(name) && !asked.contains_key(name))
        };
        let is_clean = !stale(&labels, &asked.labels) && !stale(&annotations, &asked.annotations);
        let is_told = !labels.contains_key(UNMARKED);
        witness.promise(has && (is_clean || !is_told), || told("its Secret is labelled otherwise"));

        let is_over = |state| matches!(state, KeyState::Retiring { expires } if expires <= world.now());
        witness.promise(!account.keys.iter().any(|key| is_over(key.state)), || told("an expired pair is there"));
        let answered = witness.answered.get(&account.id).cloned().unwrap_or_default();
        witness.promise(!declared.asks_beyond(&answered), || told("a rotation was not made"));
        let due = declared.interval().map(|interval| active.created + interval);
        witness.promise(due.is_none_or(|due| due > world.now()), || told("a rotation is overdue"));

        let desired = Desired::parse(&declared.resource, &here()).unwrap();
        let active = world.reconciler.issue_keys(account, &declared.owner).ok();
        let stale_secrets = run(world.ports.secrets.owned_by(&desired.identity())).unwrap();
        let stale_secrets = stale_secrets.into_iter().filter(|stale| *stale != desired.secret.at).collect();
        let found = Box::new(FoundSecret::new(desired.secret.at.clone(), secret.clone()));
        let secret = ObservedSecret::Own { found, active, evidence: Evidence::Nothing };
        let plan = plan(&desired, &Observed { account: Some(account.clone()), secret, stale_secrets }, world.now());
        witness.promise(plan.is_empty(), || told(&format!("there is a plan: {plan:?}")));
    }

    fn is_set_as_declared(&self, declared: &Declared) -> bool {
        self.account
            .as_ref()
            .is_some_and(|account| account.life == Life::Live && account.settings == declared.settings())
    }

    /// Returns the reason for which an account of the same name requires a refusal.
    fn refusal_for_the_name(&self, declared: &Declared) -> Option<&'static str> {
        let own = self.account.as_ref().map(|account| account.id);
        let has_the_name = |row: &&Account| {
            Some(row.id) != own
                && !matches!(row.life, Life::Deleted { .. })
                && comparable_name(&row.settings.name) == comparable_name(declared.name())
        };
        let other = self.rows.iter().find(has_the_name)?;
        let adopts = declared.resource.spec.adoption_policy == Choice::Known(AdoptionPolicy::IfUnowned);
        match other.owner.as_ref().filter(|_| other.life == Life::Live) {
            Some(owner) if adopts || owner.cluster != here() => Some("OwnedElsewhere"),
            Some(_) => Some("NameTaken"),
            None if own.is_some() => Some("NameTaken"),
            None => (!adopts).then_some("AdoptionRequired"),
        }
    }

    fn secret_is_foreign(&self, declared: &Declared) -> bool {
        self.secret.as_ref().is_some_and(|secret| !self.owns(declared, secret))
    }

    fn owns(&self, declared: &Declared, secret: &Secret) -> bool {
        let holds = FoundSecret::new(declared.place(), secret.clone()).keys();
        declared.owns_secret(&secret.metadata, holds.as_ref(), self.account.as_ref())
    }

    /// Returns the API key in the resource's own Secret, and whether the Secret's mark fits the key pair.
    fn pair_in_secret(&self, declared: &Declared) -> Option<(ApiKey, bool)> {
        let secret = self.secret.clone().filter(|secret| declared.owns(&secret.metadata))?;
        let found = FoundSecret::new(declared.place(), secret);
        let (api_key, secret_key) = found.keys()?;
        let is_proven = keyring().verifies_mark(found.mark(), &declared.owner, &api_key, &secret_key);
        Some((api_key, is_proven))
    }

    /// Returns the API key in the resource's own Secret, if the mark fits.
    fn api_key_in_secret(&self, declared: &Declared) -> Option<String> {
        let (api_key, _) = self.pair_in_secret(declared).filter(|(_, is_proven)| *is_proven)?;
        Some(api_key.as_str().to_owned())
    }

    /// Returns whether the account is missing and the Secret holds a key pair of unproven origin.
    fn keys_are_unproven(&self, declared: &Declared) -> bool {
        self.account.is_none() && self.pair_in_secret(declared).is_some_and(|(_, is_proven)| !is_proven)
    }

    fn keys_are_anothers(&self, declared: &Declared) -> bool {
        let own = self.account.as_ref().map(|account| account.id);
        let has_active = self.account.as_ref().is_some_and(|account| account.active_key().is_some());
        !has_active
            && self.api_key_in_secret(declared).is_some_and(|api_key| {
                let others = self.rows.iter().filter(|row| Some(row.id) != own);
                others.flat_map(|row| &row.keys).any(|key| key.api_key.as_str() == api_key)
            })
    }

    /// Returns whether neither the database has an active key pair nor the Secret one that was not retired or revoked.
    fn keys_are_lost(&self, declared: &Declared, revoked: &HashSet<ApiKey>) -> bool {
        let Some(account) = self.account.as_ref().filter(|account| account.active_key().is_none()) else {
            return false;
        };
        let is_known = |api_key: &String| {
            let is_revoked = revoked.iter().any(|key| key.as_str() == api_key);
            is_revoked || account.keys.iter().any(|key| key.api_key.as_str() == api_key)
        };
        self.api_key_in_secret(declared).as_ref().is_none_or(is_known)
    }
}
