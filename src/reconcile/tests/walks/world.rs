//! The simulated world of a walk: the resources, the state behind the two ports, and a driver of the reconciler.
//!
//! The driver works as the controller does: it parses a resource, reconciles or deletes it, and writes its status. A
//! deleted resource is removed only after the finalizer's work.

use super::super::generators::{keyring, owner, run};
use super::super::memory::{Counting, lock};
use super::declared::Declared;
use super::edits::Target;
use super::ports::Ports;
use super::promises::{Acting, Witness};
use super::steps::{Declare, SLOTS, Slot, Step, Trouble};
use crate::account::{Account, ClusterId, Life, Owner};
use crate::api::{
    ApiAccount, ApiAccountSpec, ApiAccountStatus, Choice, DeletionPolicy, ManagementPolicy, PAUSED_ANNOTATION,
    ROTATE_ANNOTATION, RotationSpec,
};
use crate::database::{AccountDatabase, UnknownAffiliate};
use crate::reconcile::{
    AllowEveryCreation, AlwaysCurrent, Deletion, Desired, History, Known, NotReady, Outcome, Reconciler, Verified,
    possible_secrets, status,
};
use crate::secrets::ResourceIdentity;
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;

pub const NAMES: [&str; SLOTS] = ["acme", "beta", "gamma"];
/// How many rounds may change something while there are no failures: resources can wait for each other, one round each.
const ROUNDS: usize = SLOTS + 2;
const RETENTION: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The cluster, the ports and the reconciler.
pub struct World {
    pub ports: Arc<Ports>,
    pub resources: [Option<Resource>; SLOTS],
    /// Whether the account may be live without its resource, because the resource vanished without the finalizer's
    /// work.
    pub vanished: [bool; SLOTS],
    declared: [ApiAccount; SLOTS],
    /// The accounts that a bulk read returned. Each is used for one reconcile.
    at_start: Vec<Account>,
    /// The resources for which that read found no account. Each is used for one reconcile, and the account may have been
    /// created before it.
    missing_at_start: [bool; SLOTS],
    clock: Arc<Counting>,
    pub reconciler: Reconciler,
    uids: usize,
}

/// A resource on the cluster.
pub struct Resource {
    pub object: ApiAccount,
    going: bool,
}

impl World {
    pub fn new() -> Self {
        let (ports, clock) = (Arc::new(Ports::default()), Arc::new(Counting::default()));
        *lock(&clock.now) = Timestamp::from_second(1_790_000_000).unwrap();
        lock(&ports.accounts.affiliates).insert("North".to_owned());
        let reconciler = Reconciler {
            database: Arc::clone(&ports) as _,
            secrets: Arc::clone(&ports) as _,
            keyring: keyring().into(),
            unknown_affiliate: UnknownAffiliate::Refuse,
            actor: "walk".to_owned(),
            environment: Arc::clone(&clock) as _,
            declarations: Arc::new(AlwaysCurrent),
            unassigned: crate::account::UnassignedPolicy::Adopt,
            creations: Arc::new(AllowEveryCreation),
        };
        let declared = NAMES.map(|name| {
            let spec = ApiAccountSpec { enabled: true, allowed_ips: Some(Vec::new()), ..ApiAccountSpec::default() };
            let mut resource = ApiAccount::new(name, spec);
            resource.metadata.namespace = Some("ns".to_owned());
            resource.spec.rotation = Some(RotationSpec { interval: None, overlap: "30m".to_owned(), trigger: None });
            resource
        });
        let mut world = Self {
            ports,
            resources: [const { None }; SLOTS],
            vanished: [false; SLOTS],
            declared,
            at_start: Vec::new(),
            missing_at_start: [false; SLOTS],
            clock,
            reconciler,
            uids: 0,
        };
        world.set_clock(0);
        world
    }

    pub fn now(&self) -> Timestamp {
        *lock(&self.clock.now)
    }

    /// Executes one step. The witness records broken promises.
    pub fn take(&mut self, step: &Step) {
        match step {
            Step::Apply(slot) => self.apply(*slot),
            Step::Declare(slot, change) => self.declare(*slot, change),
            Step::Delete(slot) => {
                if let Some(resource) = &mut self.resources[*slot] {
                    resource.going = true;
                }
            }
            Step::Vanish(slot) => self.vanished[*slot] |= self.resources[*slot].take().is_some(),
            Step::EndOrphans => self.end_orphans(),
            Step::Edit(edit) => {
                let target = self.target(edit.slot());
                edit.make(&target, &self.ports.accounts, &self.ports.secrets, self.now());
            }
            Step::Collect => self.collect(),
            Step::Purge => {
                let before = self.now() - RETENTION;
                let declared: Vec<Owner> =
                    (0..SLOTS).filter(|slot| self.resources[*slot].is_some()).map(|slot| owner(NAMES[slot])).collect();
                let is_declared = |owner: &Owner| declared.contains(owner);
                run(self.ports.accounts.purge(&here(), &is_declared, before, self.now())).unwrap();
            }
            Step::Restart => self.restart(),
            Step::Clock(seconds) => self.set_clock(*seconds),
            Step::Pass(slot, troubles) => self.reconcile_one(*slot, troubles),
            Step::Settle => self.settle(),
        }
    }

