//! The reconciler: attempts at one resource until it is as declared, or until no more can be done.
//!
//! An attempt reads top-down: what the database has, what the cluster has ([`observe`](super::observe)), the plan
//! ([`plan`]), its execution ([`execute`](super::execute)), and what is due next.

use super::repeated_drift::Postponed;
use super::step::{ATTEMPTS, Differences, Interruption, Step, again_if_refused};
use super::{
    CreationGuard, Declarations, Desired, Environment, History, Known, NotReady, Observed, ObservedSecret, Outcome,
    SecretPlan, Verified, plan,
};
use crate::account::{Account, Suspension, UnassignedPolicy, next_key_event, next_rotation, rotation_reason};
use crate::api::ManagementPolicy;
use crate::database::{AccountDatabase, CurrentKeyring, UnknownAffiliate};
use crate::secrets::SecretStore;
use jiff::{SignedDuration, Timestamp};
use std::mem::take;
use std::ops::ControlFlow;
use std::sync::Arc;

/// Brings accounts and Secrets to their declared state.
pub struct Reconciler {
    /// The account database.
    pub database: Arc<dyn AccountDatabase>,
    /// The store of Secrets.
    pub secrets: Arc<dyn SecretStore>,
    /// Seals secret keys in the database, and marks Secrets. Another file may replace it at any time.
    pub keyring: CurrentKeyring,
    /// What to do about affiliates that OpsAdmin does not know.
    pub unknown_affiliate: UnknownAffiliate,
    /// Who may adopt an account that was imported for no namespace.
    pub unassigned: UnassignedPolicy,
    /// The name of this program in the journal.
    pub actor: String,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// Confirms, before a change, that the resource still declares what was read.
    pub declarations: Arc<dyn Declarations>,
    /// Decides whether a missing account may be created.
    pub creations: Arc<dyn CreationGuard>,
}

impl Reconciler {
    /// Reconciles one resource without a history of earlier reconciles.
    ///
    /// `verified` saves reading a Secret that has not changed. `known` is the account as a bulk read found it a moment
    /// ago, and saves reading it.
    pub async fn reconcile(&self, desired: &Desired, verified: Option<&Verified>, known: Option<Account>) -> Outcome {
        self.reconcile_with(&History::default(), desired, verified, known.into()).await
    }

    /// Reconciles one resource with its history: repeated drift is corrected less and less often, and an obstacle of
    /// the last reconcile is checked before anything is written.
    pub async fn reconcile_with(
        &self,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Known,
    ) -> Outcome {
        self.attempt_until_it_ends(Differences::Correct, history, desired, verified, known).await
    }

