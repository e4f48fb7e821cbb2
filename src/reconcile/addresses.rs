//! The list of addresses of an account whose resource says nothing about addresses: it is kept.
//!
//! A list gets lost in ways that nobody meant: an empty value of a chart, a merge, a patch that removes a null. Only an
//! explicit empty list means any address.

use super::{Desired, NotReady};
use crate::account::{Account, AllowedIp, AllowedIps};
use crate::api::ManagementPolicy;
use std::borrow::Cow;

impl Desired {
    /// What is to be made of this account: what is declared, with the account's own list if the resource names none.
    pub(super) fn keeping_addresses(&self, account: Option<&Account>) -> Cow<'_, Self> {
        match account {
            Some(account) if self.keeps_addresses_of(account) => {
                let mut kept = self.clone();
                // What is no network lets nobody in, and can go.
                let networks = account.settings.allowed_ips.iter().filter_map(|cidr| AllowedIp::from_cidr(cidr));
                kept.settings.allowed_ips = AllowedIps::only(networks);
                Cow::Owned(kept)
            }
            _ => Cow::Borrowed(self),
        }
    }

    /// Says that the account's list was kept, if it was.
    pub(super) fn check_addresses(&self, account: &Account) -> Result<(), NotReady> {
        if self.keeps_addresses_of(account) {
            return Err(NotReady::AllowedIpsMissing { kept: account.settings.allowed_ips.iter().cloned().collect() });
        }
        Ok(())
    }

    fn keeps_addresses_of(&self, account: &Account) -> bool {
        !self.names_addresses && self.management == ManagementPolicy::Enforce && !account.settings.any_ip
    }
}