    fn restart(&mut self) {
        self.at_start = run(self.ports.accounts.list_by_cluster(&here())).unwrap();
        self.missing_at_start = NAMES.map(|name| !self.at_start.iter().any(|at| at.owner == Some(owner(name))));
    }

    fn set_clock(&mut self, seconds: i64) {
        *lock(&self.clock.now) += SignedDuration::from_secs(seconds);
        lock(&self.ports.witness).now = self.now();
    }

    fn apply(&mut self, slot: Slot) {
        if self.resources[slot].is_none() {
            self.uids += 1;
            let mut object = self.declared[slot].clone();
            object.metadata.uid = Some(format!("uid-{}", self.uids));
            object.metadata.generation = Some(1);
            self.resources[slot] = Some(Resource { object, going: false });
        }
    }

    fn declare(&mut self, slot: Slot, change: &Declare) {
        let declared = &mut self.declared[slot];
        let before = declared.spec.clone();
        change_declaration(declared, change);
        if let Some(Resource { object, .. }) = &mut self.resources[slot] {
            object.spec.clone_from(&declared.spec);
            object.metadata.annotations.clone_from(&declared.metadata.annotations);
            if object.spec != before {
                object.metadata.generation = object.metadata.generation.map(|generation| generation + 1);
            }
        }
    }

    fn target(&self, slot: Slot) -> Target {
        let uid = self.resources[slot].as_ref().and_then(|resource| resource.object.metadata.uid.clone());
        Target::of(slot, &self.declared[slot], uid)
    }

    /// Does what the cluster's garbage collector does if every deletion is a foreground deletion: a finalizer does not
    /// prevent the deletion of Secrets that have an owner reference to the deleted resource.
    fn collect(&mut self) {
        let lives = |uid: &str| {
            let is_it = |resource: &Resource| !resource.going && resource.object.metadata.uid.as_deref() == Some(uid);
            uid == "uid-of-theirs" || self.resources.iter().flatten().any(is_it)
        };
        lock(&self.ports.secrets.objects).retain(|_, secret| {
            let owners = secret.metadata.owner_references.iter().flatten();
            owners.clone().next().is_none() || owners.clone().any(|owner| lives(&owner.uid))
        });
    }

    fn end_orphans(&mut self) {
        for (slot, name) in NAMES.iter().enumerate() {
            if self.resources[slot].is_none() {
                self.uids += 1;
                let mut object = self.declared[slot].clone();
                object.metadata.uid = Some(format!("uid-{}", self.uids));
                let going = Some(DeletionPolicy::Delete);
                lock(&self.ports.witness).begin(Acting { declared: Declared::of(&object), going }, None);
                let identity = ResourceIdentity { owner: owner(name), uid: None };
                let outcome = run(self.reconciler.delete(Deletion::of(&identity), DeletionPolicy::Delete));
                self.vanished[slot] = outcome.not_ready.is_some();
                if outcome.not_ready.is_none() {
                    self.check_no_secret_is_left(slot, &Declared::of(&self.declared_with_uid(slot)));
                }
            }
        }
    }

