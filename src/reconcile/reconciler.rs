//! Observing and executing: the only part of the heart that waits for anything.
//!
//! Database first, then Secret: after a crash at any point, the next pass sees what was done and does the rest. An
//! answer that got lost is found by reading again, never by generating again; whoever was overtaken observes anew.

use super::halt::{ATTEMPTS, Halt};
use super::keys::random;
use super::{
    AccountPlan, CreationGuard, Declarations, Desired, Done, Evidence, History, KeysPlan, NotReady, Observed,
    ObservedSecret, Outcome, Plan, SecretPlan, Verified, plan,
};
use crate::account::{Account, AccountId, Life, Suspension, Unassigned, changes, next_look, next_rotation, why_rotate};
use crate::api::{MANAGED_BY_LABEL, ManagementPolicy};
use crate::database::{AccountDatabase, Action, Change, DatabaseError, Keyring, NotKept, UnknownAffiliate};
use crate::secrets::{Lookup, SecretManifest, SecretStore};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// Time and randomness, given from outside so that a test can give its own.
pub trait Environment: Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;

    /// Fills the bytes with randomness fit for keys.
    ///
    /// # Errors
    /// [`Unrandom`] if the system has none.
    fn fill(&self, bytes: &mut [u8]) -> Result<(), RandomnessError>;
}

/// The system has no randomness.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct RandomnessError(pub String);

impl From<RandomnessError> for NotReady {
    fn from(error: RandomnessError) -> Self {
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
    /// Who may take over an account that was imported for no namespace.
    pub unassigned: Unassigned,
    /// Who this is, for the journal.
    pub actor: String,
    /// Time and randomness.
    pub environment: Arc<dyn Environment>,
    /// Where to ask whether what was read is still declared.
    pub declarations: Arc<dyn Declarations>,
    /// Where to ask whether an account that is missing may be made.
    pub creations: Arc<dyn CreationGuard>,
}

impl Reconciler {
    /// Makes one account and its Secret as declared.
    ///
    /// `verified` saves reading a Secret that has not changed; `known` is the account as a bulk read found it a moment
    /// ago, and saves reading it.
    pub async fn reconcile(&self, desired: &Desired, verified: Option<&Verified>, known: Option<Account>) -> Outcome {
        self.reconcile_with(&History::default(), desired, verified, known).await
    }

    /// The same for a resource that was looked at before: what others keep changing is not put back each time at once.
    pub async fn reconcile_with(
        &self,
        patience: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Option<Account>,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let mut known = known;
        for _ in 0..ATTEMPTS {
            let attempt = self.attempt(patience, desired, verified, known.take(), &mut outcome).await;
            if outcome.takes_in(attempt, self.declarations.as_ref(), &desired.owner) {
                return outcome;
            }
        }
        outcome.not_ready = Some(NotReady::Contended);
        outcome
    }

