//! An account's keys while executing: made, sealed, opened, rotated and revoked.

use super::halt::Halt;
use super::{
    Desired, Done, Environment, Evidence, KeysPlan, NotReady, ObservedSecret, Outcome, RandomnessError, Reconciler,
};
use crate::account::{Account, AccountId, KeyEntropy, KeyId, KeyPair, KeyState, Owner, StoredKey};
use crate::database::{Action, DatabaseError, Keyring};
use crate::secrets::{FoundSecret, IssuedKeys};
use zeroize::Zeroizing;

impl Reconciler {
    pub(super) async fn execute_keys(
        &self,
        plan: &KeysPlan,
        account: &Account,
        desired: &Desired,
        secret: &ObservedSecret,
        outcome: &mut Outcome,
    ) -> Result<(), Halt> {
        let expected = account.version;
        let (action, done) = match plan {
            KeysPlan::Keep => return Ok(()),
            KeysPlan::Restore => {
                let Some((api_key, secret_key)) = secret.recoverable_keys() else {
                    return Ok(());
                };
                let pair = KeyPair { id: KeyId::from_random(self.random()?), api_key, secret_key };
                let action = Action::RestoreKey { expected, key: self.seal(account.id, pair)? };
                (action, Done::KeyRestored(desired.secret.at.clone()))
            }
            KeysPlan::Revoke(keys) => (Action::Revoke { expected, keys: keys.clone() }, Done::Revoked(keys.clone())),
            KeysPlan::Rotate { reason, old_expires, revoke } => {
                let key = new_key(account.id, &self.keyring, self.environment.as_ref())?;
                let old = account.active_key().filter(|_| old_expires.is_none()).map(|key| key.id);
                let revoked = revoke.iter().copied().chain(old).collect();
                let done = Done::Rotated { reason: *reason, new: key.id, old_expires: *old_expires, revoked };
                let answered = desired.rotation.asked.answered_after(&account.answered);
                let (old_expires, revoke) = (*old_expires, revoke.clone());
                (Action::Rotate { expected, key, old_expires, revoke, answered }, done)
            }
        };
        self.declarations.confirm(desired).await?;
        outcome.account = match self.commit(account.id, action, desired.generation).await {
            Err(DatabaseError::KeyTaken) => return Err(Halt::key_taken(desired)),
            // Since it was looked at.
            Err(DatabaseError::KeyRevoked) => return Err(Halt::LookAgain),
            account => Some(account?),
        };
        outcome.done.push(done);
        Ok(())
    }

    /// The first pair of a new account, sealed: from its Secret if only its row was lost, otherwise new.
    pub(super) fn first_key(&self, account: AccountId, secret: &ObservedSecret) -> Result<(StoredKey, bool), Halt> {
        let id = KeyId::from_random(self.random()?);
        let (pair, recovered) = match secret.recoverable_keys() {
            Some((api_key, secret_key)) => (KeyPair { id, api_key, secret_key }, true),
            None => (new_pair(id, self.environment.as_ref())?, false),
        };
        Ok((self.seal(account, pair)?, recovered))
    }

    fn seal(&self, account: AccountId, pair: KeyPair) -> Result<StoredKey, RandomnessError> {
        seal(account, pair, &self.keyring, self.environment.as_ref())
    }

    /// The account's active pair as it is handed out to this owner.
    pub(super) fn issue_keys(&self, account: &Account, owner: &Owner) -> Result<IssuedKeys, NotReady> {
        let key = account.active_key().ok_or_else(|| NotReady::NoKeys { account: account.id.to_string() })?;
        let secret_key = self.keyring.open(account.id, key.id, &key.sealed)?;
        let pair = KeyPair { id: key.id, api_key: key.api_key.clone(), secret_key };
        Ok(IssuedKeys { mark: self.keyring.mark(owner, &pair), pair })
    }

    /// What to make of the pair that the resource's own Secret holds, which the database does not have.
    pub(super) async fn evidence(&self, found: &FoundSecret, owner: &Owner) -> Result<Evidence, DatabaseError> {
        let Some((api_key, secret_key)) = found.keys() else {
            return Ok(Evidence::Nothing);
        };
        if !self.keyring.has_marked(found.mark(), owner, &api_key, &secret_key) {
            return Ok(Evidence::Unmarked);
        }
        let is_revoked = !self.database.revoked(std::slice::from_ref(&api_key)).await?.is_empty();
        Ok(if is_revoked { Evidence::Nothing } else { Evidence::Marked })
    }
}

/// A new active pair for this account, sealed.
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
    let mut secret_key = Zeroizing::new([0; 32]);
    environment.fill(secret_key.as_mut_slice())?;
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

pub(super) fn random<const N: usize>(environment: &dyn Environment) -> Result<[u8; N], RandomnessError> {
    let mut bytes = [0; N];
    environment.fill(&mut bytes)?;
    Ok(bytes)
}
