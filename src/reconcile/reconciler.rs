//! Observing and executing: the only part of the heart that waits for anything.
//!
//! Database first, then Secret: after a crash at any point, the next pass sees what was done and does the rest. An
//! answer that got lost is found by reading again, never by generating again; whoever was overtaken observes anew.

use super::outcome::holder;
use super::{AccountPlan, Desired, Done, Observed, ObservedSecret, Outcome, Plan, Refusal, SecretPlan, Verified, plan};
use crate::account::{Account, AccountId, KeyEntropy, KeyId, KeyPair, KeyState, StoredKey};
use crate::database::{AccountDatabase, Action, Change, DatabaseError, Keyring, UnknownAffiliate};
use crate::secrets::{SecretManifest, SecretStore, Sight};
use jiff::Timestamp;
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroizing;

/// How often to observe anew when others change the same things; each time somebody else has got on.
const ATTEMPTS: usize = 5;

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
}

/// Why an attempt ended early.
pub(super) enum Halt {
    /// Somebody else was quicker: observe anew.
    Overtaken,
    /// It cannot be done.
    Refused(Refusal),
}

impl<E: Into<Refusal>> From<E> for Halt {
    fn from(error: E) -> Self {
        match error.into() {
            Refusal::Database(DatabaseError::Conflict) => Self::Overtaken,
            Refusal::Secret(error) if error.is_race() => Self::Overtaken,
            refusal => Self::Refused(refusal),
        }
    }
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
            match self.attempt(desired, verified, known.take(), &mut outcome).await {
                Ok(()) => return outcome,
                Err(Halt::Refused(refusal)) => {
                    outcome.refusal = Some(refusal);
                    return outcome;
                }
                Err(Halt::Overtaken) => {}
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
        let observed = self.observe(desired, verified, known).await?;
        outcome.account.clone_from(&observed.account);
        let plan = plan(desired, &observed);
        self.execute(&plan, desired, &observed, verified, outcome).await
    }

