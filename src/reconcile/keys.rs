//! Key pairs while a plan is executed: generated, sealed, issued, rotated, restored and revoked.

use super::step::{Interruption, Step};
use super::{
    Desired, Done, Environment, KeysPlan, NotReady, Outcome, RandomnessError, Reconciler, RecoveredKeys, random,
    random_secret,
};
use crate::account::{Account, AccountId, KeyEntropy, KeyId, KeyPair, KeyState, Owner, StoredKey};
use crate::database::{Action, DatabaseError, Keyring};
use crate::secrets::IssuedKeys;

impl Reconciler {
    /// Executes a plan for the account's keys. Returns the step that ends the attempt if there was anything to do: the
    /// Secret is compared with the new keys in the next attempt.
    pub(super) async fn execute_keys(
        &self,
        plan: &KeysPlan,
        account: &Account,
        desired: &Desired,
        outcome: &mut Outcome,
    ) -> Result<Option<Step>, Interruption> {
        let expected = account.version;
        let (action, done) = match plan {
            KeysPlan::Keep => return Ok(None),
            KeysPlan::Restore(recovered) => {
                let key = self.seal(account.id, self.recovered_pair(recovered)?)?;
                (Action::RestoreKey { expected, key }, Done::KeyRestored(desired.secret.at.clone()))
            }
            KeysPlan::Revoke(keys) => (Action::Revoke { expected, keys: keys.clone() }, Done::Revoked(keys.clone())),
            KeysPlan::Rotate { reason, old_expires, revoke } => {
                let key = new_key(account.id, &self.keyring.get(), self.environment.as_ref())?;
                let old = account.active_key().filter(|_| old_expires.is_none()).map(|key| key.id);
                let revoked = revoke.iter().copied().chain(old).collect();
                let done = Done::Rotated { reason: *reason, new: key.id, old_expires: *old_expires, revoked };
                let answered = desired.rotation.requests.answered_after(&account.answered_requests);
                let (old_expires, revoke) = (*old_expires, revoke.clone());
                (Action::Rotate { expected, key, old_expires, revoke, answered }, done)
            }
        };
        self.declarations.confirm(desired).await?;
        match self.commit(account.id, action, desired.request()).await {
            Ok(account) => outcome.account = Some(account),
            Err(DatabaseError::KeyTaken) => return Ok(Some(Step::key_taken(desired))),
            // Revoked since it was observed.
            Err(DatabaseError::KeyRevoked) => return Ok(Some(Step::Again)),
            Err(error) => return Err(error.into()),
        }
        outcome.done.push(done);
        Ok(Some(Step::Again))
    }

    /// Returns the change that creates the declared account. If only the account's row was lost, the account is given
    /// the keys that its Secret still holds. Otherwise, it is given new keys.
    pub(super) fn create_account(
        &self,
        recovered: Option<&RecoveredKeys>,
        desired: &Desired,
    ) -> Result<(AccountId, Action, Done), RandomnessError> {
        let account = AccountId::from_random(random(self.environment.as_ref())?);
        let key = match recovered {
            Some(recovered) => self.seal(account, self.recovered_pair(recovered)?)?,
            None => new_key(account, &self.keyring.get(), self.environment.as_ref())?,
        };
        let action = Action::Create {
            owner: desired.owner.clone(),
            settings: desired.settings.clone(),
            key,
            answered: desired.rotation.requests.clone(),
            unknown_affiliate: self.unknown_affiliate,
        };
        Ok((account, action, Done::Created { recovered: recovered.is_some() }))
    }

    fn recovered_pair(&self, recovered: &RecoveredKeys) -> Result<KeyPair, RandomnessError> {
        let id = KeyId::from_random(random(self.environment.as_ref())?);
        let RecoveredKeys { api_key, secret_key } = recovered.clone();
        Ok(KeyPair { id, api_key, secret_key })
    }

    fn seal(&self, account: AccountId, pair: KeyPair) -> Result<StoredKey, RandomnessError> {
        seal(account, pair, &self.keyring.get(), self.environment.as_ref())
    }

    /// Opens the account's active key pair, and marks it for the Secret of this owner.
    pub(super) fn issue_keys(&self, account: &Account, owner: &Owner) -> Result<IssuedKeys, NotReady> {
        let key = account.active_key().ok_or_else(|| NotReady::NoKeys { account: account.id.to_string() })?;
        let keyring = self.keyring.get();
        let secret_key = keyring.open(account.id, key.id, &key.sealed)?;
        let pair = KeyPair { id: key.id, api_key: key.api_key.clone(), secret_key };
        Ok(IssuedKeys { mark: keyring.mark(owner, &pair), pair })
    }
}

/// Generates an active key pair for this account, sealed.
///
/// # Errors
/// The system has no randomness.
pub fn new_key(
    account: AccountId,
    keyring: &Keyring,
    environment: &dyn Environment,
) -> Result<StoredKey, RandomnessError> {
    let pair = new_pair(KeyId::from_random(random(environment)?), environment)?;
    seal(account, pair, keyring, environment)
}

fn new_pair(id: KeyId, environment: &dyn Environment) -> Result<KeyPair, RandomnessError> {
    let secret_key = random_secret(environment)?;
    Ok(KeyPair::from_entropy(id, &KeyEntropy { api_key: random(environment)?, secret_key }))
}

fn seal(
    account: AccountId,
    pair: KeyPair,
    keyring: &Keyring,
    environment: &dyn Environment,
) -> Result<StoredKey, RandomnessError> {
    let sealed = keyring.seal(account, pair.id, &pair.secret_key, random(environment)?);
    let created = environment.now();
    Ok(StoredKey { id: pair.id, api_key: pair.api_key, sealed, state: KeyState::Active, created })
}
