//! Observing and executing: the only part of the heart that waits for anything.
//!
//! Database first, then Secret: after a crash at any point, the next pass sees what was done and does the rest. An
//! answer that got lost is found by reading again, never by generating again; whoever was overtaken observes anew.

use super::halt::{ATTEMPTS, Halt};
use super::keys::random;
use super::{
    AccountPlan, Declarations, Desired, Done, KeysPlan, Observed, ObservedSecret, Outcome, Plan, Refusal, SecretPlan,
    Verified, plan,
};
use crate::account::{Account, AccountId, Suspension, next_look, next_rotation, why_rotate};
use crate::api::ManagementPolicy;
use crate::database::{AccountDatabase, Action, Change, DatabaseError, Keyring, UnknownAffiliate};
use crate::secrets::{SecretManifest, SecretStore, Sight};
use jiff::Timestamp;
use std::sync::Arc;
use thiserror::Error;

/// Time and randomness, given from outside so that a test can give its own.
pub trait Surroundings: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Fills the bytes with randomness fit for keys.
    ///
    /// # Errors
    /// [`Unrandom`] if the system has none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), Unrandom>;
}

/// The system has no randomness.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct Unrandom(pub String);

impl From<Unrandom> for Refusal {
    fn from(error: Unrandom) -> Self {
        Self::NoRandomness(error.0)
    }
}

/// Makes accounts and Secrets as they are declared.
pub struct Reconciler {
    /// Where accounts are.
    pub database: Arc<dyn AccountDatabase>,
    /// Where Secrets are.
    pub secrets: Arc<dyn SecretStore>,
    /// What secret keys are sealed with in the database.
    pub keyring: Keyring,
    /// What to do about affiliates that OpsAdmin does not know.
    pub unknown_affiliate: UnknownAffiliate,
    /// Who this is, for the journal.
    pub actor: String,
    /// Time and randomness.
    pub surroundings: Arc<dyn Surroundings>,
    /// Where to ask whether what was read is still declared.
    pub declarations: Arc<dyn Declarations>,
}

impl Reconciler {
    /// Makes one account and its Secret as declared.
    ///
    /// `verified` saves reading a Secret that has not changed; `known` is the account as a bulk read found it a moment
    /// ago, and saves reading it.
    pub async fn reconcile(&self, desired: &Desired, verified: Option<&Verified>, known: Option<Account>) -> Outcome {
        let mut outcome = Outcome::default();
        let mut known = known;
        for _ in 0..ATTEMPTS {
            let attempt = self.attempt(desired, verified, known.take(), &mut outcome).await;
            if outcome.takes_in(attempt) {
                return outcome;
            }
        }
        outcome.refusal = Some(Refusal::Contended);
        outcome
    }

    async fn attempt(
        &self,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Option<Account>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        // Of an attempt before, it may speak of keys that were rotated since.
        outcome.secret_version = None;
        let account = match known {
            Some(account) => Some(account),
            None => self.database.find_by_owner(&desired.owner).await?,
        };
        outcome.account.clone_from(&account);
        let desired = &*desired.keeping_addresses(account.as_ref());
        if desired.paused {
            return Err(Halt::Refused(Refusal::Paused));
        }
        let now = self.surroundings.now();
        match self.observe(desired, verified, account.clone()).await {
            Ok(observed) => {
                let plan = plan(desired, &observed, now);
                if desired.management == ManagementPolicy::Observe {
                    if plan.secret == SecretPlan::Keep {
                        outcome.secret_version = observed.secret.version(verified);
                    }
                    return self.tell_drift(&plan, desired, now, outcome).await;
                }
                self.execute(&plan, desired, &observed, verified, outcome).await?;
                match &outcome.account {
                    // Its Secret is known to be its own only now.
                    Some(account) if why_rotate(&desired.rotation, account, now).is_some() => Err(Halt::LookAgain),
                    _ => look_ahead(desired, outcome),
                }
            }
            Err(Halt::Refused(refusal)) if account.is_some() && desired.management == ManagementPolicy::Enforce => {
                // Its keys stay as they are, so the Secret has no say in who may use them from where.
                let observed = Observed { account, secret: ObservedSecret::Verified, strays: Vec::new() };
                let plan = plan(desired, &observed, now);
                outcome.account = Some(self.execute_account(&plan.account, desired, &observed, outcome).await?);
                Err(Halt::Refused(refusal))
            }
            Err(halt) => Err(halt),
        }
    }

    pub(super) async fn observe(
        &self,
        desired: &Desired,
        verified: Option<&Verified>,
        account: Option<Account>,
    ) -> Result<Observed, Halt> {
        let active = account.as_ref().and_then(Account::active_key).map(|key| key.id);
        let verified = verified.filter(|verified| active.is_some_and(|active| verified.holds_for(desired, active)));
        let at = &desired.secret.at;
        let mut sight = self.secrets.find(at, verified.map(|verified| verified.version.as_str())).await?;
        if matches!(sight, Sight::Absent) && desired.management == ManagementPolicy::Observe {
            // No write will show what is there.
            sight = self.secrets.confirm(at).await?;
        }
        let secret = match sight {
            Sight::Absent => ObservedSecret::Absent,
            Sight::Unchanged => ObservedSecret::Verified,
            Sight::Found(found) => {
                let whose = desired.belonging().check(found.metadata());
                let active = match &account {
                    Some(account)
                        if account.active_key().is_some() && (whose.is_ok() || found.may_have_lost_its_owner()) =>
                    {
                        Some(self.open_active(account)?)
                    }
                    _ => None,
                };
                match whose {
                    Err(holder) if !active.as_ref().is_some_and(|active| found.holds(active)) => {
                        ObservedSecret::Foreign { holder }
                    }
                    _ => ObservedSecret::Own { found, active },
                }
            }
        };
        let strays = self.secrets.belonging_to(&desired.belonging()).await?;
        let strays = strays.into_iter().filter(|stray| stray != at).collect();
        Ok(Observed { account, secret, strays })
    }

