//! The count of recent deletions, the purge of deleted accounts, and the removal of old journal entries.

use super::fixture::*;
use jiff::{Timestamp, ToSpan};
use opsadmin_operator::account::Account;
use opsadmin_operator::database::{AccountAdmin, AccountDatabase as _, Action, Change, Deletions, DryRunDatabase};
use std::sync::Arc;

fn deleted_at(account: &Account, at: Timestamp, confirmed: bool) -> Change {
    let mut deletion = change(account.id, Action::Delete { expected: account.version, confirmed });
    deletion.at = at;
    deletion
}

async fn delete(database: &dyn AccountAdmin, account: &Account, at: Timestamp, confirmed: bool) -> Account {
    database.commit(&deleted_at(account, at, confirmed)).await.unwrap()
}

pub async fn recent_unconfirmed_deletions_are_counted(fresh: Fresh) {
    let database = fresh.open().await;
    let (here, since) = (owner("any").cluster, now());
    let count = async |database: &dyn AccountAdmin| database.deletions(&here, since).await.unwrap();
    assert_eq!(count(&*database).await, Deletions::default());
    let mut made = Vec::new();
    for name in ["live", "at once", "before", "confirmed", "retained", "also live"] {
        made.push(create(&*database, owner(name), settings(name)).await);
    }
    let elsewhere = create(&*database, owner_in("two", "elsewhere"), settings("elsewhere")).await;
    delete(&*database, &elsewhere, since, false).await;
    let gone = delete(&*database, &made[1], since, false).await;
    delete(&*database, &made[2], since - 1.microsecond(), false).await;
    let confirmed = delete(&*database, &made[3], since + 1.hour(), true).await;
    database.commit(&change(made[4].id, Action::Retain { expected: made[4].version })).await.unwrap();
    assert_eq!(count(&*database).await, Deletions { live: 2, deleted: 1 });

    let dry_run = DryRunDatabase::new(Some(Arc::clone(&database) as _));
    dry_run.commit(&deleted_at(&made[0], since, false)).await.unwrap();
    assert_eq!(dry_run.deletions(&here, since).await.unwrap(), Deletions { live: 1, deleted: 2 });
    assert_eq!(count(&*database).await, Deletions { live: 2, deleted: 1 });

    // A restored account counts only as live, and the confirmation of its deletion does not apply to a later deletion.
    database.commit(&update(&gone, &settings("at once"))).await.unwrap();
    assert_eq!(count(&*database).await, Deletions { live: 3, deleted: 0 });
    let back = database.commit(&update(&confirmed, &settings("confirmed"))).await.unwrap();
    delete(&*database, &back, since, false).await;
    assert_eq!(count(&*database).await, Deletions { live: 3, deleted: 1 });
}

pub async fn an_account_that_cannot_be_purged_does_not_stop_the_purge(fresh: Fresh) {
    let database = fresh.open().await;
    let cluster = owner("any").cluster;
    let theirs = "CREATE TABLE invoices (account_id TEXT NOT NULL REFERENCES accounts (id));";
    fresh.by_hand(theirs).await.unwrap();
    for number in 0..70 {
        let name = format!("gone-{number}");
        let gone = create(&*database, owner(&name), settings(&name)).await;
        delete(&*database, &gone, now() + i64::from(number).microseconds(), false).await;
        if [0, 33, 34, 69].contains(&number) {
            fresh.by_hand(&format!("INSERT INTO invoices VALUES ('{}')", gone.id)).await.unwrap();
        }
    }
    let later = now() + 1.hour();
    let purged = database.purge(&cluster, &|_| false, later, later).await.unwrap();
    assert_eq!(purged.accounts, 66);
    let names: Vec<_> = purged.refused.iter().map(|refused| refused.owner.name.as_str()).collect();
    assert_eq!(names, ["gone-0", "gone-33", "gone-34", "gone-69"]);
    for refused in &purged.refused {
        let whole = database.find_by_owner(&refused.owner).await.unwrap().unwrap();
        assert_eq!((whole.id.to_string(), whole.keys.len()), (refused.account.clone(), 1));
        assert!(refused.reason.to_lowercase().contains("foreign key"), "{}", refused.reason);
    }
    let left = database.purge(&cluster, &|owner| owner.name != "gone-33", later, later).await.unwrap();
    assert_eq!((left.accounts, left.refused.len()), (0, 1));

    fresh.by_hand("DELETE FROM invoices").await.unwrap();
    let purged = database.purge(&cluster, &|_| false, later, later).await.unwrap();
    assert_eq!((purged.accounts, purged.refused.len()), (4, 0));
}

pub async fn trimming_the_journal_keeps_the_first_and_the_last_entries(fresh: Fresh) {
    let database = fresh.open().await;
    assert_eq!(database.trim_journal(now()).await.unwrap(), 0, "there is nothing yet");
    let step = async |account: &Account, minutes: i64| {
        let mut update = update(account, &full_settings_of(account, minutes));
        update.at = now() + minutes.minutes();
        database.commit(&update).await.unwrap()
    };
    let mut busy = create(&*database, owner("busy"), settings("busy")).await;
    let mut quiet = database.commit(&import(settings("quiet"))).await.unwrap();
    for minutes in 1..=20 {
        busy = step(&busy, minutes).await;
        if minutes <= 3 {
            quiet = step(&quiet, minutes).await;
        }
    }
    let told = async |account: &Account| -> Vec<i64> {
        let entries = database.journal(account.id).await.unwrap();
        entries.iter().map(|entry| (entry.at.as_second() - now().as_second()) / 60).collect()
    };
    assert_eq!(database.trim_journal(now() + 5.minutes()).await.unwrap(), 4);
    assert_eq!(told(&busy).await, [0].into_iter().chain(5..=20).collect::<Vec<_>>(), "of what is old, its beginning");
    assert_eq!(database.trim_journal(now() + 1.hour()).await.unwrap(), 6);
    assert_eq!(told(&busy).await, [0].into_iter().chain(11..=20).collect::<Vec<_>>(), "and the last ten");
    assert_eq!(told(&quiet).await, [0, 1, 2, 3]);
    assert_eq!(database.trim_journal(now() + 1.hour()).await.unwrap(), 0);
}

/// Settings that differ for each two successive numbers.
fn full_settings_of(account: &Account, number: i64) -> opsadmin_operator::account::Settings {
    let mut settings = settings(&account.settings.name);
    settings.use_refresh_token = number % 2 == 1;
    settings
}
