//! The deletion of a resource: what becomes of its account and its Secret. It needs neither the Secret nor a valid
//! spec.

use super::desired::{Errors, parse_deletion, parse_management};
use super::execute::Request;
use super::plan::plan_secret;
use super::step::{ATTEMPTS, Interruption, Step};
use super::{
    DeletionPolicy, Desired, Done, InvalidSpec, NotReady, Outcome, Reconciler, SecretPlan, Verified, is_dns_subdomain,
};
use crate::account::{Account, Life, Owner, Requester};
use crate::api::{ApiAccountSpec, ApiAccountStatus, ManagementPolicy, default_secret_name};
use crate::database::Action;
use crate::secrets::{Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef};
use std::collections::BTreeSet;

/// Returns what becomes of the account when a resource with this spec is deleted.
///
/// # Errors
/// [`InvalidSpec`] if the spec has a policy that this program does not know. The resource then must not be removed.
pub fn deletion_policy(spec: &ApiAccountSpec) -> Result<DeletionPolicy, InvalidSpec> {
    let mut found = Errors::default();
    let management = parse_management(spec, &mut found);
    if management == Some(ManagementPolicy::Observe) {
        // A resource that only observes does not end an account's access.
        return Ok(DeletionPolicy::Retain);
    }
    if let (Some(_), Some(policy)) = (management, parse_deletion(spec, &mut found)) {
        return Ok(policy);
    }
    found.0.iter_mut().for_each(|error| error.message.push_str("; until then nothing is deleted"));
    Err(InvalidSpec { errors: found.0 })
}

/// Returns the names under which a resource may have a Secret: the one in its status, and the one in its spec.
pub fn possible_secrets(owner: &Owner, spec: &ApiAccountSpec, status: Option<&ApiAccountStatus>) -> Vec<SecretRef> {
    let declared = spec.secret.name.clone().unwrap_or_else(|| default_secret_name(&owner.name));
    let reported = status.and_then(|status| status.secret_name.clone());
    // A status, and the spec of a refused resource, may hold any text.
    let names: BTreeSet<_> = reported.into_iter().chain([declared]).filter(|name| is_dns_subdomain(name)).collect();
    names.into_iter().map(|name| SecretRef { namespace: owner.namespace.clone(), name }).collect()
}

/// A resource that is being deleted, with what is known about it.
#[derive(Debug, Clone, Copy)]
pub struct Deletion<'a> {
    /// The identity that its Secret is annotated with.
    pub resource: &'a ResourceIdentity,
    /// What it declares, if its spec is valid.
    pub desired: Option<&'a Desired>,
    /// Names under which it may have a Secret that no watch shows.
    pub places: &'a [SecretRef],
    /// Its generation, if it has one.
    pub generation: Option<i64>,
    /// Who confirmed the deletion, for the journal, if it is known.
    pub requested_by: Option<&'a Requester>,
    /// Whether a person has confirmed the deletion, which then does not count for the brake.
    pub confirmed: bool,
}

impl<'a> Deletion<'a> {
    /// Returns the deletion of a resource of which only the identity is known.
    pub fn of(resource: &'a ResourceIdentity) -> Self {
        Self { resource, desired: None, places: &[], generation: None, requested_by: None, confirmed: false }
    }

    fn request(&self) -> Request<'a> {
        Request { generation: self.generation, requested_by: self.requested_by }
    }

    /// Returns what the resource declares, if the controller writes a Secret for it.
    fn enforced(&self) -> Option<&'a Desired> {
        self.desired.filter(|desired| desired.management == ManagementPolicy::Enforce && !desired.paused)
    }
}

