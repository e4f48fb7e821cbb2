//! What changed among the accounts of a cluster since an earlier look, and pages of all of them.

use crate::account::{Owner, Version};

/// What a database remembers the moment of a look by. Only the database that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepMark {
    /// The history of the data, if the database tells it.
    pub(super) history: Option<String>,
    /// The moment, in the terms of the database.
    pub(super) moment: String,
    /// Which owners had accounts then, as a checksum.
    pub(super) owners: String,
}

/// What changed since an earlier look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The accounts that changed, with their present versions; `None`: it is unknown, for example because an account was
    /// made or removed, and all accounts have to be compared. The same account may be told twice, and one that has not
    /// changed may be told too.
    pub accounts: Option<Vec<(Owner, Version)>>,
    /// The mark for the next call; `None`: the database cannot tell changes.
    ///
    /// It is made before anything else is read. So whoever reads all accounts after this call misses nothing.
    pub mark: Option<SweepMark>,
}

impl Changes {
    /// Returns the answer of a database that cannot tell what changed.
    pub fn unknown() -> Self {
        Self { accounts: None, mark: None }
    }
}

/// Returns one page of a whole list, for a database that does not read in pages.
pub fn page_after<T>(mut all: Vec<T>, owner: impl Fn(&T) -> &Owner, after: Option<&Owner>, limit: usize) -> Vec<T> {
    let place = |owner: &Owner| (owner.namespace.clone(), owner.name.clone());
    all.retain(|one| after.is_none_or(|after| place(owner(one)) > place(after)));
    all.sort_by_cached_key(|one| place(owner(one)));
    all.truncate(limit);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClusterId;

    #[test]
    fn pages_have_each_owner_once_and_in_order() {
        let owner = |namespace: &str, name: &str| Owner {
            cluster: ClusterId::parse("here").unwrap(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let all = vec![owner("b", "1"), owner("a", "2"), owner("a", "1"), owner("a-b", "0")];
        let mut seen: Vec<Owner> = Vec::new();
        loop {
            let page = page_after(all.clone(), |owner| owner, seen.last(), 3);
            if page.is_empty() {
                break;
            }
            seen.extend(page);
        }
        assert_eq!(seen, [owner("a", "1"), owner("a", "2"), owner("a-b", "0"), owner("b", "1")]);
    }
}
