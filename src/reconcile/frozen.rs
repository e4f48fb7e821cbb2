//! What a frozen controller reports about one resource: everything that it would change. Nothing is written.

use super::reconciler::schedule;
use super::step::{Differences, Interruption, Step};
use super::{Desired, Drift, History, KeysPlan, Known, NotReady, Outcome, Reconciler, SecretPlan, Verified, plan};
use crate::api::ManagementPolicy;

/// The field that a difference of the account's keys is reported under.
const KEYS: &str = "keys";

impl Reconciler {
    /// Reports what [`Self::reconcile_with`] would change, and changes nothing. If that is nothing, the outcome is the same
    /// as that of a reconcile.
    pub async fn report_frozen(
        &self,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Known,
    ) -> Outcome {
        if desired.paused || desired.management == ManagementPolicy::Observe {
            // A reconcile of such a resource changes nothing either.
            return self.reconcile_with(history, desired, verified, known).await;
        }
        self.attempt_until_it_ends(Differences::Report, history, desired, verified, known).await
    }

    /// One attempt: compares the account and its Secret with the declaration.
    pub(super) async fn compare(
        &self,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Known,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let account = known.or_read(self.database.as_ref(), &desired.owner).await?;
        outcome.read(account.as_ref());
        let desired = desired.keeping_addresses(account.as_ref());
        if let Err(not_ready) =
            self.creations.check(&desired.owner, history.known_account.as_ref(), account.as_ref()).await
        {
            // This database may be the wrong one, so nothing from it goes into the status.
            outcome.account = None;
            return Err(not_ready.into());
        }
        let observing = Desired { management: ManagementPolicy::Observe, ..(*desired).clone() };
        let now = self.environment.now();
        let observed = self.observe(&observing, verified, account).await?;
        let plan = plan(&desired, &observed, now);
        if plan.secret == SecretPlan::Keep {
            outcome.secret_version = observed.secret.version(verified);
        }
        // The step is not used: it is about a resource that always only observes.
        self.report_drift(&plan, &desired, now, outcome).await?;
        outcome.drift.extend(keys_drift(&plan.keys));
        if !outcome.drift.is_empty() {
            let pending = outcome.drift.iter().map(|drift| drift.field.clone()).collect();
            return Ok(Step::Blocked(NotReady::Frozen { pending }));
        }
        let step = schedule(&desired, outcome);
        // An expired key pair is removed after the freeze. It has stopped working at its time.
        outcome.next_reconcile = outcome.next_reconcile.filter(|at| *at > now);
        Ok(step)
    }
}

/// Returns the change of the keys that is left to do. The removal of expired key pairs is not reported, because they
/// have stopped working by themselves.
fn keys_drift(plan: &KeysPlan) -> Option<Drift> {
    let (declared, actual) = match plan {
        KeysPlan::Keep | KeysPlan::Revoke(_) => return None,
        KeysPlan::Rotate { reason, .. } => (format!("rotated: {}", reason.as_str()), "not rotated yet"),
        KeysPlan::Restore(_) => ("the key pair in the Secret".to_owned(), "no key pair in the database"),
    };
    Some(Drift { field: KEYS.to_owned(), declared, actual: actual.to_owned() })
}
