//! An account is updated, deleted, restored and retained, and the journal records each change.

use super::fixture::*;
use jiff::ToSpan;
use opsadmin_operator::account::{
    Account, Description, KeyId, KeyState, Life, Role, Settings, StoredKey, StoredSettings, Version,
};
use opsadmin_operator::database::{Action, Change};
use std::collections::BTreeSet;

type Edit = fn(&mut Settings);

pub async fn each_field_is_updated_and_journalled(fresh: Fresh) {
    let database = fresh.open().await;
    fresh.by_hand("INSERT INTO affiliates (name, created_at) VALUES ('North', 0)").await.unwrap();
    let mut settings = settings("field by field");
    let mut account = create(&*database, owner("fields"), settings.clone()).await;
    let edits: [(Edit, &str); 8] = [
        (|s| s.name = name("Renamed"), r#"[{"field":"name","new":"\"Renamed\"","old":"\"field by field\""}]"#),
        (
            |s| s.description = Description::parse("a\nb").unwrap(),
            r#"[{"field":"description","new":"\"a\\nb\"","old":"\"\""}]"#,
        ),
        (|s| s.enabled = false, r#"[{"field":"enabled","new":"false","old":"true"}]"#),
        (|s| s.use_refresh_token = true, r#"[{"field":"useRefreshToken","new":"true","old":"false"}]"#),
        (|s| s.affiliate = Some(affiliate("North")), r#"[{"field":"affiliate","new":"\"North\"","old":"none"}]"#),
        (|s| s.affiliate = None, r#"[{"field":"affiliate","new":"none","old":"\"North\""}]"#),
        (
            |s| s.roles = BTreeSet::from([Role::Administrator]),
            r#"[{"field":"roles","new":"[Administrator]","old":"[]"}]"#,
        ),
        (|s| s.allowed_ips = ips(&["192.0.2.1"]), r#"[{"field":"allowedIPs","new":"[192.0.2.1/32]","old":"any"}]"#),
    ];
    for (edit, journalled) in edits {
        edit(&mut settings);
        let expected = updated(&account, &settings);
        account = database.commit(&update(&account, &settings)).await.unwrap();
        assert_eq!(account, expected);
        assert_eq!(database.find_by_owner(&owner("fields")).await.unwrap(), Some(expected));
        let last = "SELECT action, changes FROM account_journal ORDER BY id DESC LIMIT 1";
        let last = fresh.by_hand(last).await.unwrap().remove(0);
        assert_eq!(last, [Some("updated".to_owned()), Some(journalled.to_owned())]);
    }
    assert_eq!(database.find_by_name(&name("field by field")).await.unwrap(), None);
}

pub async fn a_deleted_account_frees_its_name_and_keeps_its_keys(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("deleted"), settings("deleted")).await;

    let deleted = database.commit(&deletion(&made)).await.unwrap();

    assert_eq!(deleted.life, Life::Deleted { since: now() });
    assert!(!deleted.settings.enabled);
    assert_eq!((deleted.id, deleted.version, &deleted.keys), (made.id, Version(2), &made.keys));
    assert_eq!(database.find_by_owner(&owner("deleted")).await.unwrap(), Some(deleted));
    assert_eq!(database.find_by_name(&name("deleted")).await.unwrap(), None);
    let next = create(&*database, owner("next"), settings("DELETED")).await;
    assert_eq!(database.find_by_name(&name("deleted")).await.unwrap(), Some(next));
}

pub async fn a_restored_account_is_as_before_its_deletion(fresh: Fresh) {
    let database = fresh.open().await;
    let mut settings = full_settings("restored");
    settings.enabled = true;
    let made = create(&*database, owner("restored"), settings.clone()).await;
    let deleted = database.commit(&deletion(&made)).await.unwrap();

    let restored = database.commit(&update(&deleted, &settings)).await.unwrap();

    let mut expected = made.clone();
    expected.version = Version(3);
    assert_eq!(restored, expected);
    assert_eq!(database.find_by_name(&name("restored")).await.unwrap(), Some(restored));
}

pub async fn a_restore_with_a_taken_name_changes_nothing(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("first"), settings("wanted")).await;
    let deleted = database.commit(&deletion(&made)).await.unwrap();
    create(&*database, owner("second"), settings("Wanted")).await;
    let journal = fresh.count("account_journal").await;

    assert_name_taken(database.commit(&update(&deleted, &full_settings_without_affiliate("wanted"))).await, "wanted");

    assert_eq!(database.find_by_owner(&owner("first")).await.unwrap(), Some(deleted));
    assert_eq!(fresh.count("account_journal").await, journal);
}

fn full_settings_without_affiliate(account_name: &str) -> Settings {
    Settings { affiliate: None, ..full_settings(account_name) }
}

pub async fn a_retained_account_stays_unchanged(fresh: Fresh) {
    let database = fresh.open().await;
    let settings = full_settings("retained");
    let made = create(&*database, owner("retained"), settings.clone()).await;
    let mut retain = change(made.id, Action::Retain { expected: made.version });
    retain.at = now() + 1.second();

    let retained = database.commit(&retain).await.unwrap();

    let mut expected = made.clone();
    expected.version = Version(2);
    expected.life = Life::Retained { since: now() + 1.second() };
    assert_eq!(retained, expected);
    assert_eq!(database.find_by_name(&settings.name).await.unwrap(), Some(retained.clone()));
    assert_name_taken(database.commit(&creation(owner("other"), settings.clone())).await, "retained");

    let declared_again = database.commit(&update(&retained, &settings)).await.unwrap();
    expected.version = Version(3);
    expected.life = Life::Live;
    assert_eq!(declared_again, expected);
    let deleted = database.commit(&deletion(&declared_again)).await.unwrap();
    assert_eq!(deleted.life, Life::Deleted { since: now() });
}

pub async fn a_retiring_key_has_an_expiry(fresh: Fresh) {
    let database = fresh.open().await;
    let mut creation = creation(owner("retiring"), settings("retiring"));
    let Action::Create { key, .. } = &mut creation.action else { panic!("it creates") };
    key.state = KeyState::Retiring { expires: now() + 24.hours() };
    let key = key.clone();
    let made = database.commit(&creation).await.unwrap();
    assert_eq!(made.keys, [key]);
    assert_eq!(made.active_key(), None);

    // A newer key pair, inserted by SQL.
    let newer = stored(made.id, &pair());
    let sql = format!(
        "INSERT INTO account_keys SELECT '{}', account_id, '{}', secret_key_sealed, sealed_with, created_at + 1, NULL FROM account_keys",
        newer.id,
        newer.api_key.as_str(),
    );
    fresh.by_hand(&sql).await.unwrap();
    let read = database.find_by_owner(&owner("retiring")).await.unwrap().unwrap();
    assert_eq!(read.keys.iter().map(|key| key.id).collect::<Vec<_>>(), [newer.id, made.keys[0].id]);
    assert_eq!(read.active_key().unwrap().id, newer.id);
}

pub async fn a_lost_key_is_restored(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("lost"), full_settings("lost")).await;
    fresh.by_hand("DELETE FROM account_keys").await.unwrap();
    let keyless = database.find_by_owner(&owner("lost")).await.unwrap().unwrap();
    assert_eq!((keyless.keys.len(), keyless.version), (0, Version(2)));

    let key = StoredKey { id: KeyId::from_random(random()), ..made.keys[0].clone() };
    let restore = |expected| change(made.id, Action::RestoreKey { expected, key: key.clone() });
    assert_conflict(database.commit(&restore(made.version)).await);
    let restored = database.commit(&restore(keyless.version)).await.unwrap();

    assert_eq!(restored, Account { version: Version(3), keys: vec![key.clone()], ..made });
    let told = fresh.by_hand("SELECT action, changes FROM account_journal ORDER BY id DESC LIMIT 1").await.unwrap();
    assert_eq!(told, [[Some("restored key".to_owned()), Some("[]".to_owned())]]);
}

pub async fn the_journal_records_each_change_and_no_key(fresh: Fresh) {
    let database = fresh.open().await;
    let settings = Settings { enabled: true, ..full_settings("journal") };
    let made = create(&*database, owner("journal"), settings.clone()).await;
    let by_cli = |change: Change| Change { actor: "cli".to_owned(), generation: None, ..change };
    let deleted = database.commit(&by_cli(deletion(&made))).await.unwrap();
    let restored = database.commit(&update(&deleted, &settings)).await.unwrap();
    let retain = change(restored.id, Action::Retain { expected: restored.version });
    database.commit(&by_cli(retain)).await.unwrap();

    let rows = fresh
        .by_hand("SELECT account_id, at, actor, generation, action, changes FROM account_journal ORDER BY id")
        .await
        .unwrap();

    let id = made.id.to_string();
    let at = now().as_microsecond().to_string();
    let told: Vec<_> =
        rows.iter().map(|row| row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect::<Vec<_>>()).collect();
    let created: serde_json::Value = serde_json::from_str(told[0][5]).unwrap();
    let fields: Vec<_> = created.as_array().unwrap().iter().map(|change| change["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["name", "description", "enabled", "useRefreshToken", "affiliate", "roles", "allowedIPs"]);
    assert_eq!(told[0][..5], [&id, &at, "controller", "3", "created"]);
    let disabled = r#"[{"field":"enabled","new":"false","old":"true"}]"#;
    assert_eq!(told[1], [&id, &at, "cli", "NULL", "deleted", disabled]);
    let enabled = r#"[{"field":"enabled","new":"true","old":"false"}]"#;
    assert_eq!(told[2], [&id, &at, "controller", "3", "restored", enabled]);
    assert_eq!(told[3], [&id, &at, "cli", "NULL", "retained", "[]"]);
    assert!(!format!("{told:?}").contains("opsa_"), "{told:?}");
}

pub async fn a_change_of_a_missing_account_is_a_conflict(fresh: Fresh) {
    let database = fresh.open().await;
    let mut account = create(&*database, owner("there"), settings("there")).await;
    let there = account.clone();
    account.id = opsadmin_operator::account::AccountId::from_random(random());
    assert_conflict(database.commit(&update(&account, &settings("x"))).await);
    assert_conflict(database.commit(&deletion(&account)).await);
    assert_conflict(database.commit(&change(account.id, Action::Retain { expected: account.version })).await);
    assert_eq!(fresh.count("account_journal").await, "1");
    let read = database.find_by_owner(&owner("there")).await.unwrap().unwrap();
    assert_eq!((read.settings, read.version), (StoredSettings::from(&settings("there")), there.version));
}
