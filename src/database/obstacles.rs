//! What a resource may wait for: a name that another account holds, or an affiliate that OpsAdmin does not know yet.

use crate::account::{Account, AffiliateName, Version};
use std::collections::{BTreeSet, HashMap};

/// The requested names that accounts hold, and the requested affiliates that OpsAdmin knows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Obstacles {
    /// The holder of each name, by the comparable name.
    pub names: HashMap<String, NameHolder>,
    /// The requested affiliates that OpsAdmin knows.
    pub affiliates: BTreeSet<String>,
}

/// The account that holds a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameHolder {
    /// The account's id, as stored.
    pub id: String,
    /// The account's version.
    pub version: Version,
    /// Whether a resource declares the account.
    pub is_declared: bool,
}

impl Obstacles {
    /// Builds the obstacles from whole accounts and all known affiliates.
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
    /// Returns the account as the holder of its name.
    pub fn of(account: &Account) -> Self {
        let is_declared = account.owner.is_some() && account.life == crate::account::Life::Live;
        Self { id: account.id.to_string(), version: account.version, is_declared }
    }
}
