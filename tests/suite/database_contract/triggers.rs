//! Triggers that change what the program writes: the database returns the stored values, and it refuses a change if the
//! stored account would have wider access than requested.

use super::fixture::*;
use opsadmin_operator::account::{Account, StoredSettings, SuspensionReason};
use opsadmin_operator::database::{Action, DatabaseError};

/// Creates a trigger that sets a column of each account that is written. The PostgreSQL trigger changes the row before
/// it is stored. An SQLite trigger cannot, so it updates the row within the same statement.
async fn rewrite(fresh: &Fresh, column: &str, value: &str) {
    let trigger = if fresh.file().is_some() {
        let written = |event: &str| {
            format!(
                "CREATE TRIGGER theirs_{event} AFTER {event} ON accounts WHEN NEW.{column} IS NOT {value} \
                 BEGIN UPDATE accounts SET {column} = {value} WHERE id = NEW.id; END;"
            )
        };
        format!("{} {}", written("INSERT"), written("UPDATE"))
    } else {
        format!(
            "CREATE FUNCTION theirs() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.{column} := {value}; RETURN NEW; END $$; \
             CREATE TRIGGER theirs BEFORE INSERT OR UPDATE ON accounts FOR EACH ROW EXECUTE FUNCTION theirs();"
        )
    };
    fresh.by_hand(&trigger).await.unwrap();
}

#[track_caller]
fn assert_not_kept(answer: Result<Account, DatabaseError>, told: &str) {
    let error = answer.unwrap_err();
    assert!(matches!(error, DatabaseError::NotStored { .. }) && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(told), "{error}");
}

pub async fn a_change_that_a_trigger_widens_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("acme"), full_settings("acme")).await;
    rewrite(&fresh, "use_refresh_token", "FALSE").await;
    let mut enabled = full_settings("acme");
    enabled.enabled = true;
    let told = "useRefreshToken: wanted true, stored false";
    let journal = fresh.count("account_journal").await;
    assert_not_kept(database.commit(&update(&made, &enabled)).await, told);
    assert_not_kept(
        database
            .commit(&creation(owner("other"), {
                let mut other = enabled.clone();
                other.name = name("other");
                other
            }))
            .await,
        told,
    );
    assert_eq!(database.find_by_owner(&owner("acme")).await.unwrap(), Some(made));
    assert_eq!(database.find_by_owner(&owner("other")).await.unwrap(), None);
    assert_eq!(fresh.count("account_journal").await, journal);
}

pub async fn other_changes_of_a_trigger_are_returned_as_stored(fresh: Fresh) {
    let database = fresh.open().await;
    rewrite(&fresh, "description", "'theirs'").await;
    let settings = settings("acme");
    let made = create(&*database, owner("acme"), settings.clone()).await;
    assert_eq!(made.settings.description, "theirs");
    let mut disabled = settings.clone();
    disabled.enabled = false;
    let updated = database.commit(&update(&made, &disabled)).await.unwrap();
    let stored = StoredSettings { description: "theirs".to_owned(), ..StoredSettings::from(&disabled) };
    assert_eq!(updated.settings, stored, "access ends, whatever becomes of the description");
    let suspend = Action::Suspend { expected: updated.version, reason: SuspensionReason::parse("unpaid").unwrap() };
    assert!(database.commit(&change(made.id, suspend)).await.unwrap().suspension.is_some());
}

pub async fn a_change_that_a_trigger_undoes_leaves_no_trace(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("acme"), settings("acme")).await;
    rewrite(&fresh, "enabled", "TRUE").await;
    let mut disabled = settings("acme");
    disabled.enabled = false;
    let journal = fresh.count("account_journal").await;
    for _ in 0..3 {
        assert_not_kept(database.commit(&update(&made, &disabled)).await, "enabled: wanted false, stored true");
    }
    assert_eq!(database.find_by_owner(&owner("acme")).await.unwrap(), Some(made));
    assert_eq!(fresh.count("account_journal").await, journal);
}
