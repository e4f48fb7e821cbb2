//! Accounts whose names are one name, which older versions took for two.

use super::Account;
use std::collections::HashMap;
use std::fmt;

/// Two accounts with one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Twin {
    /// The name of the first and the account's id.
    pub first: (String, String),
    /// The same of the other.
    pub other: (String, String),
}

impl fmt::Display for Twin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ((first, id), (other, other_id)) = (&self.first, &self.other);
        write!(
            f,
            "the accounts {id} ({first:?}) and {other_id} ({other:?}) have names that look the same; rename one of them, in \
             spec.name of its ApiAccount or, if none declares it, in the database"
        )
    }
}

/// The twins among accounts; a deleted one has given its name up.
pub fn twins<'a>(accounts: impl IntoIterator<Item = &'a Account>) -> Vec<Twin> {
    let mut firsts = HashMap::new();
    let mut twins = Vec::new();
    for account in accounts {
        let Some(kept) = account.name_kept() else { continue };
        let other = (account.settings.name.clone(), account.id.to_string());
        if let Some(first) = firsts.get(&kept) {
            twins.push(Twin { first: Clone::clone(first), other });
        } else {
            firsts.insert(kept, other);
        }
    }
    twins
}