impl Reconciler {
    /// Executes the deletion policy. If the outcome is Ready, the resource may be removed.
    pub async fn delete(&self, deletion: Deletion<'_>, policy: DeletionPolicy) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let attempt = match policy {
                DeletionPolicy::Delete => self.end_account(deletion, &mut outcome).await,
                DeletionPolicy::Retain => self.retain_account(deletion, &mut outcome).await,
            };
            if outcome.ends_with(attempt, self.declarations.as_ref(), &deletion.resource.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    /// Deletes the account of an owner that no resource or manifest declares, and its Secrets.
    pub async fn delete_undeclared(&self, owner: &Owner) -> Outcome {
        let identity = ResourceIdentity { owner: owner.clone(), uid: None };
        self.delete(Deletion::of(&identity), DeletionPolicy::Delete).await
    }

    /// Keeps the Secret of a resource whose deletion is held: its account still works, and its partner needs the keys.
    /// Nothing else is changed. If the outcome is not Ready, its reason is about the Secret alone.
    pub async fn keep_secret_of_held(&self, deletion: Deletion<'_>, verified: Option<&Verified>) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let attempt = self.keep_secret(deletion, verified, &mut outcome).await;
            if outcome.ends_with(attempt, self.declarations.as_ref(), &deletion.resource.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    async fn keep_secret(
        &self,
        deletion: Deletion<'_>,
        verified: Option<&Verified>,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        outcome.secret_version = None;
        let account = self.database.find_by_owner(&deletion.resource.owner).await?;
        outcome.account = account.filter(|account| account.life == Life::Live);
        let (Some(account), Some(desired)) = (outcome.account.clone(), deletion.enforced()) else {
            return Ok(Step::Done);
        };
        let observed = self.observe(desired, verified, Some(account.clone())).await?;
        let plan = plan_secret(desired, &observed.secret);
        match plan {
            SecretPlan::Keep => outcome.secret_version = observed.secret.version(verified),
            SecretPlan::Postpone | SecretPlan::Refuse { .. } => {}
            SecretPlan::Undecided => _ = self.issue_keys(&account, &desired.owner)?,
            SecretPlan::Create | SecretPlan::Replace { .. } => {
                self.declarations.confirm_deletion(deletion.resource).await?;
                self.write_secret(&plan, &account, desired, &observed.secret, outcome).await?;
            }
        }
        Ok(Step::Done)
    }

    /// Ends the account's access first: if a crash follows, the keys that a Secret still holds no longer work.
    async fn end_account(&self, deletion: Deletion<'_>, outcome: &mut Outcome) -> Result<Step, Interruption> {
        let Deletion { resource, places, confirmed, .. } = deletion;
        let account = self.database.find_by_owner(&resource.owner).await?;
        outcome.read(account.as_ref());
        if let Some(account) = &account
            && matches!(account.life, Life::Live | Life::Retained { .. })
        {
            self.declarations.confirm_deletion(resource).await?;
            let action = Action::Delete { expected: account.version, confirmed };
            outcome.account = Some(self.commit(account.id, action, deletion.request()).await?);
            outcome.released_names.push(account.settings.name.clone());
            outcome.done.push(Done::Disabled);
        }
        let mut secrets = match self.secrets.owned_by(resource).await {
            // A resource that never had an account has no Secret either.
            Err(SecretError::Unlisted { .. }) if account.is_none() => return Ok(Step::Done),
            secrets => secrets?,
        };
        if account.is_some() {
            secrets.extend(places.iter().filter(|at| !secrets.contains(at)).cloned().collect::<Vec<_>>());
        }
        for at in secrets {
            self.declarations.confirm_deletion(resource).await?;
            if self.secrets.remove(&at, resource).await? {
                outcome.done.push(Done::SecretRemoved(at));
            }
        }
        Ok(Step::Done)
    }

    /// Releases the Secret first: the garbage collector deletes one that has an owner reference together with the
    /// resource.
    async fn retain_account(&self, deletion: Deletion<'_>, outcome: &mut Outcome) -> Result<Step, Interruption> {
        let resource = deletion.resource;
        let mut own = self.secrets.owned_by(resource).await?;
        for at in deletion.places {
            if !own.contains(at) && self.is_own(at, resource).await? {
                own.push(at.clone());
            }
        }
        let mut unchanged = Vec::new();
        for at in own {
            self.declarations.confirm_deletion(resource).await?;
            if self.secrets.release(&at, resource).await? {
                outcome.done.push(Done::SecretReleased(at));
            } else {
                unchanged.push(at);
            }
        }
        let Some(account) = self.database.find_by_owner(&resource.owner).await? else {
            return Ok(Step::Done);
        };
        if account.life == Life::Live {
            self.restore_missing_secret(&account, deletion, outcome).await?;
            self.declarations.confirm_deletion(resource).await?;
            let action = Action::Retain { expected: account.version };
            outcome.account = Some(self.commit(account.id, action, deletion.request()).await?);
            outcome.released_names.push(account.settings.name.clone());
            outcome.done.extend(unchanged.into_iter().map(Done::SecretReleased));
            outcome.done.push(Done::Retained);
        }
        Ok(Step::Done)
    }

    /// Writes the Secret if it is missing: a person or the garbage collector may have deleted it unnoticed. Once the
    /// resource is gone, nothing would write it again, and nobody would have the keys of an account that still works.
    async fn restore_missing_secret(
        &self,
        account: &Account,
        deletion: Deletion<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Interruption> {
        let Some(desired) = deletion.enforced().filter(|_| account.active_key().is_some()) else {
            return Ok(());
        };
        if !matches!(self.secrets.find(&desired.secret.at, None).await?, Lookup::Absent) {
            return Ok(());
        }
        self.declarations.confirm_deletion(deletion.resource).await?;
        let keys = self.issue_keys(account, &desired.owner)?;
        let manifest = SecretManifest::new(&desired.secret, desired.identity(), &keys);
        match self.secrets.create(&manifest).await {
            Ok(_) => outcome.done.push(Done::SecretWritten(manifest.at)),
            // The namespace is being deleted, and the Secret would go with it.
            Err(SecretError::Ending { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn is_own(&self, at: &SecretRef, resource: &ResourceIdentity) -> Result<bool, Interruption> {
        match self.secrets.confirm(at).await? {
            Lookup::Found(found) => Ok(resource.check(found.metadata()).is_ok()),
            Lookup::Absent | Lookup::Unchanged => Ok(false),
        }
    }
}
