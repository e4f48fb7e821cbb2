//! An account that somebody else has, or nobody: taken over, refused, or only told about.

use super::drift::{difference, drift};
use super::halt::Halt;
use super::outcome::{AdoptionPath, holder};
use super::reconciler::check_suspension;
use super::{AccountPlan, Desired, Done, NotReady, Observed, Outcome, Plan, Reconciler, SecretPlan};
use crate::account::{Account, AccountName, Life, next_expiry};
use crate::api::{ACCOUNT_LABEL, AdoptionPolicy};
use crate::database::{Action, NameHolder};
use jiff::{SignedDuration, Timestamp};

/// How long a difference stands of which nobody will tell that it has gone.
const DRIFT_POLL: SignedDuration = SignedDuration::from_mins(1);

impl Reconciler {
    /// What to do about an account that has the name already: take it over if that is asked for and nobody declares it.
    pub(super) async fn adopt_or_refuse(
        &self,
        taken: &Account,
        name: AccountName,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<Halt, Halt> {
        outcome.name_holder = Some(NameHolder::of(taken));
        let cluster = &desired.owner.cluster;
        let declared_by = taken.owner.as_ref().filter(|_| taken.life == Life::Live);
        let is_permitted = taken.may_be_adopted_by(&desired.owner, self.unassigned);
        let may_adopt = desired.adoption == AdoptionPolicy::IfUnowned && observed.account.is_none() && is_permitted;
        Ok(match declared_by {
            Some(owner) if desired.adoption == AdoptionPolicy::IfUnowned || owner.cluster != *cluster => {
                Halt::Refused(NotReady::OwnedElsewhere { name, holder: holder(taken, cluster) })
            }
            Some(_) => Halt::Refused(NotReady::NameTaken { name, holder: holder(taken, cluster) }),
            // A resource has one account: one that has its own does not get a second by a rename.
            None if observed.account.is_some() => {
                Halt::Refused(NotReady::NameTaken { name, holder: holder(taken, cluster) })
            }
            None if may_adopt => {
                let (owner, answered) = (desired.owner.clone(), desired.rotation.asked.clone());
                let adopt = Action::Adopt { expected: taken.version, owner, answered };
                self.declarations.confirm(desired).await?;
                self.commit(taken.id, adopt, desired.generation).await?;
                outcome.done.push(Done::Adopted);
                Halt::LookAgain
            }
            None => {
                let difference = difference(taken, &desired.keeping_addresses(Some(taken)));
                let way = if is_permitted { AdoptionPath::Policy } else { AdoptionPath::staff(taken, &desired.owner) };
                Halt::Refused(NotReady::AdoptionRequired { name, difference, way })
            }
        })
    }

    /// Tells what differs, and changes nothing.
    pub(super) async fn report_drift(
        &self,
        plan: &Plan,
        desired: &Desired,
        now: Timestamp,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let unowned = match plan.account {
            AccountPlan::Create { .. } | AccountPlan::Unproven => {
                self.database.find_by_name(&desired.settings.name).await?
            }
            _ => None,
        };
        outcome.drift = drift(plan, desired, unowned.as_ref());
        // A rotation that is due, or a pair that has expired, is left to others: looking again would be for nothing.
        outcome.next_look = outcome.account.as_ref().and_then(|account| next_expiry(account, now));
        if outcome.drift.is_empty() {
            return outcome.account.as_ref().map_or(Ok(()), check_suspension);
        }
        if needs_polling(plan) {
            let soon = now.checked_add(DRIFT_POLL).ok();
            outcome.next_look = outcome.next_look.into_iter().chain(soon).min();
        }
        let fields = outcome.drift.iter().map(|drift| drift.field.clone()).collect();
        Err(Halt::Refused(NotReady::Drifted { fields }))
    }
}

/// Whether what differs is an account that is not this resource's own, or a Secret that no watch shows.
fn needs_polling(plan: &Plan) -> bool {
    let is_unwatched = match &plan.secret {
        SecretPlan::Keep | SecretPlan::Postpone => false,
        SecretPlan::Create | SecretPlan::Refuse { .. } => true,
        SecretPlan::Replace { parts } => parts.contains(&format!("label {ACCOUNT_LABEL}")),
    };
    is_unwatched || matches!(plan.account, AccountPlan::Create { .. } | AccountPlan::Unproven)
}
