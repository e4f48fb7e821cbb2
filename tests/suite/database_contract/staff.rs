//! The changes that OpsAdmin staff make to an account: suspend, resume and rotate.

use super::fixture::*;
use jiff::ToSpan;
use opsadmin_operator::account::{Account, Suspension, SuspensionReason, Version};
use opsadmin_operator::database::{AccountAdmin, Action, Change};

fn reason(text: &str) -> SuspensionReason {
    SuspensionReason::parse(text).unwrap()
}

fn suspension(account: &Account, text: &str) -> Change {
    let action = Action::Suspend { expected: account.version, reason: reason(text) };
    Change { actor: "cli:somebody".to_owned(), generation: None, ..change(account.id, action) }
}

fn resumption(account: &Account) -> Change {
    change(account.id, Action::Resume { expected: account.version })
}

pub async fn a_suspension_with_a_new_reason_keeps_its_beginning(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("stopped"), full_settings("stopped")).await;
    let suspended = database.commit(&suspension(&made, "unpaid; '\"{}")).await.unwrap();
    let since = now();
    let first = Suspension { since, reason: "unpaid; '\"{}".to_owned() };
    assert_eq!(suspended, Account { version: Version(2), suspension: Some(first), ..made.clone() });

    let mut again = suspension(&suspended, "still unpaid");
    again.at = now() + 1.hour();
    let renewed = database.commit(&again).await.unwrap();
    let second = Suspension { since, reason: "still unpaid".to_owned() };
    assert_eq!(renewed, Account { version: Version(3), suspension: Some(second), ..made.clone() });

    let resumed = database.commit(&resumption(&renewed)).await.unwrap();
    assert_eq!(resumed, Account { version: Version(4), ..made.clone() });
    assert_eq!(database.find_by_id(made.id).await.unwrap(), Some(resumed));

    let told =
        fresh.by_hand("SELECT actor, generation, action, changes FROM account_journal ORDER BY id").await.unwrap();
    let told: Vec<Vec<&str>> =
        told[1..].iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect()).collect();
    let first = r#"[{"field":"suspension","new":"\"unpaid; '\\\"{}\"","old":"none"}]"#;
    let second = r#"[{"field":"suspension","new":"\"still unpaid\"","old":"\"unpaid; '\\\"{}\""}]"#;
    let third = r#"[{"field":"suspension","new":"none","old":"\"still unpaid\""}]"#;
    assert_eq!(
        told,
        [
            ["cli:somebody", "NULL", "suspended", first],
            ["cli:somebody", "NULL", "suspended", second],
            ["controller", "3", "resumed", third],
        ]
    );
    let at = fresh.column("SELECT updated_at FROM accounts").await;
    assert_eq!(at, [now().as_microsecond().to_string()]);
}

pub async fn a_suspension_of_an_old_version_is_a_conflict(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("raced"), settings("raced")).await;
    let suspended = database.commit(&suspension(&made, "first")).await.unwrap();
    let journal = fresh.count("account_journal").await;
    assert_conflict(database.commit(&suspension(&made, "second")).await);
    assert_conflict(database.commit(&resumption(&made)).await);
    assert_eq!(database.find_by_id(made.id).await.unwrap(), Some(suspended));
    assert_eq!(fresh.count("account_journal").await, journal);
}

pub async fn a_suspension_survives_deletion_and_restoration(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("outlived"), settings("outlived")).await;
    let suspended = database.commit(&suspension(&made, "unpaid")).await.unwrap();
    let deleted = database.commit(&deletion(&suspended)).await.unwrap();
    let restored = database.commit(&update(&deleted, &settings("outlived"))).await.unwrap();
    assert_eq!(restored.suspension, suspended.suspension);
    let gone = database.commit(&deletion(&restored)).await.unwrap();
    assert_eq!(database.commit(&resumption(&gone)).await.unwrap().suspension, None);
}

pub async fn a_rotation_records_each_key_pair_that_it_ends(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("told"), settings("told")).await;
    let rotated = rotate(&*database, &made, Some(24), vec![]).await;
    let leaked = rotate(&*database, &rotated, None, vec![made.keys[0].id]).await;
    assert_eq!(leaked.keys.len(), 1);
    let changes = fresh.column("SELECT changes FROM account_journal ORDER BY id DESC LIMIT 1").await.remove(0);
    let expected = format!(
        r#"[{{"field":"keys","new":"{}","old":"{}"}},{{"field":"keys","new":"","old":"{}"}}]"#,
        leaked.keys[0].id, rotated.keys[0].id, made.keys[0].id
    );
    assert_eq!(changes, expected);
}

async fn rotate(
    database: &dyn AccountAdmin,
    account: &Account,
    overlap: Option<i64>,
    revoke: Vec<opsadmin_operator::account::KeyId>,
) -> Account {
    let mut key = stored(account.id, &pair());
    key.created = now() + i64::try_from(account.keys.len()).unwrap().hours();
    let old_expires = overlap.map(|hours| now() + hours.hours());
    let (expected, answered) = (account.version, account.answered_requests.clone());
    database.commit(&change(account.id, Action::Rotate { expected, key, old_expires, revoke, answered })).await.unwrap()
}
