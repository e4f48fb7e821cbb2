//! The end of a resource: what becomes of its account and Secret. Needs neither the Secret nor a valid spec.

use super::desired::{Errors, parse_deletion, parse_management};
use super::halt::{ATTEMPTS, Halt};
use super::plan::plan_secret;
use super::{
    DeletionPolicy, Desired, Done, InvalidSpec, NotReady, Outcome, Reconciler, SecretPlan, Verified, is_dns_subdomain,
};
use crate::account::{Account, Life, Owner};
use crate::api::{ApiAccountSpec, ApiAccountStatus, ManagementPolicy, default_secret_name};
use crate::database::Action;
use crate::secrets::{Lookup, ResourceIdentity, SecretError, SecretManifest, SecretRef};
use std::collections::BTreeSet;

/// What becomes of the account of a resource with this spec, once the resource goes.
///
/// # Errors
/// [`InvalidSpec`] if that cannot be told: the resource then has to stay.
pub fn deletion_policy(spec: &ApiAccountSpec) -> Result<DeletionPolicy, InvalidSpec> {
    let mut found = Errors::default();
    let management = parse_management(spec, &mut found);
    if management == Some(ManagementPolicy::Observe) {
        // Who only observes does not end an account's access.
        return Ok(DeletionPolicy::Retain);
    }
    if let (Some(_), Some(policy)) = (management, parse_deletion(spec, &mut found)) {
        return Ok(policy);
    }
    found.0.iter_mut().for_each(|error| error.message.push_str("; until then nothing is deleted"));
    Err(InvalidSpec { errors: found.0 })
}

/// Where the Secret of a resource may be: where its status says that it is, and where its spec wants it.
pub fn secret_places(owner: &Owner, spec: &ApiAccountSpec, status: Option<&ApiAccountStatus>) -> Vec<SecretRef> {
    let declared = spec.secret.name.clone().unwrap_or_else(|| default_secret_name(&owner.name));
    let told = status.and_then(|status| status.secret_name.clone());
    // A status, and a spec that is refused, may say anything.
    let names: BTreeSet<_> = told.into_iter().chain([declared]).filter(|name| is_dns_subdomain(name)).collect();
    names.into_iter().map(|name| SecretRef { namespace: owner.namespace.clone(), name }).collect()
}

/// What is known of a resource that is going.
#[derive(Debug, Clone, Copy)]
pub struct Deletion<'a> {
    /// The resource, as its Secret knows it.
    pub resource: &'a ResourceIdentity,
    /// What it declares, if that can be told.
    pub desired: Option<&'a Desired>,
    /// Where its Secret may be though nothing shows it there.
    pub places: &'a [SecretRef],
    /// Its generation, where there is one.
    pub generation: Option<i64>,
    /// Whether a person has confirmed its deletion, which then does not count as one of many at once.
    pub confirmed: bool,
}

impl<'a> Deletion<'a> {
    /// A resource of which nothing else is known.
    pub fn of(resource: &'a ResourceIdentity) -> Self {
        Self { resource, desired: None, places: &[], generation: None, confirmed: false }
    }

    /// What it declares, if its account's Secret is written for it.
    fn enforced(&self) -> Option<&'a Desired> {
        self.desired.filter(|desired| desired.management == ManagementPolicy::Enforce && !desired.paused)
    }
}

