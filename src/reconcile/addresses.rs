//! The rule that an account keeps its list of addresses while its resource declares none.
//!
//! A list can be lost by accident: by an empty chart value, a merge, or a patch that removes a null. Therefore, only an
//! explicit empty list means any address.

use super::{Desired, NotReady};
use crate::account::{Account, AllowedIp, AllowedIps};
use crate::api::ManagementPolicy;
use std::borrow::Cow;

impl Desired {
    /// Returns the declaration, with the account's own list of addresses if the resource declares none.
    pub(super) fn keeping_addresses(&self, account: Option<&Account>) -> Cow<'_, Self> {
        match account {
            Some(account) if self.keeps_addresses_of(account) => {
                let mut kept = self.clone();
                // An entry that is not a network allows no access, so it is dropped.
                let networks = account.settings.allowed_ips.iter().filter_map(|cidr| AllowedIp::from_cidr(cidr));
                kept.settings.allowed_ips = AllowedIps::only(networks);
                Cow::Owned(kept)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Returns why the resource is not Ready if the account kept its own list; `None` if it did not.
    pub(super) fn addresses_kept_of(&self, account: &Account) -> Option<NotReady> {
        let kept = || account.settings.allowed_ips.iter().cloned().collect();
        self.keeps_addresses_of(account).then(|| NotReady::AllowedIpsMissing { kept: kept() })
    }

    fn keeps_addresses_of(&self, account: &Account) -> bool {
        !self.declares_addresses && self.management == ManagementPolicy::Enforce && !account.settings.any_ip
    }
}
