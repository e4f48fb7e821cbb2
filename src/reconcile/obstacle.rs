//! Obstacles: what keeps a resource from its declared state, such as a name that another account has, and the check
//! whether the obstacle still exists.

use super::step::{Interruption, Step};
use super::{AccountPlan, Desired, KeysPlan, NotReady, Observed, Outcome, Plan, Reconciler, RecoveredKeys};
use crate::account::Field;
use crate::api::{ApiAccountStatus, Reason};
use crate::database::UnknownAffiliate;

/// What kept a resource from its declared state in the last reconcile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Another account has the declared name.
    Name,
    /// OpsAdmin does not know the affiliate.
    Affiliate,
    /// Another account has the API key that is in the Secret.
    ApiKey,
}

impl Obstacle {
    /// Returns the obstacle that the status names for this generation of its resource.
    pub fn of(status: &ApiAccountStatus, generation: Option<i64>) -> Option<Self> {
        if status.observed_generation != generation {
            return None;
        }
        match Reason::parse(&status.ready()?.reason)? {
            Reason::NameTaken | Reason::AdoptionRequired | Reason::OwnedElsewhere => Some(Self::Name),
            Reason::UnknownAffiliate => Some(Self::Affiliate),
            Reason::SecretConflict => Some(Self::ApiKey),
            _ => None,
        }
    }
}

impl Reconciler {
    /// Checks whether the obstacle of the last reconcile still exists, before any key is generated and any row is
    /// written. Returns the step that ends the attempt if the obstacle still exists.
    pub(super) async fn check_obstacle(
        &self,
        obstacle: Option<Obstacle>,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<Option<Step>, Interruption> {
        match obstacle {
            Some(Obstacle::Name) if claims_name(&plan.account) => {
                let name = desired.settings.name.clone();
                let own = observed.account.as_ref().map(|account| account.id);
                match self.database.find_by_name(&name).await? {
                    Some(taken) if Some(taken.id) != own => {
                        self.adopt_or_refuse(&taken, name, desired, observed, outcome).await.map(Some)
                    }
                    _ => Ok(None),
                }
            }
            Some(Obstacle::Affiliate) if self.unknown_affiliate == UnknownAffiliate::Refuse => {
                let Some(affiliate) = desired.settings.affiliate.as_ref().filter(|_| plan.account != AccountPlan::Keep)
                else {
                    return Ok(None);
                };
                let found = self.database.find_obstacles(&[], std::slice::from_ref(affiliate)).await?;
                if found.affiliates.contains(affiliate.as_str()) {
                    return Ok(None);
                }
                Ok(Some(Step::Blocked(NotReady::UnknownAffiliate { affiliate: affiliate.clone() })))
            }
            Some(Obstacle::ApiKey) => {
                let Some(recovered) = recovered_keys(plan) else { return Ok(None) };
                let taken = self.database.find_by_api_key(&recovered.api_key).await?;
                Ok(taken.map(|_| Step::key_taken(desired)))
            }
            Some(Obstacle::Name | Obstacle::Affiliate) | None => Ok(None),
        }
    }
}

fn claims_name(plan: &AccountPlan) -> bool {
    match plan {
        AccountPlan::Keep | AccountPlan::Unproven => false,
        AccountPlan::Create { .. } => true,
        AccountPlan::Update { changes, restore } => {
            *restore || changes.iter().any(|change| change.field == Field::Name)
        }
    }
}

/// Returns the keys from the Secret that the plan gives to the account.
fn recovered_keys(plan: &Plan) -> Option<&RecoveredKeys> {
    match (&plan.account, &plan.keys) {
        (AccountPlan::Create { recovered: Some(keys) }, _) | (_, KeysPlan::Restore(keys)) => Some(keys),
        _ => None,
    }
}
