//! Computes the `name_key` of every account again, because an older version of this program compared names differently.

use super::Session;
use crate::account::comparable_name;
use std::collections::HashMap;

/// The migration after which the keys are computed.
pub(crate) const MIGRATION: i64 = 6;

const NAMES: &str = "SELECT id, name, name_key FROM accounts WHERE deleted_at IS NULL ORDER BY created_at, id";
const DELETED: &str = "SELECT id, name, name_key FROM accounts WHERE deleted_at IS NOT NULL ORDER BY created_at, id";
const SET: &str = "UPDATE accounts SET name_key = $2 WHERE id = $1";

/// An account's id, its name and its `name_key`.
type Named = (String, String, String);

/// Computes the `name_key` of every account. If two live accounts have the same new key, the account that has the key
/// already keeps it, or else the older account gets it. The other account keeps its old key, because keys are unique.
pub(crate) async fn renew(session: &mut impl Session) -> Result<(), sqlx::Error> {
    let live: Vec<Named> = session.rows(NAMES, &[]).await?;
    let Renewal { set, twins } = renewal(&live);
    for (id, key) in set {
        session.run(SET, &[id.into(), key.as_str().into()]).await?;
    }
    for (first, other) in twins {
        tracing::warn!(
            "the accounts {first} and {other} have names that look the same, which an older version took for two: {other} keeps \
             its name until it is renamed, and is not found by it"
        );
    }
    // Deleted accounts hold no name, so their keys need not be unique. A restore computes the key again.
    let deleted: Vec<Named> = session.rows(DELETED, &[]).await?;
    for (id, name, key) in &deleted {
        let renewed = comparable_name(name);
        if renewed != *key {
            session.run(SET, &[id.as_str().into(), renewed.as_str().into()]).await?;
        }
    }
    Ok(())
}

/// The keys to set.
struct Renewal<'a> {
    /// Account ids and their new keys, in an order in which no two accounts have the same key at any moment.
    set: Vec<(&'a str, String)>,
    /// Pairs of account ids with the same new key. The first account has the key.
    twins: Vec<(&'a str, &'a str)>,
}

fn renewal(live: &[Named]) -> Renewal<'_> {
    let mut held: HashMap<&str, &str> = live.iter().map(|(id, _, key)| (key.as_str(), id.as_str())).collect();
    let renewed: Vec<String> = live.iter().map(|(_, name, _)| comparable_name(name)).collect();
    let mut waiting: Vec<_> = live.iter().zip(&renewed).filter(|((.., key), renewed)| key != *renewed).collect();
    let mut set = Vec::new();
    // A key that one account gives up may be the new key of another account, so repeat until nothing changes.
    loop {
        let before = waiting.len();
        waiting.retain(|((id, _, key), renewed)| {
            if held.contains_key(renewed.as_str()) {
                return true;
            }
            held.remove(key.as_str());
            held.insert(renewed, id);
            set.push((id.as_str(), (*renewed).clone()));
            false
        });
        if waiting.len() == before {
            break;
        }
    }
    let twins = waiting.iter().filter_map(|((id, ..), renewed)| Some((*held.get(renewed.as_str())?, id.as_str())));
    Renewal { set, twins: twins.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn each_key_is_free_when_it_is_set_and_one_of_two_twins_has_it() {
        let named = |id: &str, name: &str, key: &str| (id.to_owned(), name.to_owned(), key.to_owned());
        let live = [
            named("1", "Cafe\u{301}", "cafe\u{301}"),
            named("2", "Caf\u{e9}", "caf\u{e9}"),
            named("3", "x", "stale"),
            named("4", "stale", "other"),
            named("5", "\u{ff21}", "\u{ff41}"),
            named("6", "\u{ff21}\u{200b}", "\u{ff41}\u{200b}"),
        ];
        let Renewal { set, twins } = renewal(&live);
        let mut keys: HashMap<&str, &str> = live.iter().map(|(id, _, key)| (id.as_str(), key.as_str())).collect();
        for (id, key) in &set {
            keys.insert(id, key);
            let distinct: HashSet<_> = keys.values().collect();
            assert_eq!(distinct.len(), live.len(), "{set:?}");
        }
        assert_eq!(keys["3"], "x");
        assert_eq!(keys["4"], "stale");
        assert_eq!(keys["5"], "a");
        assert_eq!(twins, [("2", "1"), ("5", "6")]);
    }
}
