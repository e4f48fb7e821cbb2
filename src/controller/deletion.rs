//! A resource that is being deleted: its account loses its access before the resource goes, unless the brake holds it.

use super::brake::{Cause, Counted, Decision};
use super::connect::Ready;
use super::context::{Context, LONGEST_BACKOFF, ReconcileResult};
use super::held::Key;
use super::work::Action;
use crate::account::{Life, Owner};
use crate::api::{ApiAccount, ApiAccountStatus};
use crate::database::DatabaseError;
use crate::reconcile::{
    Deletion, DeletionPolicy, Desired, NotReady, Outcome, Verified, deletion_policy, deletions_count_since,
    is_confirmed, is_held, may_be_held, possible_secrets,
};
use crate::secrets::{ResourceIdentity, SecretError};
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use std::time::{Duration, Instant};

/// The pause before the next attempt of a deletion whose decision depends on other deletions that have not finished.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Context {
    /// Removes the finalizer only when the account no longer authenticates, or was kept as its deletion policy says.
    pub(super) async fn delete(&self, resource: &ApiAccount) -> ReconcileResult {
        let status = self.memory.status(resource);
        let policy = match deletion_policy(&resource.spec) {
            Ok(policy) => policy,
            Err(invalid) => {
                return self.report(resource, "", Outcome::blocked(NotReady::InvalidSpec(invalid)), status).await;
            }
        };
        let Some(ready) = self.ready().await else {
            return Ok((Action::await_change(), None));
        };
        if may_be_held(resource) && !self.knows_all_held_deletions(resource) {
            return Ok((Action::await_change(), None));
        }
        let ready = match ready {
            Ok(ready) => ready,
            // After a restart, only the status says that the deletion is held. So the status is not overwritten.
            Err(_) if self.was_held(resource) && self.ask_brake(resource, None) == Decision::Held => {
                return Ok((Action::await_change(), None));
            }
            Err(outage) => return self.report_outage(resource, "", outage, status).await,
        };
        if self.freeze.is_on() {
            return self.report_frozen_deletion(resource, status).await;
        }
        let identity =
            ResourceIdentity { owner: Owner::of(resource, &self.cluster), uid: resource.metadata.uid.clone() };
        let places = possible_secrets(&identity.owner, &resource.spec, status.as_ref());
        // A deletion does not wait for a valid spec.
        let desired = Desired::parse(resource, &self.cluster).ok();
        let requested_by = self.memory.requested_by(resource);
        let deletion = Deletion {
            resource: &identity,
            desired: desired.as_ref(),
            places: &places,
            generation: resource.metadata.generation,
            requested_by: requested_by.as_ref(),
            confirmed: is_confirmed(resource),
        };
        let outcome = match self.decide_deletion(resource, &identity.owner, &ready).await {
            Ok(Decision::Allowed) => ready.reconciler.delete(deletion, policy).await,
            Ok(Decision::Held) => return self.hold_deletion(resource, deletion, status, &ready).await,
            Ok(Decision::NeedsCount | Decision::AskAgain) => return Ok((Action::requeue(ASK_AGAIN), None)),
            Err(error) => Outcome::blocked(NotReady::Database(error)),
        };
        if outcome.not_ready.is_some() {
            return self.report(resource, "", outcome, status).await;
        }
        self.log_done_for(resource, &outcome.done);
        self.emit_events(resource, &outcome, false);
        self.waiting.update(&ObjectRef::from_obj(resource), &outcome, Instant::now());
        self.brake.deleted(&ObjectRef::from_obj(resource), Instant::now());
        // The resource stays until no auth server lets the account in any more.
        if let Some(left) = self.time_left_to_end(resource, policy, &outcome) {
            return Ok((Action::requeue(left), Some(outcome)));
        }
        self.finish_deletion(resource).await?;
        Ok((Action::await_change(), Some(outcome)))
    }

    /// Reports that the deletion waits for the end of the freeze. The account works as before.
    async fn report_frozen_deletion(
        &self,
        resource: &ApiAccount,
        previous: Option<ApiAccountStatus>,
    ) -> ReconcileResult {
        if self.was_held(resource) && self.ask_brake(resource, None) == Decision::Held {
            // After the freeze, only the status says that the deletion is held. So the status is not overwritten.
            return Ok((Action::await_change(), None));
        }
        let outcome = Outcome::blocked(NotReady::Frozen { pending: vec!["the deletion".to_owned()] });
        self.report(resource, "", outcome, previous).await
    }

    /// Returns how much longer an auth server may let the account in. A retained account is let in as before.
    fn time_left_to_end(&self, resource: &ApiAccount, policy: DeletionPolicy, outcome: &Outcome) -> Option<Duration> {
        match policy {
            DeletionPolicy::Delete => {
                self.revocations.time_left(&ObjectRef::from_obj(resource), outcome, Instant::now())
            }
            DeletionPolicy::Retain => None,
        }
    }

    async fn finish_deletion(&self, resource: &ApiAccount) -> Result<(), kube::Error> {
        let reference = ObjectRef::from_obj(resource);
        // This comes before the watch shows that the resource is gone. A deletion that is held at that time was never
        // allowed.
        self.brake.release(&reference);
        self.patch_finalizers(resource, false).await?;
        self.memory.forget(resource);
        self.pickups.forget(&Key::of_resource(resource));
        self.versions.forget(&reference);
        self.revocations.forget(&reference);
        Ok(())
    }

    /// Reports that a deletion is held, and keeps the Secret as declared. The account works until a user confirms the
    /// deletion.
    async fn hold_deletion(
        &self,
        resource: &ApiAccount,
        deletion: Deletion<'_>,
        previous: Option<ApiAccountStatus>,
        ready: &Ready,
    ) -> ReconcileResult {
        let verified = previous.as_ref().and_then(Verified::of);
        let mut outcome = ready
            .reconciler
            .keep_secret_of_held(deletion, verified.as_ref())
            .await
            .attribute_drift(previous.as_ref(), deletion.generation);
        let held = NotReady::DeletionHeld { percent: self.brake.percent };
        let secret_problem = outcome.not_ready.replace(held).filter(|problem| {
            // Kubernetes deletes the Secret together with its namespace in any case.
            !matches!(problem, NotReady::Secret(SecretError::Ending { .. }))
        });
        let secret_name = deletion.desired.map(|desired| desired.secret.at.name.as_str()).unwrap_or_default();
        let (action, outcome) = self.report(resource, secret_name, outcome, previous).await?;
        let Some(problem) = secret_problem else {
            return Ok((action, outcome));
        };
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        tracing::warn!(namespace, name, "the deletion is held, and the Secret cannot be kept in sync: {problem}");
        Ok((self.retry_later(resource, LONGEST_BACKOFF), outcome))
    }

    /// Returns whether the brake knows every deletion that was held before a restart, since one held deletion holds the
    /// deletions in all namespaces. If not, the resource is reconciled again once all namespaces have been listed.
    fn knows_all_held_deletions(&self, resource: &ApiAccount) -> bool {
        if self.resources().is_some() {
            return true;
        }
        self.waiting.wait_for_lists(&ObjectRef::from_obj(resource));
        // The last list may have come before the resource was registered as waiting.
        let is_known = self.resources().is_some();
        if !is_known {
            let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
            tracing::info!(namespace, name, "the deletion waits until every namespace has been listed");
        }
        is_known
    }

    /// Asks the brake. Recent deletions are counted only if the decision depends on them.
    async fn decide_deletion(
        &self,
        resource: &ApiAccount,
        owner: &Owner,
        ready: &Ready,
    ) -> Result<Decision, DatabaseError> {
        match self.ask_brake(resource, None) {
            Decision::NeedsCount => {}
            decision => return Ok(decision),
        }
        // The deletion of an account that has already lost its access was allowed before a restart.
        let account = ready.reconciler.database.find_by_owner(owner).await?;
        if account.is_none_or(|account| matches!(account.life, Life::Deleted { .. })) {
            return Ok(Decision::Allowed);
        }
        Ok(self.ask_brake(resource, Some(self.count_deletions(ready).await?)))
    }

    /// Counts the live accounts and the recent deletions in the database.
    pub(super) async fn count_deletions(&self, ready: &Ready) -> Result<Counted, DatabaseError> {
        let asked = Instant::now();
        let since = deletions_count_since(ready.reconciler.environment.now());
        let deletions = ready.reconciler.database.deletions(&self.cluster, since).await?;
        Ok(Counted { asked, deletions })
    }

    fn ask_brake(&self, resource: &ApiAccount, counted: Option<Counted>) -> Decision {
        if !may_be_held(resource) {
            return Decision::Allowed;
        }
        let cause = Cause::Deletion { was_held: self.was_held(resource) };
        self.brake.decide(&ObjectRef::from_obj(resource), cause, counted, Instant::now())
    }

    fn was_held(&self, resource: &ApiAccount) -> bool {
        is_held(self.memory.status(resource).as_ref())
    }
}
