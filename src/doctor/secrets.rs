//! Checks that accounts, Secrets and resources match each other.

use super::{Check, Finding, Installation, named};
use crate::account::{Account, ApiKey, Life, Owner, SecretKey};
use crate::secrets::SecretRef;
use std::collections::{HashMap, HashSet};

/// A Secret that names an account's owner.
pub struct CheckedSecret {
    /// The Secret's namespace and name.
    pub at: SecretRef,
    /// The owner that its annotation names.
    pub owner: Owner,
    /// The key pair in the Secret; `None` if it has no complete key pair, or more than one.
    pub keys: Option<(ApiKey, SecretKey)>,
}

/// A resource on the cluster.
pub struct CheckedResource {
    /// The resource, as the owner of its account.
    pub owner: Owner,
    /// The id of the account that its status names.
    pub account: Option<String>,
    /// Whether the controller creates an account and a Secret for it: it is not paused, not only observed and not being
    /// deleted.
    pub is_managed: bool,
    /// The Secret that its spec asks for; `None` if the spec is invalid.
    pub secret: Option<SecretRef>,
}

/// Checks Secrets and owners.
pub(super) fn check(installation: &Installation<'_>) -> Vec<Finding> {
    let accounts: HashMap<&Owner, &Account> = installation
        .accounts
        .iter()
        .flatten()
        .filter_map(|account| Some((account.owner.as_ref()?, account)))
        .filter(|(owner, _)| owner.cluster == installation.cluster)
        .collect();
    let mut findings = Vec::new();
    if let Some(secrets) = &installation.secrets {
        for secret in secrets.iter().filter(|secret| secret.owner.cluster == installation.cluster) {
            findings.extend(secret_of(secret, accounts.get(&secret.owner).copied(), installation));
        }
        findings.extend(without_secret(&accounts, secrets, installation));
    }
    if let Some(resources) = &installation.resources {
        findings.extend(owners(&accounts, resources));
    }
    findings
}

fn secret_of(secret: &CheckedSecret, account: Option<&Account>, installation: &Installation<'_>) -> Option<Finding> {
    let found =
        |problem: String, advice: &str| Some(Check::Secrets.found(format!("Secret {}", secret.at), problem, advice));
    let rewrite_advice = "the controller or the next `apply` writes it again from the database";
    let Some(account) = account else {
        return found(
            format!("the database has no account of {}", secret.owner),
            "check that this is the right database; delete the Secret once nothing mounts it",
        );
    };
    if matches!(account.life, Life::Deleted { .. }) {
        return found(format!("the {} is deleted", named(account)), "delete the Secret: its keys are refused");
    }
    let Some((api_key, secret_key)) = &secret.keys else {
        return found("it does not hold exactly one complete key pair".to_owned(), rewrite_advice);
    };
    let key = account.active_key()?;
    if key.api_key != *api_key {
        return found(
            format!("its API key is not that of the active key pair of the {}", named(account)),
            rewrite_advice,
        );
    }
    // A secret key that the keyring cannot open is a finding of the check `sealed-keys`.
    let opened = installation.keyring.open(account.id, key.id, &key.sealed).ok()?;
    (opened.expose() != secret_key.expose())
        .then(|| {
            found(
                format!("its secret key is not that of the active key pair of the {}", named(account)),
                rewrite_advice,
            )
        })
        .flatten()
}

/// Returns a finding for each live account without a Secret. On a cluster, resources that are only observed or paused
/// are not checked, since they may have no Secret.
fn without_secret(
    accounts: &HashMap<&Owner, &Account>,
    secrets: &[CheckedSecret],
    installation: &Installation<'_>,
) -> Vec<Finding> {
    let with_secret: HashSet<(&Owner, &SecretRef)> = secrets.iter().map(|secret| (&secret.owner, &secret.at)).collect();
    let owners: HashSet<&Owner> = secrets.iter().map(|secret| &secret.owner).collect();
    let rewrite_advice =
        "the controller or the next `apply` writes it; if not, the condition of its ApiAccount says why";
    let mut findings = Vec::new();
    if let Some(resources) = &installation.resources {
        for resource in resources.iter().filter(|resource| resource.is_managed) {
            let is_live = accounts.get(&resource.owner).is_some_and(|account| account.life == Life::Live);
            if let Some(at) =
                resource.secret.as_ref().filter(|at| is_live && !with_secret.contains(&(&resource.owner, at)))
            {
                let subject = format!("ApiAccount {}/{}", resource.owner.namespace, resource.owner.name);
                findings.push(Check::Secrets.found(subject, format!("its Secret {at} does not exist"), rewrite_advice));
            }
        }
        return findings;
    }
    let mut lacking: Vec<&&Account> = accounts
        .iter()
        .filter(|(owner, account)| account.life == Life::Live && !owners.contains(*owner))
        .map(|(_, account)| account)
        .collect();
    lacking.sort_by_key(|account| account.id);
    findings
        .extend(lacking.iter().map(|account| Check::Secrets.found(named(account), "it has no Secret", rewrite_advice)));
    findings
}

fn owners(accounts: &HashMap<&Owner, &Account>, resources: &[CheckedResource]) -> Vec<Finding> {
    let declared: HashSet<&Owner> = resources.iter().map(|resource| &resource.owner).collect();
    let mut orphans: Vec<&&Account> = accounts
        .iter()
        .filter(|(owner, account)| account.life == Life::Live && !declared.contains(*owner))
        .map(|(_, account)| account)
        .collect();
    orphans.sort_by_key(|account| account.id);
    let orphans = orphans.into_iter().map(|account| {
        Check::Owners.found(
            named(account),
            "its ApiAccount no longer exists, and the account still authenticates",
            "apply its ApiAccount again, and then delete it if the account is to end; without an ApiAccount, the controller disables the account after --orphan-grace",
        )
    });
    let lost = resources.iter().filter(|resource| resource.is_managed && !accounts.contains_key(&resource.owner));
    let lost = lost.filter_map(|resource| {
        let account = resource.account.as_ref()?;
        Some(Check::Owners.found(
            format!("ApiAccount {}/{}", resource.owner.namespace, resource.owner.name),
            format!("the database lacks the account {account} that its status names"),
            "check that this is the right database and a recent backup; `opsadmin release --only creations` confirms that it is created again",
        ))
    });
    orphans.chain(lost).collect()
}