    async fn execute(
        &self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        verified: Option<&Verified>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let account = self.execute_account(&plan.account, desired, observed, outcome).await?;
        outcome.account = Some(account.clone());
        if plan.keys != KeysPlan::Keep {
            self.execute_keys(&plan.keys, &account, desired, &observed.secret, outcome).await?;
            // The Secret is compared with the new keys.
            return Err(Halt::LookAgain);
        }
        outcome.secret_version = match (&plan.secret, &observed.secret) {
            (SecretPlan::Refuse { holder }, _) => {
                let refusal = Refusal::SecretConflict { at: desired.secret.at.clone(), holder: holder.clone() };
                return Err(Halt::Refused(refusal));
            }
            (SecretPlan::Keep, secret) => secret.version(verified),
            (SecretPlan::Create | SecretPlan::Replace { .. }, secret) => {
                self.declarations.still(desired).await?;
                let manifest = SecretManifest::new(&desired.secret, desired.belonging(), &self.open_active(&account)?);
                self.execute_secret(&manifest, secret, &plan.secret, outcome).await?
            }
        };
        for stray in &plan.remove {
            self.declarations.still(desired).await?;
            if self.secrets.remove(stray, &desired.belonging()).await? {
                outcome.done.push(Done::SecretRemoved(stray.clone()));
            }
        }
        Ok(())
    }

    async fn execute_account(
        &self,
        plan: &AccountPlan,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<Account, Halt> {
        let settings = desired.settings.clone();
        let unknown_affiliate = self.unknown_affiliate;
        let (account, action, done) = match (plan, &observed.account) {
            (AccountPlan::Keep, Some(account)) => return Ok(account.clone()),
            (AccountPlan::Update { changes, restore }, Some(account)) => {
                let changes = changes.clone();
                let done = match restore {
                    true => Done::Restored { changes: changes.clone() },
                    false => Done::Updated { changes: changes.clone() },
                };
                (account.id, Action::Update { expected: account.version, settings, changes, unknown_affiliate }, done)
            }
            (AccountPlan::Create { .. }, _) | (_, None) => {
                let account = AccountId::from_random(self.random()?);
                let (key, recovered) = self.first_key(account, &observed.secret)?;
                let (owner, answered) = (desired.owner.clone(), desired.rotation.asked.clone());
                let create = Action::Create { owner, settings, key, answered, unknown_affiliate };
                (account, create, Done::Created { recovered })
            }
        };
        self.declarations.still(desired).await?;
        let account = self.commit(account, action, desired.generation).await;
        let account = match account {
            Err(DatabaseError::NameTaken { name }) => {
                return Err(match self.database.find_by_name(&name).await? {
                    Some(taken) => self.adopt_or_refuse(&taken, name, desired, observed, outcome).await?,
                    None => Halt::LookAgain,
                });
            }
            Err(DatabaseError::UnknownAffiliate { affiliate }) => {
                return Err(Halt::Refused(Refusal::UnknownAffiliate { affiliate }));
            }
            Err(DatabaseError::KeyTaken) => return Err(Halt::key_taken(desired)),
            other => other?,
        };
        outcome.done.push(done);
        Ok(account)
    }

    pub(super) async fn commit(
        &self,
        account: AccountId,
        action: Action,
        generation: Option<i64>,
    ) -> Result<Account, DatabaseError> {
        let change = Change { account, action, at: self.surroundings.now(), actor: self.actor.clone(), generation };
        self.database.commit(&change).await
    }

    pub(super) async fn execute_secret(
        &self,
        manifest: &SecretManifest,
        observed: &ObservedSecret,
        plan: &SecretPlan,
        outcome: &mut Outcome,
    ) -> Result<Option<String>, Halt> {
        let at = manifest.at.clone();
        let (version, done) = match (observed, plan) {
            (ObservedSecret::Own { found, .. }, SecretPlan::Replace { .. }) => {
                let parts = found.differences(manifest);
                if parts.is_empty() {
                    return Ok(found.version().map(str::to_owned));
                }
                (self.secrets.replace(found, manifest).await?, Done::SecretUpdated { at, parts })
            }
            _ => (self.secrets.create(manifest).await?, Done::SecretWritten(at)),
        };
        outcome.done.push(done);
        Ok(version)
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], Unrandom> {
        random(self.surroundings.as_ref())
    }
}

/// When to look again; and whether somebody else has the last word.
pub(super) fn look_ahead(desired: &Desired, outcome: &mut Outcome) -> Result<(), Halt> {
    let Some(account) = &outcome.account else {
        return Ok(());
    };
    outcome.next_rotation = next_rotation(&desired.rotation, account);
    outcome.next_look = next_look(&desired.rotation, account);
    desired.check_addresses(account)?;
    heed_suspension(account)
}

/// Whether somebody else has the last word.
pub(super) fn heed_suspension(account: &Account) -> Result<(), Halt> {
    match &account.suspension {
        Some(Suspension { since, reason }) => {
            Err(Halt::Refused(Refusal::Suspended { since: *since, reason: reason.clone() }))
        }
        None => Ok(()),
    }
}
