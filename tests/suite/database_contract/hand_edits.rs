//! Rows that a user edited by hand: invalid settings are read as they are stored, and an unreadable value is reported
//! with its table, column and row.

use super::fixture::*;
use opsadmin_operator::account::changes;
use opsadmin_operator::database::DatabaseError;
use std::collections::BTreeSet;

pub async fn invalid_settings_are_read_as_stored(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("edited"), full_settings("edited")).await;
    let id = made.id;
    for sql in [
        format!("INSERT INTO account_roles (account_id, role) VALUES ('{id}', 'Superuser')"),
        format!("INSERT INTO account_allowed_ips (account_id, cidr) VALUES ('{id}', '10.0.0.0/99')"),
        format!("UPDATE accounts SET name = ' spaced\n', description = '{}' WHERE id = '{id}'", "x".repeat(5000)),
    ] {
        fresh.by_hand(&sql).await.unwrap();
    }

    let read = database.find_by_owner(&owner("edited")).await.unwrap().unwrap();

    assert_eq!(read.settings.roles, ["Customer", "PlansAndRates", "Superuser"].map(str::to_owned).into());
    assert!(read.settings.allowed_ips.contains("10.0.0.0/99"));
    assert_eq!((read.settings.name.as_str(), read.settings.description.len()), (" spaced\n", 5000));
    let put_back = database.commit(&update(&read, &full_settings("edited"))).await.unwrap();
    assert_eq!(put_back.settings, made.settings);
}

pub async fn an_empty_address_list_does_not_allow_any_address(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("lost"), full_settings("lost")).await;
    fresh.by_hand("DELETE FROM account_allowed_ips").await.unwrap();
    let read = database.find_by_owner(&owner("lost")).await.unwrap().unwrap();
    assert!(!read.settings.any_ip);
    assert_eq!(read.settings.allowed_ips, BTreeSet::new());
    assert_eq!(changes(&read.settings, &full_settings("lost")).len(), 1);
}

pub async fn an_unreadable_value_is_reported_with_its_table_column_and_row(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("broken"), settings("broken")).await;
    let (account, key) = (made.id.to_string(), made.keys[0].id.to_string());
    let api_key = made.keys[0].api_key.as_str();
    let out_of_range = i64::MAX.to_string();
    for (table, column, value, row, reason) in [
        ("account_keys", "api_key", "'opsa_pk_hush'", &key, "this is not a valid API key"),
        ("account_keys", "created_at", out_of_range.as_str(), &key, "are no time"),
        ("account_keys", "expires_at", out_of_range.as_str(), &key, "are no time"),
        ("accounts", "deleted_at", out_of_range.as_str(), &account, "are no time"),
        ("accounts", "retained_at", out_of_range.as_str(), &account, "are no time"),
    ] {
        let whole = fresh.by_hand(&format!("SELECT {column} FROM {table}")).await.unwrap().remove(0).remove(0);
        // A constraint allows `deleted_at` only for a disabled account.
        let disabled = if column == "deleted_at" { ", enabled = FALSE" } else { "" };
        fresh.by_hand(&format!("UPDATE {table} SET {column} = {value}{disabled}")).await.unwrap();

        let error = database.find_by_owner(&owner("broken")).await.unwrap_err();

        let said = error.to_string();
        assert!(matches!(error, DatabaseError::Inconsistent { .. }), "{said}");
        assert!(said.contains(&format!("{table}.{column} of {row}: ")) && said.contains(reason), "{said}");
        assert!(!said.contains("hush") && !said.contains(api_key), "{said}");
        assert!(!error.is_retryable());
        let whole = whole.map_or("NULL".to_owned(), |text| format!("'{text}'"));
        fresh.by_hand(&format!("UPDATE {table} SET {column} = {whole}")).await.unwrap();
    }
    for (table, row) in [("account_keys", "no-uuid"), ("accounts", &account.to_uppercase())] {
        fresh.by_hand("DELETE FROM account_roles").await.unwrap();
        // The keys refer to the account's id, so they are deleted before that id changes.
        if table == "accounts" {
            fresh.by_hand("DELETE FROM account_keys").await.unwrap();
        }
        fresh.by_hand(&format!("UPDATE {table} SET id = '{row}'")).await.unwrap();
        let said = database.find_by_owner(&owner("broken")).await.unwrap_err().to_string();
        assert!(said.contains(&format!("{table}.id of {row}: it is not a UUID in lower case")), "{said}");
    }
}
