//! Observes what the account database and the cluster have for one resource. Nothing is changed here.

use super::step::Interruption;
use super::{Desired, Evidence, Observed, ObservedSecret, Reconciler, RecoveredKeys, Verified};
use crate::account::{Account, Owner};
use crate::api::ManagementPolicy;
use crate::database::DatabaseError;
use crate::secrets::{FoundSecret, Lookup};

impl Reconciler {
    /// Observes the resource's Secret, and its Secrets under former names. `account` was read before.
    pub(super) async fn observe(
        &self,
        desired: &Desired,
        verified: Option<&Verified>,
        account: Option<Account>,
    ) -> Result<Observed, Interruption> {
        let active = account.as_ref().and_then(Account::active_key).map(|key| key.id);
        let verified = verified.filter(|verified| active.is_some_and(|active| verified.holds_for(desired, active)));
        let at = &desired.secret.at;
        let keyring = self.keyring.get();
        let mut lookup = self.secrets.find(at, verified.map(|verified| verified.known(keyring.marks_with()))).await?;
        if matches!(lookup, Lookup::Absent) && desired.management == ManagementPolicy::Observe {
            // Nothing will be written, so no conflict would show that a Secret is there after all.
            lookup = self.secrets.confirm(at).await?;
        }
        let secret = match lookup {
            Lookup::Absent => ObservedSecret::Absent,
            Lookup::Unchanged => ObservedSecret::Verified,
            Lookup::Found(found) => self.observe_secret(found, desired, account.as_ref()).await?,
        };
        let mut stale_secrets = self.secrets.owned_by(&desired.identity()).await?;
        stale_secrets.retain(|stale| stale != at);
        Ok(Observed { account, secret, stale_secrets })
    }

    /// Finds out whether a Secret is the resource's own. Opens the account's keys for a comparison only if the Secret
    /// may be so.
    async fn observe_secret(
        &self,
        found: Box<FoundSecret>,
        desired: &Desired,
        account: Option<&Account>,
    ) -> Result<ObservedSecret, Interruption> {
        let belongs = desired.identity().check(found.metadata());
        let may_be_own = belongs.is_ok() || found.has_label_but_no_owner();
        let active = match account.filter(|account| may_be_own && account.active_key().is_some()) {
            Some(account) => Some(self.issue_keys(account, &desired.owner)?),
            None => None,
        };
        let holds_active = active.as_ref().is_some_and(|active| found.holds(&active.pair));
        if let Err(holder) = belongs
            && !holds_active
        {
            return Ok(ObservedSecret::Foreign { holder });
        }
        let evidence = match active {
            Some(_) => Evidence::Nothing,
            None => self.evidence(&found, &desired.owner).await?,
        };
        Ok(ObservedSecret::Own { found, active, evidence })
    }

    /// Judges the key pair in the resource's own Secret, which the database does not have.
    async fn evidence(&self, found: &FoundSecret, owner: &Owner) -> Result<Evidence, DatabaseError> {
        let Some((api_key, secret_key)) = found.keys() else {
            return Ok(Evidence::Nothing);
        };
        if !self.keyring.get().verifies_mark(found.mark(), owner, &api_key, &secret_key) {
            return Ok(Evidence::Unmarked);
        }
        let is_revoked = !self.database.revoked(std::slice::from_ref(&api_key)).await?.is_empty();
        Ok(if is_revoked { Evidence::Nothing } else { Evidence::Marked(RecoveredKeys { api_key, secret_key }) })
    }
}