    async fn observe(
        &self,
        desired: &Desired,
        verified: Option<&Verified>,
        known: Option<Account>,
    ) -> Result<Observed, Halt> {
        let account = match known {
            Some(account) => Some(account),
            None => self.database.find_by_owner(&desired.owner).await?,
        };
        let active = account.as_ref().and_then(Account::active_key).map(|key| key.id);
        let verified = verified.filter(|verified| active.is_some_and(|active| verified.holds_for(desired, active)));
        let at = &desired.secret.at;
        let secret = match self.secrets.find(at, verified.map(|verified| verified.version.as_str())).await? {
            Sight::Absent => ObservedSecret::Absent,
            Sight::Unchanged => ObservedSecret::Verified,
            Sight::Found(found) => {
                if let Err(holder) = desired.belonging().check(found.metadata()) {
                    ObservedSecret::Foreign { holder }
                } else {
                    let keyed = account.as_ref().filter(|account| account.active_key().is_some());
                    let active = keyed.map(|account| self.open_active(account)).transpose()?;
                    ObservedSecret::Own { found, active }
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
        let account = self.execute_key(account, desired, &observed.secret, outcome).await?;
        outcome.account = Some(account.clone());
        outcome.secret_version = match (&plan.secret, &observed.secret) {
            (SecretPlan::Refuse { holder }, _) => {
                let refusal = Refusal::SecretConflict { at: desired.secret.at.clone(), holder: holder.clone() };
                return Err(Halt::Refused(refusal));
            }
            (SecretPlan::Keep, ObservedSecret::Own { found, .. }) => found.version().map(str::to_owned),
            (SecretPlan::Keep, _) => verified.map(|verified| verified.version.clone()),
            (SecretPlan::Create | SecretPlan::Replace { .. }, secret) => {
                let manifest = SecretManifest::new(&desired.secret, desired.belonging(), &self.open_active(&account)?);
                self.execute_secret(&manifest, secret, &plan.secret, outcome).await?
            }
        };
        for stray in &plan.remove {
            self.secrets.remove(stray, &desired.belonging()).await?;
            outcome.done.push(Done::SecretRemoved(stray.clone()));
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
                let owner = desired.owner.clone();
                (account, Action::Create { owner, settings, key, unknown_affiliate }, Done::Created { recovered })
            }
        };
        let account = self.commit(account, action, desired.generation).await;
        let account = match account {
            Err(DatabaseError::NameTaken { name }) => {
                return Err(match self.database.find_by_name(&name).await? {
                    Some(taken) => {
                        let holder = holder(&taken, &desired.owner.cluster);
                        Halt::Refused(Refusal::NameTaken { name, holder })
                    }
                    None => Halt::Overtaken,
                });
            }
            Err(DatabaseError::UnknownAffiliate { affiliate }) => {
                return Err(Halt::Refused(Refusal::UnknownAffiliate { affiliate }));
            }
            Err(DatabaseError::KeyTaken) => return Err(key_taken(desired)),
            other => other?,
        };
        outcome.done.push(done);
        Ok(account)
    }

    /// Puts the pair that the account's own Secret still holds back into the database, if it is gone from there. A pair
    /// that is on its way out there was put on it by somebody, and stays on it.
    async fn execute_key(
        &self,
        account: Account,
        desired: &Desired,
        secret: &ObservedSecret,
        outcome: &mut Outcome,
    ) -> Result<Account, Halt> {
        let lost = secret.recoverable_keys().filter(|(api_key, _)| {
            account.active_key().is_none() && account.keys.iter().all(|known| known.api_key != *api_key)
        });
        let Some((api_key, secret_key)) = lost else {
            return Ok(account);
        };
        let pair = KeyPair { id: KeyId::from_random(self.random()?), api_key, secret_key };
        let action = Action::RestoreKey { expected: account.version, key: self.seal(account.id, pair)? };
        let account = match self.commit(account.id, action, desired.generation).await {
            Err(DatabaseError::KeyTaken) => return Err(key_taken(desired)),
            other => other?,
        };
        outcome.done.push(Done::KeyRestored(desired.secret.at.clone()));
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

    async fn execute_secret(
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
                (self.secrets.replace(found, manifest).await?, Done::SecretPutBack { at, parts })
            }
            _ => (self.secrets.create(manifest).await?, Done::SecretWritten(at)),
        };
        outcome.done.push(done);
        Ok(version)
    }

    /// The first pair of a new account, sealed: from its Secret if only its row was lost, otherwise new.
    fn first_key(&self, account: AccountId, secret: &ObservedSecret) -> Result<(StoredKey, bool), Halt> {
        let id = KeyId::from_random(self.random()?);
        let (pair, recovered) = match secret.recoverable_keys() {
            Some((api_key, secret_key)) => (KeyPair { id, api_key, secret_key }, true),
            None => (self.new_pair(id)?, false),
        };
        Ok((self.seal(account, pair)?, recovered))
    }

    fn seal(&self, account: AccountId, pair: KeyPair) -> Result<StoredKey, Unrandom> {
        let sealed = self.keyring.seal(account, pair.id, &pair.secret_key, self.random()?);
        let created = self.surroundings.now();
        Ok(StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created })
    }

    fn new_pair(&self, id: KeyId) -> Result<KeyPair, Unrandom> {
        let mut secret_key = Zeroizing::new([0; 32]);
        self.surroundings.fill(secret_key.as_mut_slice())?;
        Ok(KeyPair::from_entropy(id, &KeyEntropy { api_key: self.random()?, secret_key }))
    }

    fn open_active(&self, account: &Account) -> Result<KeyPair, Refusal> {
        let key = account.active_key().ok_or_else(|| Refusal::NoKeys { account: account.id.to_string() })?;
        let secret_key = self.keyring.open(account.id, key.id, &key.sealed)?;
        Ok(KeyPair { id: key.id, api_key: key.api_key.clone(), secret_key })
    }

    fn random<const N: usize>(&self) -> Result<[u8; N], Unrandom> {
        let mut bytes = [0; N];
        self.surroundings.fill(&mut bytes)?;
        Ok(bytes)
    }
}

/// Another account has the API key that is in the Secret.
fn key_taken(desired: &Desired) -> Halt {
    Halt::Refused(Refusal::KeyTaken { at: desired.secret.at.clone() })
}