    /// Makes attempts until one of them ends the reconcile, and at most [`ATTEMPTS`].
    pub(super) async fn attempt_until_it_ends(
        &self,
        differences: Differences,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        mut known: Known,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        for _ in 0..ATTEMPTS {
            let is_assumed_missing = known == Known::NoAccount;
            let known = take(&mut known);
            let mut ended = match differences {
                Differences::Correct => self.attempt(history, desired, verified, known, &mut outcome).await,
                Differences::Report => self.compare(history, desired, verified, known, &mut outcome).await,
            };
            if is_assumed_missing {
                ended = again_if_refused(ended);
            }
            if outcome.ends_with(ended, self.declarations.as_ref(), &desired.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    async fn attempt(
        &self,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Known,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        // An earlier attempt may have verified keys that were rotated since.
        (outcome.secret_version, outcome.label_corrected) = (None, None);
        let account = known.or_read(self.database.as_ref(), &desired.owner).await?;
        outcome.read(account.as_ref());
        let desired = &*desired.keeping_addresses(account.as_ref());
        if desired.paused {
            return Ok(Step::Blocked(NotReady::Paused));
        }
        if desired.management == ManagementPolicy::Observe {
            return self.report_only(desired, verified, account, outcome).await;
        }
        if let Err(not_ready) =
            self.creations.check(&desired.owner, history.known_account.as_ref(), account.as_ref()).await
        {
            // This database may be the wrong one, so nothing from it goes into the status.
            outcome.account = None;
            return Err(not_ready.into());
        }
        match self.observe(desired, verified, account.clone()).await {
            Ok(observed) => self.enforce(history, desired, verified, &observed, outcome).await,
            Err(Interruption::Failed(not_ready)) if account.is_some() => {
                self.enforce_account(history, desired, account, not_ready, outcome).await
            }
            Err(interruption) => Err(interruption),
        }
    }

    /// Changes what differs from the declaration.
    async fn enforce(
        &self,
        history: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let now = self.environment.now();
        let (plan, postponed) = history.pace(plan(desired, observed, now), observed.account.as_ref(), desired);
        if let Some(step) = self.check_obstacle(history.obstacle, &plan, desired, observed, outcome).await? {
            return Ok(step);
        }
        match self.execute(&plan, desired, observed, verified, outcome).await? {
            Step::Done => Ok(conclude(desired, postponed, now, outcome)),
            step => Ok(step),
        }
    }

    /// Changes the account alone if the Secret cannot be observed. The settings of the account, such as its allowed
    /// addresses, do not depend on the Secret. The keys stay as they are.
    async fn enforce_account(
        &self,
        history: &History<'_>,
        desired: &Desired,
        account: Option<Account>,
        secret_problem: NotReady,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let observed = Observed { account, secret: ObservedSecret::Verified, stale_secrets: Vec::new() };
        let plan = plan(desired, &observed, self.environment.now());
        if let Some(step) = self.check_obstacle(history.obstacle, &plan, desired, &observed, outcome).await? {
            return Ok(step);
        }
        match self.execute_account(&plan.account, desired, &observed, outcome).await? {
            ControlFlow::Break(step) => Ok(step),
            ControlFlow::Continue((account, _)) => {
                outcome.account = Some(account);
                Ok(Step::Blocked(secret_problem))
            }
        }
    }

    /// Reports what differs from the declaration, and changes nothing.
    async fn report_only(
        &self,
        desired: &Desired,
        verified: Option<&Verified>,
        account: Option<Account>,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let now = self.environment.now();
        let observed = self.observe(desired, verified, account).await?;
        let mut plan = plan(desired, &observed, now);
        plan.secret = plan.secret.without_bookkeeping();
        if plan.secret == SecretPlan::Keep {
            outcome.secret_version = observed.secret.version(verified);
        }
        self.report_drift(&plan, desired, now, outcome).await
    }
}

/// Ends an attempt whose plan was executed. Returns another attempt if a rotation is due, or why the resource is not
/// Ready.
fn conclude(desired: &Desired, postponed: Option<Postponed>, now: Timestamp, outcome: &mut Outcome) -> Step {
    let is_due = |account: &Account| rotation_reason(&desired.rotation, account, now).is_some();
    // A rotation waits until the Secret is known to be the resource's own, which may be known only now.
    if postponed.is_none() && outcome.account.as_ref().is_some_and(is_due) {
        return Step::Again;
    }
    let scheduled = schedule(desired, outcome);
    let Some(Postponed { parts, wait }) = postponed else { return scheduled };
    let next_correction = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
    outcome.next_reconcile = outcome.next_reconcile.into_iter().chain(next_correction).min();
    Step::Blocked(NotReady::RepeatedDrift { parts })
}

/// Sets when the keys are due next, and ends the attempt, with a reason if the account differs from the declaration.
pub(super) fn schedule(desired: &Desired, outcome: &mut Outcome) -> Step {
    let Some(account) = &outcome.account else {
        return Step::Done;
    };
    outcome.next_rotation = next_rotation(&desired.rotation, account);
    outcome.next_reconcile = next_key_event(&desired.rotation, account);
    match desired.addresses_kept_of(account).or_else(|| suspended(account)) {
        Some(not_ready) => Step::Blocked(not_ready),
        None => Step::Done,
    }
}

/// Returns the account's suspension by OpsAdmin's staff, which takes precedence over the declaration.
pub(super) fn suspended(account: &Account) -> Option<NotReady> {
    let Suspension { since, reason } = account.suspension.as_ref()?;
    Some(NotReady::Suspended { since: *since, reason: reason.clone() })
}
