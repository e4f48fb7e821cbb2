//! One resource: finalizer, reconcile, status, events and log lines.

use super::connect::{Connection, Ready};
use super::events::Events;
use super::memory::Memory;
use crate::account::{ClusterId, Owner};
use crate::api::{ApiAccount, ApiAccountStatus, FINALIZER, GROUP, KIND, MANAGER, Reason, VERSION, condition};
use crate::database::DatabaseError;
use crate::reconcile::{Desired, Outcome, Refusal, Verified, status};
use crate::secrets::Belonging;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::watch;

/// What every resource is reconciled with.
pub(super) struct Controlled {
    pub client: Client,
    pub cluster: ClusterId,
    pub connection: watch::Receiver<Connection>,
    pub events: Events,
    pub memory: Memory,
}

/// Reconciles one resource and answers when to look again.
///
/// # Errors
/// The API server did not take a finalizer or a status.
pub(super) async fn reconcile(resource: Arc<ApiAccount>, controlled: Arc<Controlled>) -> Result<Action, kube::Error> {
    let has_finalizer = resource.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    match (&resource.metadata.deletion_timestamp, has_finalizer) {
        (Some(_), false) => Ok(Action::await_change()),
        (Some(_), true) => controlled.release(&resource).await,
        (None, _) => controlled.apply(&resource, has_finalizer).await,
    }
}

/// What to do after the API server did not take something.
#[expect(clippy::needless_pass_by_value, reason = "the signature of kube's error policies")]
pub(super) fn on_error(resource: Arc<ApiAccount>, error: &kube::Error, controlled: Arc<Controlled>) -> Action {
    let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
    tracing::warn!(namespace, name, %error, "the API server did not take a change; trying again");
    controlled.later(&resource)
}

impl Controlled {
    async fn apply(&self, resource: &ApiAccount, has_finalizer: bool) -> Result<Action, kube::Error> {
        let previous = self.memory.status(resource);
        let desired = match Desired::parse(resource, &self.cluster) {
            Ok(desired) => desired,
            Err(invalid) => {
                let outcome = Outcome::refused(Refusal::InvalidSpec(invalid));
                return self.report(resource, "", &outcome, previous).await;
            }
        };
        let Some(ready) = self.ready().await else {
            return Ok(Action::await_change());
        };
        let outcome = match ready {
            Err(refusal) => Outcome::refused(refusal),
            Ok(ready) => {
                // Before the account is made: without it, a deletion would leave the account behind, enabled.
                if !has_finalizer {
                    self.patch_finalizers(resource, true).await?;
                }
                let known = ready.known_at_start(&desired.owner);
                let verified = previous.as_ref().and_then(Verified::of);
                ready.reconciler.reconcile(&desired, verified.as_ref(), known).await
            }
        };
        self.report(resource, &desired.secret.at.name, &outcome, previous).await
    }

    /// The finalizer goes only when the account no longer authenticates, or was left as it is on request.
    async fn release(&self, resource: &ApiAccount) -> Result<Action, kube::Error> {
        let belonging = Belonging { owner: Owner::of(resource, &self.cluster), uid: resource.metadata.uid.clone() };
        let Some(ready) = self.ready().await else {
            return Ok(Action::await_change());
        };
        let outcome = match ready {
            Err(refusal) => Outcome::refused(refusal),
            Ok(ready) => {
                let policy = resource.spec.deletion_policy;
                ready.reconciler.release(&belonging, policy, resource.metadata.generation).await
            }
        };
        if outcome.refusal.is_some() {
            let previous = self.memory.status(resource);
            return self.report(resource, "", &outcome, previous).await;
        }
        self.tell(resource, &outcome, false).await;
        self.patch_finalizers(resource, false).await?;
        self.memory.forget(resource);
        Ok(Action::await_change())
    }

