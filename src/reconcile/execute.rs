//! Executing a plan: the account first, then its keys, then its Secret, then Secrets under former names.
//!
//! After a crash at any point, the next reconcile observes what was done and does the rest. A lost answer is found by
//! reading again, never by generating again.

use super::step::{Interruption, Step};
use super::{
    AccountPlan, Desired, Done, NotReady, Observed, ObservedSecret, Outcome, Plan, Reconciler, SecretPlan, Verified,
};
use crate::account::{Account, AccountId, Life, Requester, changes};
use crate::api::MANAGED_BY_LABEL;
use crate::database::{Action, Change, DatabaseError, NotStored};
use crate::secrets::{FoundSecret, SecretManifest, Stored};
use std::ops::ControlFlow;

/// What the journal records of the resource that requests a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    /// The generation of the resource, if it has one.
    pub generation: Option<i64>,
    /// Who wrote the resource, if it is known.
    pub requested_by: Option<&'a Requester>,
}

impl Desired {
    pub(super) fn request(&self) -> Request<'_> {
        Request { generation: self.generation, requested_by: self.requested_by.as_ref() }
    }
}

impl Reconciler {
    /// Executes a plan, up to the first change that makes another observation necessary.
    pub(super) async fn execute(
        &self,
        plan: &Plan,
        desired: &Desired,
        observed: &Observed,
        verified: Option<&Verified>,
        outcome: &mut Outcome,
    ) -> Result<Step, Interruption> {
        let (account, not_stored) = match self.execute_account(&plan.account, desired, observed, outcome).await? {
            ControlFlow::Continue(executed) => executed,
            ControlFlow::Break(step) => return Ok(step),
        };
        outcome.account = Some(account.clone());
        if let Some(step) = self.execute_keys(&plan.keys, &account, desired, outcome).await? {
            return Ok(step);
        }
        match &plan.secret {
            SecretPlan::Refuse { holder } => {
                let (at, holder) = (desired.secret.at.clone(), holder.clone());
                return Ok(Step::Blocked(NotReady::SecretConflict { at, holder }));
            }
            SecretPlan::Keep => {
                outcome.label_corrected = matches!(observed.secret, ObservedSecret::Own { .. }).then_some(false);
                outcome.secret_version = observed.secret.version(verified);
            }
            SecretPlan::Postpone => outcome.secret_version = None,
            SecretPlan::Undecided => {
                self.issue_keys(&account, &desired.owner)?;
                return Ok(Step::Again);
            }
            SecretPlan::Create | SecretPlan::Replace { .. } => {
                self.declarations.confirm(desired).await?;
                self.write_secret(&plan.secret, &account, desired, &observed.secret, outcome).await?;
            }
        }
        for stale in &plan.remove {
            self.declarations.confirm(desired).await?;
            if self.secrets.remove(stale, &desired.identity()).await? {
                outcome.done.push(Done::SecretRemoved(stale.clone()));
            }
        }
        Ok(not_stored.map_or(Step::Done, Step::Blocked))
    }

