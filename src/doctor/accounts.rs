//! Checks the account database on its own, without a cluster.

use super::{Check, Finding, named};
use crate::account::{Account, AllowedIp, Life, Role, SameName, twins};
use crate::database::Keyring;

/// Checks rows, sealed keys, names and settings.
pub(super) fn check(accounts: &[Result<Account, String>], keyring: &Keyring) -> Vec<Finding> {
    let mut findings = Vec::new();
    for account in accounts {
        match account {
            Err(reason) => findings.push(Check::Rows.found(
                "an account that cannot be read",
                reason.clone(),
                "correct the value by hand; until then the account can neither authenticate nor be changed",
            )),
            Ok(account) => {
                findings.extend(sealed_keys(account, keyring));
                findings.extend(settings(account));
            }
        }
    }
    findings.extend(same_names(accounts.iter().flatten()));
    findings
}

fn sealed_keys(account: &Account, keyring: &Keyring) -> Vec<Finding> {
    let failed = account.keys.iter().filter_map(|key| {
        let error = keyring.open(account.id, key.id, &key.sealed).err()?;
        Some(Check::SealedKeys.found(
            format!("{}, key pair {}", named(account), key.id),
            error.to_string(),
            "restore the keyring and the database of the same backup; or rotate the account's keys with `opsadmin rotate`",
        ))
    });
    failed.collect()
}

/// Returns a finding for each two accounts whose names count as the same.
fn same_names<'a>(accounts: impl Iterator<Item = &'a Account>) -> Vec<Finding> {
    let found = twins(accounts).into_iter().map(|SameName { first, other }| {
        let [first, other] = [first, other].map(|(name, id)| format!("account {name:?} ({id})"));
        Check::Names.found(
            format!("{first} and {other}"),
            "their names count as one name",
            "rename all but one of them",
        )
    });
    found.collect()
}

/// Returns findings for settings that a user or another program has left in a contradictory state.
fn settings(account: &Account) -> Vec<Finding> {
    let settings = &account.settings;
    let mut findings = Vec::new();
    let mut found =
        |problem: String, advice: &str| findings.push(Check::Settings.found(named(account), problem, advice));
    if settings.any_ip && !settings.allowed_ips.is_empty() {
        found(
            "it may be used from any address although it has a list of addresses".to_owned(),
            "set any_ip to false, or remove the list; a controller restores what its resource declares",
        );
    }
    if !settings.any_ip && settings.allowed_ips.is_empty() {
        found(
            "it may be used only from the addresses in its list, and the list is empty: every use is refused"
                .to_owned(),
            "add the addresses, or set any_ip to true; a controller restores what its resource declares",
        );
    }
    for role in settings.roles.iter().filter(|role| Role::parse(role).is_err()) {
        found(format!("{role:?} is not a role and grants no access"), "correct or remove it");
    }
    for address in settings.allowed_ips.iter().filter(|address| AllowedIp::from_cidr(address).is_none()) {
        found(format!("{address:?} is not a network and matches no address"), "correct or remove it");
    }
    if !matches!(account.life, Life::Deleted { .. }) && account.active_key().is_none() {
        found(
            "it has no active key pair".to_owned(),
            "a controller or `apply` restores the key pair if its Secret still holds it; otherwise restore its row in account_keys from a backup",
        );
    }
    let declared = account.owner.is_some() && account.life == Life::Live;
    if declared && account.adopter.is_some() {
        found(
            "its column adopter says who may take it over, but a resource declares it".to_owned(),
            "empty the column adopter, which applies only to unowned accounts",
        );
    }
    findings
}
