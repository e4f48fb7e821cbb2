//! Adopts or refuses an account that already has the declared name, and reports drift for resources that only observe.

use super::drift::{difference, drift};
use super::not_ready::{AdoptionPath, holder};
use super::reconciler::suspended;
use super::step::{Interruption, Step};
use super::{AccountPlan, Desired, Done, NotReady, Observed, Outcome, Plan, Reconciler, SecretPlan};
use crate::account::{Account, AccountName, Life, next_expiry};
use crate::api::{ACCOUNT_LABEL, AdoptionPolicy};
use crate::database::{Action, NameHolder};
use jiff::{SignedDuration, Timestamp};

/// The pause before the next reconcile if no notification will report that a difference is gone.
const DRIFT_POLL: SignedDuration = SignedDuration::from_mins(1);

impl Reconciler {
    /// Adopts an account that has the declared name, if the resource asks for that and no resource declares it. Refuses
    /// otherwise.
    pub(super) async fn adopt_or_refuse(
        &self,
        taken: &Account,
        name: AccountName,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        outcome.name_holder = Some(NameHolder::of(taken));
        let cluster = &desired.owner.cluster;
        let declared_by = taken.owner.as_ref().filter(|_| taken.life == Life::Live);
        let is_permitted = taken.may_be_adopted_by(&desired.owner, self.unassigned);
        let asks = desired.adoption == AdoptionPolicy::IfUnowned;
        let has_account = observed.account.is_some();
        let not_ready = match declared_by {
            Some(owner) if asks || owner.cluster != *cluster => {
                NotReady::OwnedElsewhere { name, holder: holder(taken, cluster) }
            }
            Some(_) => NotReady::NameTaken { name, holder: holder(taken, cluster) },
            // A resource has one account: a rename does not give it a second one.
            None if has_account => NotReady::NameTaken { name, holder: holder(taken, cluster) },
            None if asks && is_permitted => return self.adopt(taken, desired, outcome).await,
            None => {
                let difference = difference(taken, &desired.keeping_addresses(Some(taken)));
                let way = if is_permitted { AdoptionPath::Policy } else { AdoptionPath::staff(taken, &desired.owner) };
                NotReady::AdoptionRequired { name, difference, way }
            }
        };
        Ok(Step::Blocked(not_ready))
    }

    async fn adopt(&self, account: &Account, desired: &Desired, outcome: &mut Outcome) -> Result<Step, Interruption> {
        let (owner, answered) = (desired.owner.clone(), desired.rotation.requests.clone());
        let adopt = Action::Adopt { expected: account.version, owner, answered };
        self.declarations.confirm(desired).await?;
        self.commit(account.id, adopt, desired.request()).await?;
        outcome.done.push(Done::Adopted);
        Ok(Step::Again)
    }

    /// Reports what differs from the declaration, and changes nothing.
    pub(super) async fn report_drift(
        &self,
        plan: &Plan,
        desired: &Desired,
        now: Timestamp,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let unowned = match plan.account {
            AccountPlan::Create { .. } | AccountPlan::Unproven => {
                self.database.find_by_name(&desired.settings.name).await?
            }
            _ => None,
        };
        outcome.drift = drift(plan, desired, unowned.as_ref());
        // Another program rotates and revokes these keys, so only an expiry changes what there is to report.
        outcome.next_reconcile = outcome.account.as_ref().and_then(|account| next_expiry(account, now));
        if outcome.drift.is_empty() {
            return Ok(outcome.account.as_ref().and_then(suspended).map_or(Step::Done, Step::Blocked));
        }
        if needs_polling(plan) {
            let soon = now.checked_add(DRIFT_POLL).ok();
            outcome.next_reconcile = outcome.next_reconcile.into_iter().chain(soon).min();
        }
        let fields = outcome.drift.iter().map(|drift| drift.field.clone()).collect();
        Ok(Step::Blocked(NotReady::Drifted { fields }))
    }
}

/// Returns whether a difference is about an account of another owner or about a Secret that the watch does not show.
fn needs_polling(plan: &Plan) -> bool {
    let is_unwatched = match &plan.secret {
        SecretPlan::Keep | SecretPlan::Postpone | SecretPlan::Undecided => false,
        SecretPlan::Create | SecretPlan::Refuse { .. } => true,
        SecretPlan::Replace { parts } => parts.contains(&format!("label {ACCOUNT_LABEL}")),
    };
    is_unwatched || matches!(plan.account, AccountPlan::Create { .. } | AccountPlan::Unproven)
}
