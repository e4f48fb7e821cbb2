//! A resource that is declared: parse, finalizer, reconcile, then the report.

use super::connect::Ready;
use super::context::{Context, ReconcileResult};
use super::work::Action;
use crate::account::Life;
use crate::api::{ApiAccount, ApiAccountStatus, ManagementPolicy};
use crate::reconcile::{Desired, History, KnownAccount, NotReady, Obstacle, Outcome, Verified};
use jiff::SignedDuration;
use std::time::Instant;

impl Context {
    pub(super) async fn apply(&self, resource: &ApiAccount, has_finalizer: bool) -> ReconcileResult {
        let previous = self.memory.status(resource);
        let desired = match Desired::parse_for(resource, &self.cluster, self.least_interval) {
            Ok(desired) => Desired { requested_by: self.memory.requested_by(resource), ..desired },
            Err(invalid) => {
                return self.report(resource, "", Outcome::blocked(NotReady::InvalidSpec(invalid)), previous).await;
            }
        };
        let secret_name = &desired.secret.at.name;
        let Some(ready) = self.ready().await else {
            return Ok((Action::await_change(), None));
        };
        let ready = match ready {
            Ok(ready) => ready,
            Err(outage) => return self.report_outage(resource, secret_name, outage, previous).await,
        };
        let is_enforced = !desired.paused && desired.management == ManagementPolicy::Enforce;
        let adds_finalizer = !has_finalizer && !self.freeze.is_on();
        if is_enforced && adds_finalizer {
            // Before the account exists: without the finalizer, a deletion would leave an enabled account behind.
            self.patch_finalizers(resource, true).await?;
        }
        let outcome = self.reconcile_declared(resource, &desired, previous.as_ref(), &ready).await;
        let is_live = outcome.account.as_ref().is_some_and(|account| account.life == Life::Live);
        if !is_enforced && is_live && adds_finalizer {
            // The account existed before: without the finalizer, a deletion would make it an orphan.
            self.patch_finalizers(resource, true).await?;
        }
        let outcome = outcome.attribute_drift(previous.as_ref(), desired.generation);
        self.report(resource, secret_name, outcome, previous).await
    }

    async fn reconcile_declared(
        &self,
        resource: &ApiAccount,
        desired: &Desired,
        previous: Option<&ApiAccountStatus>,
        ready: &Ready,
    ) -> Outcome {
        let known = ready.startup_accounts.take(&desired.owner);
        let verified = previous.and_then(Verified::of);
        let corrections = self.memory.corrections(resource);
        let history = History::new(&corrections, previous, desired.generation, Instant::now())
            .with_obstacle(previous.and_then(|status| Obstacle::of(status, desired.generation)))
            .with_known_account(KnownAccount::of(resource, previous));
        if self.freeze.is_on() {
            return ready.reconciler.report_frozen(&history, desired, verified.as_ref(), known).await;
        }
        let outcome = ready.reconciler.reconcile_with(&history, desired, verified.as_ref(), known).await;
        self.check_repeated_drift(resource, outcome, previous)
    }

    /// Remembers what was corrected. If something keeps changing it, the resource is not Ready for that reason.
    fn check_repeated_drift(
        &self,
        resource: &ApiAccount,
        mut outcome: Outcome,
        previous: Option<&ApiAccountStatus>,
    ) -> Outcome {
        let (now, parts) = (Instant::now(), outcome.corrected(previous, resource.metadata.generation));
        let corrections = self.memory.record_corrections(resource, parts, now);
        if let (None, Some((parts, over))) = (&outcome.not_ready, corrections.repeated(now)) {
            let over = SignedDuration::try_from(over).ok();
            let calm = over.and_then(|over| self.environment.now().checked_add(over).ok());
            outcome.next_reconcile = outcome.next_reconcile.into_iter().chain(calm).min();
            outcome.not_ready = Some(NotReady::RepeatedDrift { parts });
        }
        outcome
    }
}