    /// Executes the plan for the account. Returns the account as it is afterwards, and the reason if not all of it is
    /// as declared: its keys and its Secret are handled all the same. Breaks with a step if the attempt ends here.
    pub(super) async fn execute_account(
        &self,
        plan: &AccountPlan,
        desired: &Desired,
        observed: &Observed,
        outcome: &mut Outcome,
    ) -> Result<ControlFlow<Step, (Account, Option<NotReady>)>, Interruption> {
        let settings = desired.settings.clone();
        let unknown_affiliate = self.unknown_affiliate;
        let (account, action, done) = match (plan, &observed.account) {
            (AccountPlan::Keep, Some(account)) => return Ok(ControlFlow::Continue((account.clone(), None))),
            (AccountPlan::Update { changes, restore }, Some(account)) => {
                let changes = changes.clone();
                let done = match restore {
                    true => Done::Restored { changes: changes.clone() },
                    false => Done::Updated { changes: changes.clone() },
                };
                (account.id, Action::Update { expected: account.version, settings, changes, unknown_affiliate }, done)
            }
            (AccountPlan::Unproven, _) => {
                let step = match self.database.find_by_name(&settings.name).await? {
                    Some(taken) => self.adopt_or_refuse(&taken, settings.name, desired, observed, outcome).await?,
                    None => Step::Blocked(NotReady::UnprovenKeys { at: desired.secret.at.clone() }),
                };
                return Ok(ControlFlow::Break(step));
            }
            (AccountPlan::Create { recovered }, _) => self.create_account(recovered.as_ref(), desired)?,
            (AccountPlan::Keep | AccountPlan::Update { .. }, None) => self.create_account(None, desired)?,
        };
        self.declarations.confirm(desired).await?;
        let account = match self.commit(account, action, desired.request()).await {
            Ok(account) => account,
            Err(DatabaseError::NameTaken { name }) => {
                let Some(taken) = self.database.find_by_name(&name).await? else {
                    return Err(Interruption::Overtaken);
                };
                let step = self.adopt_or_refuse(&taken, name, desired, observed, outcome).await?;
                return Ok(ControlFlow::Break(step));
            }
            Err(DatabaseError::UnknownAffiliate { affiliate }) => {
                return Ok(ControlFlow::Break(Step::Blocked(NotReady::UnknownAffiliate { affiliate })));
            }
            Err(DatabaseError::KeyTaken) => return Ok(ControlFlow::Break(Step::key_taken(desired))),
            // Revoked since it was observed.
            Err(DatabaseError::KeyRevoked) => return Ok(ControlFlow::Break(Step::Again)),
            Err(error @ DatabaseError::NotStored { .. }) => match &observed.account {
                Some(before) if before.life == Life::Live => {
                    return Ok(ControlFlow::Continue((before.clone(), Some(error.into()))));
                }
                _ => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        };
        let left = changes(&account.settings, &desired.settings);
        if let Some(before) = &observed.account
            && before.settings.name != account.settings.name
        {
            outcome.released_names.push(before.settings.name.clone());
        }
        outcome.done.push(done.without(&left));
        let parts: Vec<NotStored> = left.into_iter().map(NotStored::from).collect();
        let not_stored = (!parts.is_empty()).then(|| DatabaseError::NotStored { parts }.into());
        Ok(ControlFlow::Continue((account, not_stored)))
    }

    pub(super) async fn commit(
        &self,
        account: AccountId,
        action: Action,
        Request { generation, requested_by }: Request<'_>,
    ) -> Result<Account, DatabaseError> {
        let (at, actor, requested_by) = (self.environment.now(), self.actor.clone(), requested_by.cloned());
        let change = Change { account, action, at, actor, generation, requested_by };
        self.database.commit(&change).await
    }

    /// Creates the Secret, or replaces it where it was found, with the account's active key pair.
    pub(super) async fn write_secret(
        &self,
        plan: &SecretPlan,
        account: &Account,
        desired: &Desired,
        observed: &ObservedSecret,
        outcome: &mut Outcome,
    ) -> Result<(), Interruption> {
        let keys = self.issue_keys(account, &desired.owner)?;
        let manifest = SecretManifest::new(&desired.secret, desired.identity(), &keys);
        let stored = if let (SecretPlan::Replace { parts }, ObservedSecret::Own { found, .. }) = (plan, observed) {
            self.replace_secret(found, parts, &manifest, outcome).await?
        } else {
            let stored = self.secrets.create(&manifest).await?;
            outcome.done.push(Done::SecretWritten(manifest.at.clone()));
            stored
        };
        let common_label = format!("label {MANAGED_BY_LABEL}");
        outcome.label_corrected = Some(stored.rewritten.contains(&common_label));
        // Nothing depends on the common label, and platforms have reasons to set it, so a change of it is only
        // reported.
        if stored.rewritten.iter().any(|part| *part != common_label) {
            return Err(NotReady::SecretRewritten { at: manifest.at, parts: stored.rewritten }.into());
        }
        outcome.secret_version = stored.version;
        Ok(())
    }

    async fn replace_secret(
        &self,
        found: &FoundSecret,
        parts: &[String],
        manifest: &SecretManifest,
        outcome: &mut Outcome,
    ) -> Result<Stored, Interruption> {
        let stored = self.secrets.replace(found, manifest).await?;
        let parts: Vec<_> = parts.iter().filter(|part| !stored.rewritten.contains(part)).cloned().collect();
        if !parts.is_empty() {
            outcome.done.push(Done::SecretUpdated { at: manifest.at.clone(), parts });
        }
        Ok(stored)
    }
}