    async fn attempt(
        &self,
        patience: &History<'_>,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Option<Account>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        // Of an attempt before, it may speak of keys that were rotated since.
        (outcome.secret_version, outcome.relabelled) = (None, None);
        let account = match known {
            Some(account) => Some(account),
            None => self.database.find_by_owner(&desired.owner).await?,
        };
        outcome.account.clone_from(&account);
        let desired = &*desired.keeping_addresses(account.as_ref());
        if desired.paused {
            return Err(Halt::Refused(NotReady::Paused));
        }
        if desired.management == ManagementPolicy::Enforce
            && let Err(not_ready) = self.creations.check(desired, account.as_ref()).await
        {
            // Whatever this database has, it is not what is known of the account.
            outcome.account = None;
            return Err(not_ready.into());
        }
        let now = self.environment.now();
        match self.observe(desired, verified, account.clone()).await {
            Ok(observed) => {
                let mut plan = plan(desired, &observed, now);
                if desired.management == ManagementPolicy::Observe {
                    plan.secret = plan.secret.without_bookkeeping();
                    if plan.secret == SecretPlan::Keep {
                        outcome.secret_version = observed.secret.version(verified);
                    }
                    return self.report_drift(&plan, desired, now, outcome).await;
                }
                let (plan, left) = postpone_repeated(plan, patience, desired, observed.account.as_ref());
                if let Some(obstacle) = patience.obstacle {
                    self.check_obstacle(obstacle, &plan, desired, &observed, outcome).await?;
                }
                self.execute(&plan, desired, &observed, verified, outcome).await?;
                let is_due = |account: &Account| why_rotate(&desired.rotation, account, now).is_some();
                // Its Secret is known to be its own only now.
                if left.is_none() && outcome.account.as_ref().is_some_and(is_due) {
                    return Err(Halt::LookAgain);
                }
                let ahead = schedule_next(desired, outcome);
                let Some((parts, wait)) = left else { return ahead };
                let soon = SignedDuration::try_from(wait).ok().and_then(|wait| now.checked_add(wait).ok());
                outcome.next_look = outcome.next_look.into_iter().chain(soon).min();
                Err(Halt::Refused(NotReady::RepeatedDrift { parts }))
            }
            Err(Halt::Refused(not_ready)) if account.is_some() && desired.management == ManagementPolicy::Enforce => {
                // Its keys stay as they are, so the Secret has no say in who may use them from where.
                let observed = Observed { account, secret: ObservedSecret::Verified, stale_secrets: Vec::new() };
                let plan = plan(desired, &observed, now);
                if let Some(obstacle) = patience.obstacle {
                    self.check_obstacle(obstacle, &plan, desired, &observed, outcome).await?;
                }
                outcome.account = Some(self.execute_account(&plan.account, desired, &observed, outcome).await?.0);
                Err(Halt::Refused(not_ready))
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
        let mut sight =
            self.secrets.find(at, verified.map(|verified| verified.known(self.keyring.marks_with()))).await?;
        if matches!(sight, Lookup::Absent) && desired.management == ManagementPolicy::Observe {
            // No write will show what is there.
            sight = self.secrets.confirm(at).await?;
        }
        let secret = match sight {
            Lookup::Absent => ObservedSecret::Absent,
            Lookup::Unchanged => ObservedSecret::Verified,
            Lookup::Found(found) => {
                let whose = desired.identity().check(found.metadata());
                let active = match &account {
                    Some(account)
                        if account.active_key().is_some() && (whose.is_ok() || found.may_have_lost_its_owner()) =>
                    {
                        Some(self.issue_keys(account, &desired.owner)?)
                    }
                    _ => None,
                };
                match whose {
                    Err(holder) if !active.as_ref().is_some_and(|active| found.holds(&active.pair)) => {
                        ObservedSecret::Foreign { holder }
                    }
                    _ => {
                        let evidence = match active {
                            Some(_) => Evidence::Nothing,
                            None => self.evidence(&found, &desired.owner).await?,
                        };
                        ObservedSecret::Own { found, active, evidence }
                    }
                }
            }
        };
        let stale_secrets = self.secrets.owned_by(&desired.identity()).await?;
        let stale_secrets = stale_secrets.into_iter().filter(|stale| stale != at).collect();
        Ok(Observed { account, secret, stale_secrets: stale_secrets })
    }

    async fn execute(
        &self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        verified: Option<&Verified>,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let (account, not_kept) = self.execute_account(&plan.account, desired, observed, outcome).await?;
        outcome.account = Some(account.clone());
        if plan.keys != KeysPlan::Keep {
            self.execute_keys(&plan.keys, &account, desired, &observed.secret, outcome).await?;
            // The Secret is compared with the new keys.
            return Err(Halt::LookAgain);
        }
        outcome.secret_version = match (&plan.secret, &observed.secret) {
            (SecretPlan::Refuse { holder }, _) => {
                let not_ready = NotReady::SecretConflict { at: desired.secret.at.clone(), holder: holder.clone() };
                return Err(Halt::Refused(not_ready));
            }
            (SecretPlan::Keep, secret) => {
                outcome.relabelled = matches!(secret, ObservedSecret::Own { .. }).then_some(false);
                secret.version(verified)
            }
            (SecretPlan::Postpone, _) => None,
            (SecretPlan::Create | SecretPlan::Replace { .. }, secret) => {
                self.declarations.confirm(desired).await?;
                let keys = self.issue_keys(&account, &desired.owner)?;
                let manifest = SecretManifest::new(&desired.secret, desired.identity(), &keys);
                self.execute_secret(&manifest, secret, &plan.secret, outcome).await?
            }
        };
        for stale in &plan.remove {
            self.declarations.confirm(desired).await?;
            if self.secrets.remove(stale, &desired.identity()).await? {
                outcome.done.push(Done::SecretRemoved(stale.clone()));
            }
        }
        not_kept.map_or(Ok(()), |not_ready| Err(Halt::Refused(not_ready)))
    }

    /// The account as it is then; and why not all of it is as declared, which keeps nothing from its keys and its Secret.
    async fn execute_account(
        &self,
        plan: &AccountPlan,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<(Account, Option<NotReady>), Halt> {
        let settings = desired.settings.clone();
        let unknown_affiliate = self.unknown_affiliate;
        let (account, action, done) = match (plan, &observed.account) {
            (AccountPlan::Keep, Some(account)) => return Ok((account.clone(), None)),
            (AccountPlan::Update { changes, restore }, Some(account)) => {
                let changes = changes.clone();
                let done = match restore {
                    true => Done::Restored { changes: changes.clone() },
                    false => Done::Updated { changes: changes.clone() },
                };
                (account.id, Action::Update { expected: account.version, settings, changes, unknown_affiliate }, done)
            }
            (AccountPlan::Unproven, _) => {
                return Err(match self.database.find_by_name(&settings.name).await? {
                    Some(taken) => self.adopt_or_refuse(&taken, settings.name, desired, observed, outcome).await?,
                    None => Halt::Refused(NotReady::UnprovenKeys { at: desired.secret.at.clone() }),
                });
            }
            (AccountPlan::Create { .. }, _) | (_, None) => {
                let account = AccountId::from_random(self.random()?);
                let (key, recovered) = self.first_key(account, &observed.secret)?;
                let (owner, answered) = (desired.owner.clone(), desired.rotation.asked.clone());
                let create = Action::Create { owner, settings, key, answered, unknown_affiliate };
                (account, create, Done::Created { recovered })
            }
        };
        self.declarations.confirm(desired).await?;
        let account = self.commit(account, action, desired.generation).await;
        let account = match account {
            Err(DatabaseError::NameTaken { name }) => {
                return Err(match self.database.find_by_name(&name).await? {
                    Some(taken) => self.adopt_or_refuse(&taken, name, desired, observed, outcome).await?,
                    None => Halt::Overtaken,
                });
            }
            Err(DatabaseError::UnknownAffiliate { affiliate }) => {
                return Err(Halt::Refused(NotReady::UnknownAffiliate { affiliate }));
            }
            Err(DatabaseError::KeyTaken) => return Err(Halt::key_taken(desired)),
            Err(error @ DatabaseError::NotKept { .. }) => match &observed.account {
                Some(before) if before.life == Life::Live => return Ok((before.clone(), Some(error.into()))),
                _ => return Err(error.into()),
            },
            // Since it was looked at.
            Err(DatabaseError::KeyRevoked) => return Err(Halt::LookAgain),
            other => other?,
        };
        let left = changes(&account.settings, &desired.settings);
        outcome.done.push(done.without(&left));
        let parts: Vec<NotKept> = left.into_iter().map(NotKept::from).collect();
        let not_kept = (!parts.is_empty()).then(|| DatabaseError::NotKept { parts }.into());
        Ok((account, not_kept))
    }

    pub(super) async fn commit(
        &self,
        account: AccountId,
        action: Action,
        generation: Option<i64>,
    ) -> Result<Account, DatabaseError> {
        let change = Change { account, action, at: self.environment.now(), actor: self.actor.clone(), generation };
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
        let stored = if let (ObservedSecret::Own { found, .. }, SecretPlan::Replace { .. }) = (observed, plan) {
            let mut parts = found.differences(manifest);
            if parts.is_empty() {
                return Ok(found.version().map(str::to_owned));
            }
            let stored = self.secrets.replace(found, manifest).await?;
            parts.retain(|part| !stored.rewritten.contains(part));
            if !parts.is_empty() {
                outcome.done.push(Done::SecretUpdated { at: at.clone(), parts });
            }
            stored
        } else {
            let stored = self.secrets.create(manifest).await?;
            outcome.done.push(Done::SecretWritten(at.clone()));
            stored
        };
        let common_label = format!("label {MANAGED_BY_LABEL}");
        outcome.relabelled = Some(stored.rewritten.contains(&common_label));
        // Nothing depends on the common label, and platforms have reasons to set it: that is told, and no more.
        if stored.rewritten.iter().any(|part| *part != common_label) {
            return Err(Halt::Refused(NotReady::SecretRewritten { at, parts: stored.rewritten }));
        }
        Ok(stored.version)
    }

    pub(super) fn random<const N: usize>(&self) -> Result<[u8; N], RandomnessError> {
        random(self.environment.as_ref())
    }
}

/// What of a plan is done now, and what is left as it is for a while because something else keeps changing it.
fn postpone_repeated(
    mut plan: Plan,
    patience: &History<'_>,
    desired: &Desired,
    account: Option<&Account>,
) -> (Plan, Option<(Vec<String>, Duration)>) {
    let mut left: Option<(Vec<String>, Duration)> = None;
    if let Some(waiting) = patience.account_backoff(&plan, account, desired) {
        plan.account = AccountPlan::Keep;
        left = Some(waiting);
    }
    if let Some((parts, wait)) = patience.secret_backoff(&plan, account) {
        plan.secret = SecretPlan::Postpone;
        let (mut all, soonest) = left.unwrap_or((Vec::new(), wait));
        all.extend(parts);
        left = Some((all, wait.min(soonest)));
    }
    (plan, left)
}

/// When to look again; and whether somebody else has the last word.
pub(super) fn schedule_next(desired: &Desired, outcome: &mut Outcome) -> Result<(), Halt> {
    let Some(account) = &outcome.account else {
        return Ok(());
    };
    outcome.next_rotation = next_rotation(&desired.rotation, account);
    outcome.next_look = next_look(&desired.rotation, account);
    desired.check_addresses(account)?;
    check_suspension(account)
}

/// Whether somebody else has the last word.
pub(super) fn check_suspension(account: &Account) -> Result<(), Halt> {
    match &account.suspension {
        Some(Suspension { since, reason }) => {
            Err(Halt::Refused(NotReady::Suspended { since: *since, reason: reason.clone() }))
        }
        None => Ok(()),
    }
}
