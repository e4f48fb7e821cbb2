//! The cost of sweeps, and what happens when a sweep fails. The tests read it from the statements that the database
//! server received.

use serde_json::json;
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _};

use super::drift::{NEVER, SWEEPING, full, notes};
use super::scene::{SOON, Scene};
use crate::support::statements::{asked, by_hand, talkative};
use crate::support::wait::eventually;

/// Returns how often the account of this resource was read.
fn looks(statements: &[String], resource: &str) -> usize {
    let parameters = format!("$3 = '{resource}'");
    let is_look = |asked: &&String| asked.starts_with("SELECT id, version, name") && asked.contains(&parameters);
    statements.iter().filter(is_look).count()
}

/// Returns the number of sweeps over all accounts.
fn sweeps(statements: &[String]) -> usize {
    statements.iter().filter(|asked| asked.starts_with("SELECT owner_namespace, owner_name, version")).count()
}

async fn is_told(scene: &Scene, account: &str, reason: &str, note: &str) {
    eventually(&format!("it to be told: {note}"), SOON, async || {
        let notes = notes(scene, account, reason).await;
        if notes.iter().any(|found| found == note) { Ok(()) } else { Err(scene.log()) }
    })
    .await;
}

#[tokio::test]
async fn own_writes_cause_no_further_read() {
    const CHANGES: usize = 8;
    let mut scene = Scene::set("echoes").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &NEVER);
    for name in ["acme", "other"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    // When this change was corrected, earlier notifications have been received.
    let pass_the_time = async |text: &str| {
        by_hand(&database, &format!("UPDATE accounts SET description = '{text}' WHERE owner_name = 'other'")).await;
        is_told(&scene, "other", "DriftCorrected", &format!(r#"description: "{text}" → """#)).await;
    };
    pass_the_time("first").await;
    let mark = server.log().len();
    for number in 0..CHANGES {
        scene.change("acme", json!({ "description": number.to_string() })).await;
        scene.ready("acme").await;
    }
    pass_the_time("last").await;
    scene.stop().await;

    let statements = asked(&server, mark);
    let all = statements.join("\n");
    assert_eq!(looks(&statements, "acme"), CHANGES, "one for each change\n{all}");
    assert_eq!(looks(&statements, "other"), 1, "one for the change by another\n{all}");
}

#[tokio::test]
async fn a_sweep_over_unchanged_accounts_changes_nothing() {
    let mut scene = Scene::set("silent sweeps").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    for number in 0..5 {
        let mut spec = full();
        spec["name"] = json!(format!("Account {number}"));
        scene.create(&format!("a{number}"), spec).await;
    }
    for number in 0..5 {
        scene.ready(&format!("a{number}")).await;
    }
    let pass = async |mark: usize, count: usize| {
        eventually("sweeps", SOON, async || {
            let statements = asked(&server, mark);
            if sweeps(&statements) >= count { Ok(()) } else { Err(scene.log()) }
        })
        .await;
    };
    // Partners log in with the same pair again and again. The first login is shown.
    let logs_in = async |second: i64| {
        by_hand(
            &database,
            &format!(
                "INSERT INTO key_uses SELECT id, created_at, created_at + {second} * 1000000 FROM account_keys \
                 ON CONFLICT (key_id) DO UPDATE SET last_used_at = excluded.last_used_at"
            ),
        )
        .await;
    };
    logs_in(1).await;
    for number in 0..5 {
        let name = format!("a{number}");
        eventually("the first login to be shown", SOON, async || {
            let status = scene.accounts().get(&name).await.map_err(|error| error.to_string())?.status;
            let is_shown = status.is_some_and(|status| status.keys.iter().all(|key| key.last_used.is_some()));
            if is_shown { Ok(()) } else { Err(scene.log()) }
        })
        .await;
    }
    // The watch events of the resource's own finalizer and status may still be on their way.
    pass(0, 3).await;
    logs_in(1800).await;
    let (mark, calls) = (server.log().len(), scene.cluster.audit(scene.namespace.name()));
    pass(mark, 4).await;
    scene.stop().await;

    let statements = asked(&server, mark);
    let is_idle = |asked: &&String| {
        // Versions, the database's identity and its history, uses of key pairs, live accounts for orphans, and deleted accounts to
        // purge. One statement each, for any number of accounts.
        asked.starts_with("SELECT owner_namespace, owner_name")
            || asked.starts_with("SELECT account.owner_namespace, account.owner_name, used.key_id")
            || asked.starts_with("SELECT id FROM database_identity")
            || asked.starts_with("SELECT system_identifier")
            || asked.starts_with(
                "SELECT id, owner_namespace, owner_name FROM accounts WHERE owner_cluster = $1 AND deleted_at <",
            )
            || asked.starts_with("BEGIN")
            || ["COMMIT", "ROLLBACK", "SELECT 1", "UNLISTEN *"].contains(&asked.as_str())
    };
    let busy: Vec<_> = statements.iter().filter(|asked| !is_idle(asked)).collect();
    assert!(busy.is_empty(), "{busy:#?}");
    if let (Some(before), Some(after)) = (calls, scene.cluster.audit(scene.namespace.name())) {
        let since: Vec<_> =
            after[before.len()..].iter().filter(|call| call.user_agent.starts_with("opsadmin/")).collect();
        assert!(since.iter().all(|call| call.verb == "watch"), "{since:#?}");
    }
}

/// Returns the number of sweeps that compared all accounts.
fn comparisons(statements: &[String]) -> usize {
    statements.iter().filter(|asked| asked.starts_with("SELECT owner_namespace, owner_name, version FROM")).count()
}

#[tokio::test]
async fn a_sweep_without_notifications_reads_only_what_changed() {
    let mut scene = Scene::set("only changes").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    for name in ["acme", "other"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    by_hand(&database, "DROP TRIGGER accounts_tell ON accounts").await;
    let sweep = async |mark: usize| {
        eventually("sweeps", SOON, async || if sweeps(&asked(&server, mark)) >= 3 { Ok(()) } else { Err(scene.log()) })
            .await;
    };
    // The first sweep compares all accounts, and so does the one after a creation.
    sweep(0).await;
    let mark = server.log().len();
    sweep(mark).await;
    let mark = server.log().len();
    by_hand(&database, "UPDATE accounts SET description = 'by hand' WHERE owner_name = 'acme'").await;
    is_told(&scene, "acme", "DriftCorrected", r#"description: "by hand" → """#).await;
    sweep(mark).await;
    let statements = asked(&server, mark);
    assert_eq!(comparisons(&statements), 0, "{statements:#?}");
    assert_eq!(looks(&statements, "other"), 0, "{statements:#?}");
    // What is gone tells nothing.
    let gone = "DELETE FROM account_keys WHERE account_id IN (SELECT id FROM accounts WHERE owner_name = 'acme'); \
                DELETE FROM accounts WHERE owner_name = 'acme'";
    by_hand(&database, gone).await;
    is_told(&scene, "acme", "Recovered", "created the account again, with the keys from its Secret").await;
    scene.stop().await;
    let statements = asked(&server, mark);
    assert!(comparisons(&statements) > 0, "{statements:#?}");
}

#[tokio::test]
async fn an_observed_account_with_an_overdue_rotation_is_not_read_more_often() {
    let mut scene = Scene::set("observed overdue").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    let rotation = |trigger| json!({ "rotation": { "interval": "1h", "overlap": "30m", "trigger": trigger } });
    scene.create("acme", rotation("first")).await;
    scene.ready("acme").await;
    scene.change("acme", rotation("second")).await;
    scene.ready("acme").await;
    scene.change("acme", json!({ "managementPolicy": "Observe" })).await;
    scene.ready("acme").await;
    // The active key pair has been due for a long time, and the previous one has expired.
    let ages_ago = "UPDATE account_keys SET created_at = 1000000, expires_at = expires_at - expires_at + 2000000";
    by_hand(&database, ages_ago).await;
    eventually("the expired pair to be told no longer", SOON, async || {
        let status = scene.accounts().get("acme").await.map_err(|error| error.to_string())?.status;
        if status.is_some_and(|status| status.keys.len() == 1) { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    let pass = async |mark: usize| {
        eventually("sweeps", SOON, async || if sweeps(&asked(&server, mark)) >= 3 { Ok(()) } else { Err(scene.log()) })
            .await;
    };
    pass(server.log().len()).await;
    let (mark, calls) = (server.log().len(), scene.cluster.audit(scene.namespace.name()));
    pass(mark).await;
    scene.stop().await;
    let statements = asked(&server, mark);
    assert_eq!(looks(&statements, "acme"), 0, "{}", statements.join("\n"));

    scene.start_on(database.url(), &SWEEPING);
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    scene.stop().await;
    if let (Some(before), Some(after)) = (calls, scene.cluster.audit(scene.namespace.name())) {
        let calls = after[before.len()..].iter().filter(|call| call.user_agent.starts_with("opsadmin/"));
        let reads: Vec<_> = calls.filter(|call| call.resource == "secrets" && call.verb == "get").collect();
        assert!(reads.is_empty(), "a Secret that was found right is not read again: {reads:#?}");
    }
}

#[tokio::test]
async fn a_recently_deleted_account_survives_sweeps_and_can_be_restored() {
    let mut scene = Scene::set("kept").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    for name in ["acme", "other"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let keys = scene.data("acme-opsadmin").await;
    scene.delete("acme").await;
    scene.no_secret("acme-opsadmin").await;
    let mark = server.log().len();
    eventually(
        "sweeps over it",
        SOON,
        async || {
            if sweeps(&asked(&server, mark)) >= 3 { Ok(()) } else { Err(scene.log()) }
        },
    )
    .await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys);
    scene.stop().await;
}

#[tokio::test]
async fn failing_sweeps_are_reported_once_and_later_sweeps_find_the_drift() {
    let mut scene = Scene::set("failing sweeps").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    // The watch event of the resource's own finalizer may still be on its way, and its reconcile would report an
    // outage.
    eventually("three sweeps", SOON, async || if sweeps(&asked(&server, 0)) >= 3 { Ok(()) } else { Err(scene.log()) })
        .await;
    by_hand(&database, "DROP TRIGGER accounts_tell ON accounts; ALTER TABLE accounts RENAME TO hidden").await;
    let (failing, told) = ("STATEMENT:  SELECT owner_namespace", "a sweep for changes by others failed");
    eventually("three sweeps to fail", SOON, async || {
        if server.log().matches(failing).count() >= 3 { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    let back = "UPDATE hidden SET description = 'by hand'; ALTER TABLE hidden RENAME TO accounts";
    by_hand(&database, back).await;
    is_told(&scene, "acme", "DriftCorrected", r#"description: "by hand" → """#).await;
    let log = scene.stop().await;
    assert_eq!(log.matches(told).count(), 1, "{log}");
}

#[tokio::test]
async fn a_sweep_that_finds_no_account_at_all_creates_none() {
    let mut scene = Scene::set("empty sweeps").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &SWEEPING);
    for name in ["acme", "other"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    // The watch event of the resource's own finalizer may still be on its way.
    eventually("three sweeps", SOON, async || if sweeps(&asked(&server, 0)) >= 3 { Ok(()) } else { Err(scene.log()) })
        .await;
    by_hand(&database, "DROP TRIGGER accounts_tell ON accounts; DELETE FROM account_keys; DELETE FROM accounts").await;
    for name in ["acme", "other"] {
        scene.condition(name, "False", "CreationHeld").await;
    }
    let mark = server.log().len();
    eventually("a sweep", SOON, async || if sweeps(&asked(&server, mark)) >= 2 { Ok(()) } else { Err(scene.log()) })
        .await;
    assert_eq!(looks(&asked(&server, mark), "acme"), 0, "who is held waits for a sweep that finds something");
    let account = scene.accounts().get("acme").await.expect("it is there").status.and_then(|status| status.account_id);
    scene.annotate("acme", json!({ "ops-admin.com/confirm-creation": account })).await;
    is_told(&scene, "acme", "Recovered", "created the account again, with the keys from its Secret").await;
    let log = scene.stop().await;
    assert_eq!(log.matches("found no account at all").count(), 1, "{log}");
}

#[tokio::test]
async fn refused_accounts_write_nothing_and_are_checked_together() {
    const REFUSED: usize = 8;
    let mut scene = Scene::set("refused together").await;
    let (server, database) = talkative().await;
    let arguments = ["--sweep-interval", "1h"];
    scene.start_on(database.url(), &arguments);
    scene.create("holder", json!({ "name": "Taken" })).await;
    scene.ready("holder").await;
    for number in 0..REFUSED {
        scene.create(&format!("name{number}"), json!({ "name": "taken" })).await;
        scene.create(&format!("affiliate{number}"), json!({ "affiliate": "Nowhere" })).await;
    }
    let all_refused = async || {
        for number in 0..REFUSED {
            scene.condition(&format!("name{number}"), "False", "NameTaken").await;
            scene.condition(&format!("affiliate{number}"), "False", "UnknownAffiliate").await;
        }
    };
    all_refused().await;
    let together = |asked: &&String| {
        asked.starts_with("SELECT name_key, id, version, owner_cluster")
            || asked.starts_with("SELECT name FROM affiliates")
    };
    let looked_for_all = async |mark: usize| {
        eventually("a look for all", SOON, async || {
            let statements = asked(&server, mark);
            if statements.iter().filter(together).count() >= 2 { Ok(()) } else { Err(scene.log()) }
        })
        .await;
    };
    // The watch event of a status may still be on its way.
    looked_for_all(server.log().len()).await;
    let mark = server.log().len();
    looked_for_all(mark).await;
    let statements = asked(&server, mark);
    let writes: Vec<_> = statements.iter().filter(|asked| asked.starts_with("INSERT")).collect();
    assert!(writes.is_empty(), "{writes:#?}");
    let alone = |kind: &str| (0..REFUSED).map(|number| looks(&statements, &format!("{kind}{number}"))).sum::<usize>();
    assert_eq!(alone("name") + alone("affiliate"), 0, "nobody asks alone: {statements:#?}");

    // A start reads each account, and tries to create none.
    scene.stop().await;
    let mark = server.log().len();
    scene.start_on(database.url(), &arguments);
    eventually("each to be looked at", SOON, async || {
        let statements = asked(&server, mark);
        let looked = |number: usize, kind: &str| looks(&statements, &format!("{kind}{number}")) > 0;
        let all = (0..REFUSED).all(|number| looked(number, "name") && looked(number, "affiliate"));
        if all { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    scene.delete("holder").await;
    by_hand(&database, "INSERT INTO affiliates (name, created_at) VALUES ('Nowhere', 0)").await;
    for number in 0..REFUSED {
        scene.ready(&format!("affiliate{number}")).await;
    }
    scene.stop().await;
    let statements = asked(&server, mark);
    let inserts = statements.iter().filter(|asked| asked.contains("INSERT INTO accounts ")).count();
    assert!(inserts <= 2 * REFUSED, "one for each that was woken: {statements:#?}");
}

#[tokio::test]
async fn an_unreadable_row_causes_a_separate_read_only_for_its_own_resource() {
    const ACCOUNTS: usize = 6;
    let mut scene = Scene::set("one unreadable").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &NEVER);
    for number in 0..ACCOUNTS {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..ACCOUNTS {
        scene.ready(&format!("a{number}")).await;
    }
    scene.stop().await;
    by_hand(&database, &format!("UPDATE accounts SET retained_at = {} WHERE owner_name = 'a0'", i64::MAX)).await;
    let mark = server.log().len();
    scene.start_on(database.url(), &NEVER);
    scene.condition("a0", "Unknown", "DatabaseUnavailable").await;
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    let log = scene.stop().await;
    assert!(log.contains("cannot be read: accounts.retained_at of "), "{log}");
    let statements = asked(&server, mark);
    let looked: Vec<_> = (1..ACCOUNTS).map(|number| looks(&statements, &format!("a{number}"))).collect();
    // The one read of all accounts serves the first reconcile of each. The first list of the Secrets may cause a second
    // reconcile.
    assert!(looked.iter().all(|looks| *looks <= 1), "the one read of all has served the others: {looked:?}");
    assert!(looks(&statements, "a0") > 0);
}

#[tokio::test]
async fn a_locked_row_causes_no_sweep() {
    let mut scene = Scene::set("locked row").await;
    let (server, database) = talkative().await;
    scene.start_on(database.url(), &NEVER);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let mut theirs = PgConnection::connect(database.url()).await.expect("it answers");
    theirs.execute("BEGIN").await.expect("it is taken");
    theirs.execute("SELECT * FROM accounts FOR UPDATE").await.expect("it is taken");
    scene.change("acme", json!({ "enabled": false })).await;
    scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    let mark = server.log().len();
    // The controller tries again more than once, and fails each time.
    eventually("two more tries", SOON, async || {
        let tries = looks(&asked(&server, mark), "acme");
        if tries >= 2 { Ok(()) } else { Err(format!("{tries}\n{}", scene.log())) }
    })
    .await;
    assert_eq!(sweeps(&asked(&server, mark)), 0, "every account was looked over for one row");
    theirs.execute("COMMIT").await.expect("it is taken");
    scene.ready("acme").await;
    scene.stop().await;
}
