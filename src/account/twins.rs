//! Finds twins: accounts whose names look the same. Older versions compared names less strictly and allowed them.

use super::Account;
use std::collections::HashMap;
use std::fmt;

/// Two accounts with the same comparable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameName {
    /// The name and the id of the first account.
    pub first: (String, String),
    /// The name and the id of the second account.
    pub other: (String, String),
}

impl fmt::Display for SameName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, id), (other, other_id)) = (&self.first, &self.other);
        write!(
            f,
            "the accounts {id} ({first:?}) and {other_id} ({other:?}) have names that look the same; rename one of them, in \
             spec.name of its ApiAccount or, if none declares it, in the database"
        )
    }
}

/// Returns the twins among the accounts. Deleted accounts do not count, since their names are free.
pub fn twins<'a>(accounts: impl IntoIterator<Item = &'a Account>) -> Vec<SameName> {
    let mut firsts = HashMap::new();
    let mut twins = Vec::new();
    for account in accounts {
        let Some(kept) = account.reserved_name() else { continue };
        let other = (account.settings.name.clone(), account.id.to_string());
        if let Some(first) = firsts.get(&kept) {
            twins.push(SameName { first: Clone::clone(first), other });
        } else {
            firsts.insert(kept, other);
        }
    }
    twins
}
