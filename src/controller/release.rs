//! A resource that is being deleted: its account loses its access before it goes, unless the brake holds it.

use super::brake::{Cause, Counted, Decision};
use super::connect::Ready;
use super::object::{Context, LONGEST_WAIT, ReconcileResult};
use crate::account::{Life, Owner};
use crate::api::ApiAccount;
use crate::database::DatabaseError;
use crate::reconcile::{
    Deletion, DeletionPolicy, Desired, NotReady, Outcome, Verified, deletion_policy, deletions_count_since,
    is_confirmed, is_held, secret_places,
};
use crate::secrets::{ResourceIdentity, SecretError};
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use std::time::{Duration, Instant};

/// When to look again at a deletion that waits for others which are under way.
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl Context {
    /// The finalizer goes only when the account no longer authenticates, or was left as it is on request.
    pub(super) async fn release(&self, resource: &ApiAccount) -> ReconcileResult {
        let identity =
            ResourceIdentity { owner: Owner::of(resource, &self.cluster), uid: resource.metadata.uid.clone() };
        let policy = match deletion_policy(&resource.spec) {
            Ok(policy) => policy,
            Err(invalid) => {
                let outcome = Outcome::blocked(NotReady::InvalidSpec(invalid));
                return self.report(resource, "", outcome, self.memory.status(resource)).await;
            }
        };
        let Some(ready) = self.ready().await else {
            return Ok((Action::await_change(), None));
        };
        if may_be_held(resource) && !self.knows_all_held_deletions(resource) {
            return Ok((Action::await_change(), None));
        }
        let status = self.memory.status(resource);
        let places = secret_places(&identity.owner, &resource.spec, status.as_ref());
        // A deletion does not wait for a spec that is right. What it needs of the spec is read by itself.
        let desired = Desired::parse(resource, &self.cluster).ok();
        let going = Deletion {
            resource: &identity,
            desired: desired.as_ref(),
            places: &places,
            generation: resource.metadata.generation,
            confirmed: is_confirmed(resource),
        };
        let outcome = match ready {
            // Its status says so, and is all that does after a restart: it is not overwritten.
            Err(_) if self.was_held(resource) && self.ask_brake(resource, None) == Decision::Held => {
                return Ok((Action::await_change(), None));
            }
            Err(not_ready) => return self.report_outage(resource, "", not_ready, status).await,
            Ok(ready) => match self.decide_deletion(resource, &identity.owner, &ready).await {
                Ok(Decision::Allowed) => ready.reconciler.release(going, policy).await,
                Ok(Decision::Held) => {
                    let held = NotReady::DeletionHeld { percent: self.brake.percent };
                    return self.hold_deletion(resource, going, held, &ready).await;
                }
                Ok(Decision::NeedsCount | Decision::AskAgain) => return Ok((Action::requeue(ASK_AGAIN), None)),
                Err(error) => Outcome::blocked(NotReady::Database(error)),
            },
        };
        if outcome.not_ready.is_some() {
            return self.report(resource, "", outcome, status).await;
        }
        self.log_done(&resource.namespace().unwrap_or_default(), &resource.name_any(), &outcome.done);
        self.emit_events(resource, &outcome, false);
        self.waiting.update(&ObjectRef::from_obj(resource), &outcome, Instant::now());
        self.brake.deleted(&ObjectRef::from_obj(resource), Instant::now());
        // Before the watch shows that it is gone: what is held then was let go by nobody.
        self.brake.release(&ObjectRef::from_obj(resource));
        self.patch_finalizers(resource, false).await?;
        self.memory.forget(resource);
        self.versions.forget(&ObjectRef::from_obj(resource));
        Ok((Action::await_change(), Some(outcome)))
    }

    /// Reports that a deletion is held. Until somebody lets it go, the account works, so its Secret has to be there.
    async fn hold_deletion(
        &self,
        resource: &ApiAccount,
        going: Deletion<'_>,
        held: NotReady,
        ready: &Ready,
    ) -> ReconcileResult {
        let previous = self.memory.status(resource);
        let verified = previous.as_ref().and_then(Verified::of);
        let mut outcome =
            ready.reconciler.hold(going, verified.as_ref()).await.attribute_drift(previous.as_ref(), going.generation);
        let trouble = outcome.not_ready.replace(held).filter(|trouble| {
            // With its namespace, the Secret is gone for good.
            !matches!(trouble, NotReady::Secret(SecretError::Ending { .. }))
        });
        let secret_name = going.desired.map(|desired| desired.secret.at.name.as_str()).unwrap_or_default();
        let (action, outcome) = self.report(resource, secret_name, outcome, previous).await?;
        let Some(trouble) = trouble else {
            return Ok((action, outcome));
        };
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        tracing::warn!(namespace, name, "the deletion is held, and the Secret cannot be kept right: {trouble}");
        Ok((self.retry_later(resource, LONGEST_WAIT), outcome))
    }

    /// Whether the brake knows of every deletion that was held before a restart: whoever is held in one namespace holds up the
    /// deletions in all of them. If not, the resource is looked at again once it does.
    fn knows_all_held_deletions(&self, resource: &ApiAccount) -> bool {
        if self.resources().is_some() {
            return true;
        }
        self.waiting.wait_for_lists(&ObjectRef::from_obj(resource));
        // The last list may have come before it waited.
        let is_known = self.resources().is_some();
        if !is_known {
            let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
            tracing::info!(namespace, name, "the deletion waits until every namespace has been listed");
        }
        is_known
    }

    /// Whether this one is let go unasked, or too many lose their access at once.
    async fn decide_deletion(
        &self,
        resource: &ApiAccount,
        owner: &Owner,
        ready: &Ready,
    ) -> Result<Decision, DatabaseError> {
        match self.ask_brake(resource, None) {
            Decision::NeedsCount => {}
            verdict => return Ok(verdict),
        }
        // Who has lost its access already loses nothing by going: it was let go before a restart.
        let account = ready.reconciler.database.find_by_owner(owner).await?;
        if account.is_none_or(|account| matches!(account.life, Life::Deleted { .. })) {
            return Ok(Decision::Allowed);
        }
        Ok(self.ask_brake(resource, Some(self.count_deletions(ready).await?)))
    }

    /// How many accounts there are and how many went lately, by the database.
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
        let end = Cause::Deletion { was_held: self.was_held(resource) };
        self.brake.decide(&ObjectRef::from_obj(resource), end, counted, Instant::now())
    }

    fn was_held(&self, resource: &ApiAccount) -> bool {
        is_held(self.memory.status(resource).as_ref())
    }
}

/// Whether the brake has a say in its deletion.
fn may_be_held(resource: &ApiAccount) -> bool {
    deletion_policy(&resource.spec) == Ok(DeletionPolicy::Delete) && !is_confirmed(resource)
}
