//! The end of a resource: what becomes of its account and Secret. Needs neither the Secret nor a valid spec.

use super::desired::{Errors, parse_deletion, parse_management};
use super::halt::{ATTEMPTS, Halt};
use super::{DeletionPolicy, Done, InvalidSpec, Outcome, Reconciler, Refusal, is_dns_subdomain};
use crate::account::{Life, Owner};
use crate::api::{ApiAccountSpec, ApiAccountStatus, ManagementPolicy, default_secret_name};
use crate::database::Action;
use crate::secrets::{Belonging, SecretRef, Sight};
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

impl Reconciler {
    /// Does what the deletion policy says for a resource that is going. Once it is done, the resource may go.
    pub async fn release(&self, resource: &Belonging, policy: DeletionPolicy, generation: Option<i64>) -> Outcome {
        self.release_at(&[], resource, policy, generation).await
    }

    /// The same for a resource on a cluster, whose Secret may be at these places though nothing shows it there.
    pub async fn release_at(
        &self,
        places: &[SecretRef],
        resource: &Belonging,
        policy: DeletionPolicy,
        generation: Option<i64>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let attempt = match policy {
                DeletionPolicy::Delete => self.delete(resource, generation, &mut outcome).await,
                DeletionPolicy::Retain => self.retain(places, resource, generation, &mut outcome).await,
            };
            if outcome.takes_in(attempt) {
                return outcome;
            }
        }
        outcome.refusal = Some(Refusal::Contended);
        outcome
    }

    /// Deletes the account of a resource that is gone without a word, and its Secrets, which no cluster collects then.
    pub async fn prune(&self, resource: &Belonging) -> Outcome {
        let mut outcome = self.release(resource, DeletionPolicy::Delete, None).await;
        if outcome.refusal.is_none() {
            let removed = self.remove_secrets(resource, &mut outcome).await;
            outcome.takes_in(removed);
        }
        outcome
    }

    async fn remove_secrets(&self, resource: &Belonging, outcome: &mut Outcome) -> Result<(), Halt> {
        for at in self.secrets.belonging_to(resource).await? {
            if self.secrets.remove(&at, resource).await? {
                outcome.done.push(Done::SecretRemoved(at));
            }
        }
        Ok(())
    }

    async fn delete(&self, resource: &Belonging, generation: Option<i64>, outcome: &mut Outcome) -> Result<(), Halt> {
        let Some(account) = self.database.find_by_owner(&resource.owner).await? else {
            return Ok(());
        };
        if matches!(account.life, Life::Live | Life::Retained { .. }) {
            self.declarations.still_going(resource).await?;
            let action = Action::Delete { expected: account.version };
            outcome.account = Some(self.commit(account.id, action, generation).await?);
            outcome.done.push(Done::Disabled);
        }
        Ok(())
    }

    /// The Secret first: while it belongs to the resource, it would be collected with it.
    async fn retain(
        &self,
        places: &[SecretRef],
        resource: &Belonging,
        generation: Option<i64>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let mut own = self.secrets.belonging_to(resource).await?;
        for at in places {
            if !own.contains(at) && self.goes_along(at, resource).await? {
                own.push(at.clone());
            }
        }
        for at in own {
            self.declarations.still_going(resource).await?;
            self.secrets.release(&at, resource).await?;
            outcome.done.push(Done::SecretReleased(at));
        }
        let Some(account) = self.database.find_by_owner(&resource.owner).await? else {
            return Ok(());
        };
        if account.life == Life::Live {
            self.declarations.still_going(resource).await?;
            let action = Action::Retain { expected: account.version };
            outcome.account = Some(self.commit(account.id, action, generation).await?);
            outcome.done.push(Done::Retained);
        }
        Ok(())
    }

    /// Whether the Secret at this place is the resource's own, and would be collected with it.
    async fn goes_along(&self, at: &SecretRef, resource: &Belonging) -> Result<bool, Halt> {
        let Sight::Found(found) = self.secrets.confirm(at).await? else {
            return Ok(false);
        };
        let metadata = found.metadata();
        let is_tied = metadata.owner_references.iter().flatten().any(|owner| resource.is_controller(owner));
        Ok(is_tied && resource.check(metadata).is_ok())
    }
}
