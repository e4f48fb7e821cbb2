//! What others have that keeps an account from being made as it is declared, and a look whether they still have it.

use super::halt::Halt;
use super::{AccountPlan, Desired, KeysPlan, NotReady, Observed, Outcome, Plan, Reconciler};
use crate::account::Field;
use crate::api::{ApiAccountStatus, Reason, condition};
use crate::database::UnknownAffiliate;

/// What was in the way the last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Obstacle {
    /// Another account has the name.
    Name,
    /// OpsAdmin does not know the affiliate.
    Affiliate,
    /// Another account has the API key that is in the Secret.
    ApiKey,
}

impl Obstacle {
    /// What the status says was in the way of this generation of its resource.
    pub fn of(status: &ApiAccountStatus, generation: Option<i64>) -> Option<Self> {
        if status.observed_generation != generation {
            return None;
        }
        let ready = status.conditions.iter().find(|condition| condition.type_ == condition::READY)?;
        match Reason::written(&ready.reason)? {
            Reason::NameTaken | Reason::AdoptionRequired | Reason::OwnedElsewhere => Some(Self::Name),
            Reason::UnknownAffiliate => Some(Self::Affiliate),
            Reason::SecretConflict => Some(Self::ApiKey),
            _ => None,
        }
    }
}

impl NotReady {
    /// What has to go before another try can end otherwise; `None` if it is nothing that one read can tell.
    pub fn obstacle(&self) -> Option<Obstacle> {
        match self {
            Self::NameTaken { .. } | Self::AdoptionRequired { .. } | Self::OwnedElsewhere { .. } => {
                Some(Obstacle::Name)
            }
            Self::UnknownAffiliate { .. } => Some(Obstacle::Affiliate),
            Self::KeyTaken { .. } => Some(Obstacle::ApiKey),
            _ => None,
        }
    }
}

impl Reconciler {
    /// Refuses again, before any key is made and any row is written, if what was in the way still is.
    pub(super) async fn check_obstacle(
        &self,
        obstacle: Obstacle,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        match obstacle {
            Obstacle::Name if claims_name(&plan.account) => {
                let name = desired.settings.name.clone();
                let own = observed.account.as_ref().map(|account| account.id);
                match self.database.find_by_name(&name).await? {
                    Some(taken) if Some(taken.id) != own => {
                        Err(self.adopt_or_refuse(&taken, name, desired, observed, outcome).await?)
                    }
                    _ => Ok(()),
                }
            }
            Obstacle::Affiliate if self.unknown_affiliate == UnknownAffiliate::Refuse => {
                let Some(affiliate) = desired.settings.affiliate.as_ref().filter(|_| plan.account != AccountPlan::Keep)
                else {
                    return Ok(());
                };
                let found = self.database.find_obstacles(&[], std::slice::from_ref(affiliate)).await?;
                if found.affiliates.contains(affiliate.as_str()) {
                    return Ok(());
                }
                Err(Halt::Refused(NotReady::UnknownAffiliate { affiliate: affiliate.clone() }))
            }
            Obstacle::ApiKey if claims_api_key(plan) => {
                let Some((api_key, _)) = observed.secret.recoverable_keys() else {
                    return Ok(());
                };
                match self.database.find_by_api_key(&api_key).await? {
                    Some(_) => Err(Halt::key_taken(desired)),
                    None => Ok(()),
                }
            }
            Obstacle::Name | Obstacle::Affiliate | Obstacle::ApiKey => Ok(()),
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

fn claims_api_key(plan: &Plan) -> bool {
    matches!(plan.account, AccountPlan::Create { recover_keys: true }) || plan.keys == KeysPlan::Restore
}
