//! How many statements the PostgreSQL server gets for new accounts.

use super::fixture::*;
use crate::support::statements::{asked, talkative};
use futures::future::join_all;
use opsadmin_operator::database::{AccountAdmin, Address, open};

/// How many accounts a controller works on at a time.
const AT_ONCE: usize = 16;

/// The statement that limits the time of statements outside of transactions, once for each connection.
const LIMIT: &str = "SET statement_timeout";

/// Looks for each account and creates it, as a controller does.
async fn make(database: &dyn AccountAdmin, names: &[String]) {
    for found in join_all(names.iter().map(|name| async { database.find_by_owner(&owner(name)).await })).await {
        assert_eq!(found.unwrap(), None);
    }
    join_all(names.iter().map(|name| create(database, owner(name), full_settings(name)))).await;
}

// On one thread, no call goes on before all have begun.
#[tokio::test]
async fn new_accounts_share_their_statements() {
    const ROUNDS: usize = 8;
    let (server, database) = talkative().await;
    let connections = u32::try_from(AT_ONCE).unwrap();
    let program = open(Address { connections, ..Address::from(database.url()) }).unwrap();
    program.migrate().await.unwrap();
    for (at_once, of_each_round) in [
        // A search, and then begin, create, read back and commit.
        (1, 1 + 4),
        // The first creation begins at once. The others wait for it, and share the next transaction.
        (AT_ONCE, AT_ONCE + 2 * 4),
    ] {
        // Each connection reads outside of a transaction once it has been used.
        let names = |round: usize| -> Vec<_> {
            (0..at_once).map(|number| format!("{number} of {at_once} in round {round}")).collect()
        };
        make(&*program, &names(0)).await;
        let mut counts = Vec::new();
        for round in 1..=ROUNDS {
            let mark = server.log().len();
            make(&*program, &names(round)).await;
            counts.push(asked(&server, mark).iter().filter(|asked| !asked.starts_with(LIMIT)).count());
        }
        // A group that takes long, because the machine is busy, lets the next one begin beside it. Then more is asked.
        assert_eq!(counts.iter().min(), Some(&of_each_round), "{counts:?}");
    }
}