    /// Reconciles one resource as the controller does.
    fn reconcile_one(&mut self, slot: Slot, troubles: &[(usize, Trouble)]) {
        let targets = std::array::from_fn(|slot| Some(self.target(slot)));
        let known = self.take_known(slot);
        let Some(resource) = &mut self.resources[slot] else {
            return;
        };
        let object = &mut resource.object;
        let policy = match (&object.spec.management_policy, &object.spec.deletion_policy) {
            (Choice::Known(ManagementPolicy::Enforce), Choice::Known(policy)) => *policy,
            _ => DeletionPolicy::Retain,
        };
        let going = resource.going.then_some(policy);
        let read = if let Known::Account(account) = &known { Some((**account).clone()) } else { None };
        lock(&self.ports.witness).begin(Acting { declared: Declared::of(object), going }, read);
        lock(&self.ports.plot).begin(troubles, targets);
        let generation = object.metadata.generation;
        if resource.going {
            let identity = ResourceIdentity { owner: owner(NAMES[slot]), uid: object.metadata.uid.clone() };
            let places = possible_secrets(&identity.owner, &object.spec, object.status.as_ref());
            let desired = Desired::parse(object, &here()).ok();
            let going = Deletion {
                resource: &identity,
                desired: desired.as_ref(),
                places: &places,
                generation,
                requested_by: None,
                confirmed: false,
            };
            let outcome = run(self.reconciler.delete(going, policy));
            self.check_no_secret_key(&outcome);
            if outcome.not_ready.is_none() {
                self.check_release(slot, policy);
                self.resources[slot] = None;
                self.vanished[slot] = false;
            }
        } else {
            let previous = object.status.take();
            let (outcome, secret) = match Desired::parse(object, &here()) {
                Err(invalid) => (Outcome::blocked(NotReady::InvalidSpec(invalid)), String::new()),
                Ok(desired) => {
                    let verified = previous.as_ref().and_then(Verified::of);
                    let outcome =
                        run(self.reconciler.reconcile_with(&History::default(), &desired, verified.as_ref(), known));
                    (outcome.attribute_drift(previous.as_ref(), generation), desired.secret.at.name)
                }
            };
            check_account_does_not_wait_for_secret(&Declared::of(object), &outcome, &mut lock(&self.ports.witness));
            object.status = Some(status(generation, &secret, &outcome, previous.as_ref(), *lock(&self.clock.now)));
            self.check_no_secret_key(&outcome);
        }
        lock(&self.ports.plot).begin(&[], [const { None }; SLOTS]);
    }

    /// Returns what the bulk read found, unless it was an account that has changed since.
    fn take_known(&mut self, slot: Slot) -> Known {
        if std::mem::take(&mut self.missing_at_start[slot]) {
            return Known::NoAccount;
        }
        let Some(at) = self.at_start.iter().position(|account| account.owner == Some(owner(NAMES[slot]))) else {
            return Known::Nothing;
        };
        let known = self.at_start.swap_remove(at);
        let is_unchanged = |row: &Account| (row.id, row.version) == (known.id, known.version);
        Known::from(lock(&self.ports.accounts.rows).iter().any(is_unchanged).then_some(known))
    }

    /// Checks that a resource may be removed now: its account does not authenticate, or is retained and no Secret is
    /// deleted with the resource.
    fn check_release(&self, slot: Slot, policy: DeletionPolicy) {
        let declared = Declared::of(&self.resources[slot].as_ref().unwrap().object);
        let account = run(self.ports.accounts.find_by_owner(&owner(NAMES[slot]))).unwrap();
        let goes_along = lock(&self.ports.secrets.objects)
            .values()
            .any(|secret| secret.metadata.owner_references.iter().flatten().any(|owner| owner.uid == declared.uid()));
        if policy == DeletionPolicy::Delete {
            self.check_no_secret_is_left(slot, &declared);
        } else {
            self.check_secret_is_left(&declared, account.as_ref());
        }
        let is_released = match (policy, account.as_ref().map(|account| account.life)) {
            (DeletionPolicy::Delete, life) => !matches!(life, Some(Life::Live | Life::Retained { .. })),
            (DeletionPolicy::Retain, life) => !goes_along && life != Some(Life::Live),
        };
        lock(&self.ports.witness)
            .promise(is_released, || format!("a resource went too early ({policy:?}): {account:?}"));
    }

    fn declared_with_uid(&self, slot: Slot) -> ApiAccount {
        let mut object = self.declared[slot].clone();
        object.metadata.uid = Some(String::new());
        object
    }

    /// Checks that a deleted account's Secret is deleted, unless the cache does not show the Secret.
    fn check_no_secret_is_left(&self, slot: Slot, declared: &Declared) {
        let unseen = lock(&self.ports.secrets.unseen).clone();
        let objects = lock(&self.ports.secrets.objects).clone();
        let left = objects.iter().find(|(at, secret)| !unseen.contains(at) && declared.owns(&secret.metadata));
        lock(&self.ports.witness)
            .promise(left.is_none(), || format!("{} is over, and its Secret is left: {left:?}", NAMES[slot]));
    }

    /// Checks that a retained account's Secret exists: nothing would write the Secret later.
    fn check_secret_is_left(&self, declared: &Declared, account: Option<&Account>) {
        let is_enforced = !(declared.is_invalid() || declared.is_paused() || declared.is_observed());
        let has_keys = account.is_some_and(|account| account.active_key().is_some());
        let is_there = lock(&self.ports.secrets.objects).contains_key(&declared.place());
        lock(&self.ports.witness)
            .promise(is_there || !(is_enforced && has_keys), || format!("{declared:?} is retained without its Secret"));
    }

    /// Checks that an outcome shows no secret key.
    fn check_no_secret_key(&self, outcome: &Outcome) {
        let told = format!("{outcome:?} {:?}", outcome.not_ready.as_ref().map(ToString::to_string));
        lock(&self.ports.witness).promise(!told.contains("opsa_sk_"), || format!("a secret key was told: {told}"));
    }

