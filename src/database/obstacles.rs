//! What the database tells those who wait for others: who has a name, and which affiliates there are.

use crate::account::{Account, AffiliateName, Version};
use std::collections::{BTreeSet, HashMap};

/// What there is of what was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// Who has which name, by the comparable name.
    pub names: HashMap<String, NameHolder>,
    /// The affiliates that OpsAdmin knows.
    pub affiliates: BTreeSet<String>,
}

/// An account that has a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHolder {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: Version,
    /// Whether a resource declares it.
    pub is_declared: bool,
}

impl Obstacles {
    /// The same from whole accounts and all affiliates.
    pub(super) fn among(holders: &[Account], known: &BTreeSet<String>, asked: &[AffiliateName]) -> Self {
        let named = |account: &Account| Some((account.reserved_name()?, NameHolder::of(account)));
        let asked = asked.iter().map(AffiliateName::to_string);
        Self {
            names: holders.iter().filter_map(named).collect(),
            affiliates: asked.filter(|name| known.contains(name)).collect(),
        }
    }
}

impl NameHolder {
    /// The account as the holder of its name.
    pub fn of(account: &Account) -> Self {
        let is_declared = account.owner.is_some() && account.life == crate::account::Life::Live;
        Self { id: account.id.to_string(), version: account.version, is_declared }
    }
}
