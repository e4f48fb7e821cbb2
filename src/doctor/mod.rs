//! The checks of `opsadmin doctor`. They are pure functions over data that the caller has read, and change nothing.

mod accounts;
mod definition;
mod secrets;
#[cfg(test)]
mod tests;

pub use definition::{missing_fields, unknown_stored_versions};
pub use secrets::{CheckedResource, CheckedSecret};

use crate::account::{Account, ClusterId};
use crate::database::Keyring;
use serde::Serialize;

/// The data of an installation to check.
pub struct Installation<'a> {
    /// Every account, or the reason why it cannot be read.
    pub accounts: Vec<Result<Account, String>>,
    /// The keyring that seals the secret keys.
    pub keyring: &'a Keyring,
    /// The id of the cluster, or of the folder without a cluster, that has the Secrets and resources.
    pub cluster: ClusterId,
    /// The Secrets that name an account's owner; `None` if Secrets were not read.
    pub secrets: Option<Vec<CheckedSecret>>,
    /// The resources; `None` if resources were not read.
    pub resources: Option<Vec<CheckedResource>>,
}

/// A problem that a check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check that found it.
    pub check: Check,
    /// The account, Secret, row or other object that has the problem.
    pub subject: String,
    /// The problem.
    pub problem: String,
    /// What to do about the problem.
    pub advice: String,
}

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The database schema is the one that this program expects.
    Schema,
    /// The CRD on the cluster has every field of this program's CRD.
    Definition,
    /// The program has the rights that it needs in the database and on the cluster.
    Rights,
    /// Every row can be read.
    Rows,
    /// The keyring can open every secret key.
    SealedKeys,
    /// No two accounts have names that count as the same.
    Names,
    /// The settings of an account do not contradict each other.
    Settings,
    /// Every Secret has its account's active key pair, and every account has its Secret.
    Secrets,
    /// Every account has its resource, and every resource has its account.
    Owners,
    /// Only the owner of the keyring's file can read it.
    Keyring,
}

impl Check {
    /// The check's name, as it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schema => "schema",
            Self::Definition => "definition",
            Self::Rights => "rights",
            Self::Rows => "rows",
            Self::SealedKeys => "sealed-keys",
            Self::Names => "names",
            Self::Settings => "settings",
            Self::Secrets => "secrets",
            Self::Owners => "owners",
            Self::Keyring => "keyring",
        }
    }

    /// Creates a finding of this check.
    pub fn found(self, subject: impl Into<String>, problem: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: self, subject: subject.into(), problem: problem.into(), advice: advice.into() }
    }
}

impl Installation<'_> {
    /// Runs the checks and returns all findings, in the order of [`Check`].
    pub fn diagnose(&self) -> Vec<Finding> {
        let mut findings = accounts::check(&self.accounts, self.keyring);
        findings.extend(secrets::check(self));
        findings.sort_by_key(|finding| finding.check);
        findings
    }
}

/// Returns the account's name and id for a finding.
fn named(account: &Account) -> String {
    format!("account {:?} ({})", account.settings.name, account.id)
}