impl Reconciler {
    /// Does what the deletion policy says for a resource that is going. Once it is done, the resource may go.
    pub async fn release(&self, going: Deletion<'_>, policy: DeletionPolicy) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let attempt = match policy {
                DeletionPolicy::Delete => self.delete(going, &mut outcome).await,
                DeletionPolicy::Retain => self.retain(going, &mut outcome).await,
            };
            if outcome.takes_in(attempt, self.declarations.as_ref(), &going.resource.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    /// Keeps the Secret of a resource right whose deletion is held: its account goes on working, and whoever uses it needs
    /// the keys. Nothing else is changed. A refusal says only why that could not be done.
    pub async fn hold(&self, going: Deletion<'_>, verified: Option<&Verified>) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let attempt = self.keep_secret(going, verified, &mut outcome).await;
            if outcome.takes_in(attempt, self.declarations.as_ref(), &going.resource.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    async fn keep_secret(
        &self,
        going: Deletion<'_>,
        verified: Option<&Verified>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        outcome.secret_version = None;
        let account = self.database.find_by_owner(&going.resource.owner).await?;
        outcome.account = account.filter(|account| account.life == Life::Live);
        let (Some(account), Some(desired)) = (outcome.account.clone(), going.enforced()) else {
            return Ok(());
        };
        let observed = self.observe(desired, verified, Some(account.clone())).await?;
        let plan = plan_secret(desired, &observed.secret);
        outcome.secret_version = match plan {
            SecretPlan::Keep => observed.secret.version(verified),
            SecretPlan::Postpone | SecretPlan::Refuse { .. } => None,
            SecretPlan::Create | SecretPlan::Replace { .. } => {
                self.declarations.confirm_deletion(going.resource).await?;
                let keys = self.issue_keys(&account, &desired.owner)?;
                let manifest = SecretManifest::new(&desired.secret, desired.identity(), &keys);
                self.execute_secret(&manifest, &observed.secret, &plan, outcome).await?
            }
        };
        Ok(())
    }

    /// The account first: what its Secret holds is worth nothing then, if the rest is yet to be done.
    async fn delete(
        &self,
        Deletion { resource, places, generation, confirmed, .. }: Deletion<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let account = self.database.find_by_owner(&resource.owner).await?;
        if let Some(account) = &account
            && matches!(account.life, Life::Live | Life::Retained { .. })
        {
            self.declarations.confirm_deletion(resource).await?;
            let action = Action::Delete { expected: account.version, confirmed };
            outcome.account = Some(self.commit(account.id, action, generation).await?);
            outcome.done.push(Done::Disabled);
        }
        let mut secrets = match self.secrets.owned_by(resource).await {
            // A resource that never had an account has no Secret either.
            Err(SecretError::Unlisted { .. }) if account.is_none() => return Ok(()),
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
        Ok(())
    }

    /// The Secret first: one that is tied to the resource would be deleted with it.
    async fn retain(&self, going: Deletion<'_>, outcome: &mut Outcome) -> Result<(), Halt> {
        let resource = going.resource;
        let mut own = self.secrets.owned_by(resource).await?;
        for at in going.places {
            if !own.contains(at) && self.is_own(at, resource).await? {
                own.push(at.clone());
            }
        }
        let mut stays = Vec::new();
        for at in own {
            self.declarations.confirm_deletion(resource).await?;
            if self.secrets.release(&at, resource).await? {
                outcome.done.push(Done::SecretReleased(at));
            } else {
                stays.push(at);
            }
        }
        let Some(account) = self.database.find_by_owner(&resource.owner).await? else {
            return Ok(());
        };
        if account.life == Life::Live {
            self.restore_if_missing(&account, going, outcome).await?;
            self.declarations.confirm_deletion(resource).await?;
            let action = Action::Retain { expected: account.version };
            outcome.account = Some(self.commit(account.id, action, going.generation).await?);
            outcome.done.extend(stays.into_iter().map(Done::SecretReleased));
            outcome.done.push(Done::Retained);
        }
        Ok(())
    }

    /// Somebody may have deleted the Secret while nobody looked, the garbage collector for one. Once the resource is gone,
    /// nobody would write it again, and nobody would have the keys of an account that goes on working.
    async fn restore_if_missing(
        &self,
        account: &Account,
        going: Deletion<'_>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let Some(desired) = going.enforced().filter(|_| account.active_key().is_some()) else {
            return Ok(());
        };
        if !matches!(self.secrets.find(&desired.secret.at, None).await?, Lookup::Absent) {
            return Ok(());
        }
        self.declarations.confirm_deletion(going.resource).await?;
        let keys = self.issue_keys(account, &desired.owner)?;
        let manifest = SecretManifest::new(&desired.secret, desired.identity(), &keys);
        match self.secrets.create(&manifest).await {
            Ok(_) => outcome.done.push(Done::SecretWritten(manifest.at)),
            // It goes with its namespace, whatever is done.
            Err(SecretError::Ending { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn is_own(&self, at: &SecretRef, resource: &ResourceIdentity) -> Result<bool, Halt> {
        match self.secrets.confirm(at).await? {
            Lookup::Found(found) => Ok(resource.check(found.metadata()).is_ok()),
            Lookup::Absent | Lookup::Unchanged => Ok(false),
        }
    }
}
