//! What is wrong with an installation: every check, over what was read of it. Pure: nothing is read and nothing is changed here.

mod accounts;
mod definition;
mod secrets;
#[cfg(test)]
mod tests;

pub use definition::missing_fields;
pub use secrets::{SeenResource, SeenSecret};

use crate::account::{Account, ClusterId};
use crate::database::Keyring;
use serde::Serialize;

/// What was read of an installation.
pub struct Installation<'a> {
    /// Every account; in the place of one that cannot be read, why.
    pub accounts: Vec<Result<Account, String>>,
    /// What secret keys are sealed with.
    pub keyring: &'a Keyring,
    /// The cluster, or whatever else, that the Secrets and resources are of.
    pub cluster: ClusterId,
    /// The Secrets that say they belong to an account; `None`: not looked at.
    pub secrets: Option<Vec<SeenSecret>>,
    /// The resources; `None`: not looked at.
    pub resources: Option<Vec<SeenResource>>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// What it is about: an account, a Secret, a row.
    pub subject: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to do about it.
    pub advice: String,
}

/// A check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// The schema of the database is that of this program.
    Schema,
    /// The definition on the cluster has every field of this program's.
    Definition,
    /// The rights that are needed, in the database and on the cluster.
    Rights,
    /// Every row can be read.
    Rows,
    /// Every secret key opens with the keyring.
    SealedKeys,
    /// No two accounts have names that count as one.
    Names,
    /// What is set on an account does not contradict itself.
    Settings,
    /// Every Secret has its account's pair, and every account its Secret.
    Secrets,
    /// Every account has its resource, and every resource its account.
    Owners,
    /// The keyring's file is for its owner alone.
    Keyring,
}

impl Check {
    /// Its name, as it is printed.
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

    /// Something that this check has found.
    pub fn found(self, subject: impl Into<String>, problem: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: self, subject: subject.into(), problem: problem.into(), advice: advice.into() }
    }
}

impl Installation<'_> {
    /// Everything that is wrong, in the order of the checks.
    pub fn diagnose(&self) -> Vec<Finding> {
        let mut findings = accounts::check(&self.accounts, self.keyring);
        findings.extend(secrets::check(self));
        findings.sort_by_key(|finding| finding.check);
        findings
    }
}

/// An account, as findings name it.
fn named(account: &Account) -> String {
    format!("account {:?} ({})", account.settings.name, account.id)
}