    /// Reconciles everything until a round changes nothing, and then checks the promises.
    fn settle(&mut self) {
        lock(&self.ports.secrets.unseen).clear();
        self.round();
        self.collect();
        for _ in 0..ROUNDS {
            let before = self.statuses();
            let writes = lock(&self.ports.witness).writes;
            self.round();
            if lock(&self.ports.witness).writes == writes && self.statuses() == before {
                return self.check_settled();
            }
        }
        lock(&self.ports.witness).broken.push(format!("no rest comes: {:?}", self.statuses()));
    }

    fn round(&mut self) {
        for slot in 0..SLOTS {
            self.reconcile_one(slot, &[]);
        }
    }

    fn statuses(&self) -> Vec<Option<ApiAccountStatus>> {
        self.resources.iter().map(|resource| resource.as_ref()?.object.status.clone()).collect()
    }

    fn check_settled(&self) {
        for (slot, resource) in self.resources.iter().enumerate() {
            match resource {
                Some(resource) => self.is_as_promised(&resource.object),
                None => self.check_account_is_over(slot),
            }
        }
    }

    /// Checks that an account without a resource does not authenticate, unless it was retained or its resource has
    /// vanished.
    fn check_account_is_over(&self, slot: Slot) {
        let account = run(self.ports.accounts.find_by_owner(&owner(NAMES[slot]))).unwrap();
        let is_over = account.as_ref().is_none_or(|account| match account.life {
            Life::Live => self.vanished[slot],
            Life::Retained { .. } => true,
            Life::Deleted { .. } => !account.settings.enabled,
        });
        lock(&self.ports.witness)
            .promise(is_over, || format!("the resource is gone, and its account works: {account:?}"));
    }
}

/// Checks that the account's settings are applied even if the Secret cannot be read or written.
fn check_account_does_not_wait_for_secret(declared: &Declared, outcome: &Outcome, witness: &mut Witness) {
    let is_kept_back = matches!(outcome.not_ready, Some(NotReady::Secret(_)))
        && !declared.is_observed()
        && outcome.account.as_ref().is_some_and(|account| account.settings != declared.settings());
    witness.promise(!is_kept_back, || format!("{declared:?} waits for its Secret: {outcome:?}"));
}

pub fn here() -> ClusterId {
    ClusterId::parse("here").unwrap()
}

fn change_declaration(resource: &mut ApiAccount, change: &Declare) {
    let spec = &mut resource.spec;
    let rotation =
        spec.rotation.get_or_insert_with(|| RotationSpec { interval: None, overlap: "30m".to_owned(), trigger: None });
    let text = |text: Option<&str>| text.map(str::to_owned);
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let pairs =
        |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    match change {
        Declare::Name(name) => spec.name = text(*name),
        Declare::Description(description) => (*description).clone_into(&mut spec.description),
        Declare::Enabled(enabled) => spec.enabled = *enabled,
        Declare::RefreshToken(required) => spec.use_refresh_token = *required,
        Declare::Affiliate(affiliate) => spec.affiliate = text(*affiliate),
        Declare::Roles(roles) => spec.roles = texts(roles),
        Declare::AllowedIps(ips) => spec.allowed_ips = Some(texts(ips)),
        Declare::SecretName(name) => spec.secret.name = text(*name),
        Declare::SecretKeys(api_key, secret_key) => {
            (*api_key).clone_into(&mut spec.secret.keys.api_key);
            (*secret_key).clone_into(&mut spec.secret.keys.secret_key);
        }
        Declare::Labels(labels) => spec.secret.labels = pairs(labels),
        Declare::Annotations(annotations) => spec.secret.annotations = pairs(annotations),
        Declare::Interval(interval) => rotation.interval = text(*interval),
        Declare::Overlap(overlap) => (*overlap).clone_into(&mut rotation.overlap),
        Declare::Trigger(trigger) => rotation.trigger = text(*trigger),
        Declare::Rotate(trigger) => annotate(resource, ROTATE_ANNOTATION, *trigger),
        Declare::Paused(paused) => annotate(resource, PAUSED_ANNOTATION, paused.then_some("true")),
        Declare::Adoption(policy) => spec.adoption_policy = Choice::Known(*policy),
        Declare::Management(policy) => spec.management_policy = Choice::Known(*policy),
        Declare::Deletion(policy) => spec.deletion_policy = Choice::Known(*policy),
    }
}

fn annotate(resource: &mut ApiAccount, name: &str, value: Option<&str>) {
    let annotations = resource.metadata.annotations.get_or_insert_default();
    match value {
        Some(value) => _ = annotations.insert(name.to_owned(), value.to_owned()),
        None => _ = annotations.remove(name),
    }
}