    /// Waits for the end of the first try, which is soon, so that a start does not look like an outage. `None` when the
    /// controller is ending.
    async fn ready(&self) -> Option<Result<Arc<Ready>, Refusal>> {
        let mut connection = self.connection.clone();
        let tried = connection.wait_for(|connection| !matches!(connection, Connection::Trying)).await;
        match tried.as_deref().ok()? {
            Connection::Trying => None,
            Connection::Ready(ready) => Some(Ok(Arc::clone(ready))),
            Connection::Waiting { reason } => {
                Some(Err(Refusal::Database(DatabaseError::Unavailable { reason: reason.clone() })))
            }
        }
    }

    /// Writes the status if it says anything new, tells what happened, and answers when to look again.
    async fn report(
        &self,
        resource: &ApiAccount,
        secret_name: &str,
        outcome: &Outcome,
        previous: Option<ApiAccountStatus>,
    ) -> Result<Action, kube::Error> {
        let now = k8s_openapi::jiff::Timestamp::now();
        let status = status(resource.metadata.generation, secret_name, outcome, previous.as_ref(), now);
        let is_new_refusal = ready_text(previous.as_ref()) != ready_text(Some(&status));
        let written =
            if previous.as_ref() == Some(&status) { Ok(()) } else { self.patch_status(resource, &status).await };
        // What was done is not done again, so this is the only time to tell it. A refusal comes again with the next try.
        self.tell(resource, outcome, is_new_refusal && written.is_ok()).await;
        written?;
        Ok(match &outcome.refusal {
            None => {
                self.memory.succeeded(resource);
                Action::await_change()
            }
            Some(refusal) if refusal.reason() == Reason::InvalidSpec => Action::await_change(),
            Some(_) => self.later(resource),
        })
    }

    async fn tell(&self, resource: &ApiAccount, outcome: &Outcome, is_new_refusal: bool) {
        let (namespace, name) = (resource.namespace().unwrap_or_default(), resource.name_any());
        for done in &outcome.done {
            tracing::info!(namespace, name, change = done.reason(), "{done}");
            self.events.done(resource, done).await;
        }
        if let Some(refusal) = &outcome.refusal
            && is_new_refusal
        {
            tracing::warn!(namespace, name, reason = %refusal.reason(), "{refusal}");
            self.events.refused(resource, refusal).await;
        }
    }

    fn later(&self, resource: &ApiAccount) -> Action {
        Action::requeue(self.memory.pause_after_failure(resource, rand::random()))
    }

    fn api(&self, resource: &ApiAccount) -> Api<ApiAccount> {
        Api::namespaced(self.client.clone(), &resource.namespace().unwrap_or_default())
    }

    /// The version that was seen goes along: if anything changed since, nothing is patched and the next look decides.
    async fn patch_finalizers(&self, resource: &ApiAccount, wanted: bool) -> Result<(), kube::Error> {
        let mut finalizers = resource.finalizers().to_vec();
        finalizers.retain(|finalizer| finalizer != FINALIZER);
        if wanted {
            finalizers.push(FINALIZER.to_owned());
        }
        let patch = json!({
            "metadata": { "resourceVersion": resource.resource_version(), "finalizers": finalizers }
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        self.api(resource).patch_metadata(&resource.name_any(), &params, &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn patch_status(&self, resource: &ApiAccount, status: &ApiAccountStatus) -> Result<(), kube::Error> {
        let patch = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": KIND,
            "metadata": { "uid": resource.metadata.uid },
            "status": status,
        });
        let params = PatchParams::apply(MANAGER).force();
        let written = self.api(resource).patch_status(&resource.name_any(), &params, &Patch::Apply(patch)).await?;
        self.memory.wrote(&written);
        Ok(())
    }
}

/// What the Ready condition says, but for when.
fn ready_text(status: Option<&ApiAccountStatus>) -> Option<(&str, &str, &str)> {
    let ready = status?.conditions.iter().find(|condition| condition.type_ == condition::READY)?;
    Some((&ready.status, &ready.reason, &ready.message))
}
