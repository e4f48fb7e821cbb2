//! Every change of an account gives it a new version, also a change by hand.

use super::fixture::*;
use opsadmin_operator::account::{Account, ClusterId, Version};
use opsadmin_operator::database::AccountAdmin;

async fn version(database: &dyn AccountAdmin, name: &str) -> Version {
    let versions = database.versions(&owner(name).cluster).await.unwrap();
    versions.into_iter().find(|(found, _)| *found == owner(name)).expect("it is listed").1
}

/// SQL edits, as a user makes them by hand, of an account's columns and of each table with rows of the account.
pub fn edits(account: &Account) -> Vec<String> {
    let id = account.id;
    let mut edits: Vec<String> = [
        "name = 'by hand'",
        "name_key = 'by hand'",
        "description = 'by hand'",
        "enabled = TRUE",
        "use_refresh_token = FALSE",
        "affiliate = NULL",
        "any_ip = TRUE",
        "owner_cluster = 'one'",
        "created_at = 1",
        "updated_at = 2",
        "retained_at = 3",
        "enabled = FALSE, deleted_at = 4",
        "name = name",
    ]
    .map(|set| format!("UPDATE accounts SET {set} WHERE id = '{id}'"))
    .into();
    edits.extend([
        format!("INSERT INTO account_roles (account_id, role) VALUES ('{id}', 'Administrator')"),
        format!("UPDATE account_roles SET role = 'Nobody' WHERE account_id = '{id}' AND role = 'Customer'"),
        format!("DELETE FROM account_roles WHERE account_id = '{id}'"),
        format!("INSERT INTO account_allowed_ips (account_id, cidr) VALUES ('{id}', '0.0.0.0/0')"),
        format!("UPDATE account_allowed_ips SET cidr = '::/0' WHERE account_id = '{id}' AND cidr = '0.0.0.0/0'"),
        format!("DELETE FROM account_allowed_ips WHERE account_id = '{id}'"),
        format!("INSERT INTO account_keys SELECT 'x', account_id, 'x', secret_key_sealed, sealed_with, 0, 0 FROM account_keys WHERE account_id = '{id}'"),
        format!("UPDATE account_keys SET expires_at = 0 WHERE account_id = '{id}'"),
        "DELETE FROM account_keys WHERE id = 'x'".to_owned(),
    ]);
    edits
}

pub async fn each_edit_by_hand_gives_a_new_version(fresh: Fresh) {
    let database = fresh.open().await;
    let account = create(&*database, owner("edited"), full_settings("edited")).await;
    let other = create(&*database, owner("other"), settings("other")).await;
    for edit in edits(&account) {
        let before = version(&*database, "edited").await;
        fresh.by_hand(&edit).await.unwrap();
        assert!(version(&*database, "edited").await > before, "{edit}");
    }
    assert_eq!(version(&*database, "other").await, other.version);
}

pub async fn an_edit_of_any_column_gives_a_new_version(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("columns"), settings("columns")).await;
    for table in ["accounts", "account_keys"] {
        let columns = match fresh.file() {
            Some(_) => format!("SELECT name FROM pragma_table_info('{table}')"),
            None => format!("SELECT column_name FROM information_schema.columns WHERE table_name = '{table}'"),
        };
        let columns = fresh.column(&columns).await;
        assert!(columns.len() > 5, "{columns:?}");
        for column in columns {
            let before = version(&*database, "columns").await;
            fresh.by_hand(&format!("UPDATE {table} SET {column} = {column}")).await.unwrap();
            assert!(version(&*database, "columns").await > before, "{table}.{column}");
        }
    }
}

pub async fn a_change_planned_before_an_edit_by_hand_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let account = create(&*database, owner("planned"), full_settings("planned")).await;
    for edit in edits(&account) {
        let observed = Account { version: version(&*database, "planned").await, ..account.clone() };
        fresh.by_hand(&edit).await.unwrap();
        assert_conflict(database.commit(&update(&observed, &full_settings("planned"))).await);
        assert_conflict(database.commit(&deletion(&observed)).await);
    }
}

pub async fn edits_in_one_transaction_give_a_new_version(fresh: Fresh) {
    let database = fresh.open().await;
    let account = create(&*database, owner("several"), full_settings("several")).await;
    let several: Vec<String> = edits(&account).into_iter().filter(|edit| !edit.contains("account_keys")).collect();
    fresh.by_hand(&format!("BEGIN; {}; COMMIT", several.join("; "))).await.unwrap();
    let after = version(&*database, "several").await;
    // SQLite counts each edit. PostgreSQL counts edits of roles and addresses with the edit of the account's row.
    assert!(after > account.version);
    fresh.by_hand(&format!("BEGIN; {}; ROLLBACK", several[several.len() - 1])).await.unwrap();
    assert_eq!(version(&*database, "several").await, after, "what was rolled back never was");
    let put_back = database.find_by_owner(&owner("several")).await.unwrap().unwrap();
    let put_back = database.commit(&update(&put_back, &full_settings("several"))).await.unwrap();
    assert_eq!(put_back.version.0, after.0 + 1, "a change of the program's is one version, however many rows");
}

pub async fn a_row_moved_to_another_account_gives_both_a_new_version(fresh: Fresh) {
    let database = fresh.open().await;
    let from = create(&*database, owner("from"), full_settings("from")).await;
    let to = create(&*database, owner("to"), settings("to")).await;
    for (table, one) in [("account_roles", "role = 'Customer'"), ("account_allowed_ips", "cidr = '10.0.0.0/8'")] {
        let (before_from, before_to) = (version(&*database, "from").await, version(&*database, "to").await);
        let moved = format!("UPDATE {table} SET account_id = '{}' WHERE account_id = '{}' AND {one}", to.id, from.id);
        fresh.by_hand(&moved).await.unwrap();
        assert!(version(&*database, "from").await > before_from, "{table}");
        assert!(version(&*database, "to").await > before_to, "{table}");
    }
}

pub async fn an_edit_by_hand_may_set_the_version(fresh: Fresh) {
    let database = fresh.open().await;
    create(&*database, owner("given"), settings("given")).await;
    fresh.by_hand("UPDATE accounts SET enabled = FALSE, version = version + 1").await.unwrap();
    assert_eq!(version(&*database, "given").await, Version(2));
    fresh.by_hand("UPDATE accounts SET version = 40").await.unwrap();
    assert_eq!(version(&*database, "given").await, Version(40));
}

pub async fn versions_of_one_cluster_are_listed_also_of_unreadable_accounts(fresh: Fresh) {
    let database = fresh.open().await;
    let mut made = Vec::new();
    for number in 0..4 {
        made.push(create(&*database, owner(&number.to_string()), full_settings(&number.to_string())).await);
    }
    made[0] = database.commit(&deletion(&made[0])).await.unwrap();
    made[1] = database.commit(&update(&made[1], &settings("renamed"))).await.unwrap();
    create(&*database, owner_in("two", "elsewhere"), settings("elsewhere")).await;
    let unowned = create(&*database, owner("unowned"), settings("unowned")).await;
    let nobody = "owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL";
    fresh.by_hand(&format!("UPDATE accounts SET {nobody} WHERE id = '{}'", unowned.id)).await.unwrap();
    fresh
        .by_hand(&format!("UPDATE account_keys SET api_key = 'unreadable' WHERE account_id = '{}'", made[2].id))
        .await
        .unwrap();
    made[2].version.0 += 1;

    let mut versions = database.versions(&owner("0").cluster).await.unwrap();

    versions.sort();
    let expected: Vec<_> = made.iter().map(|account| (account.owner.clone().unwrap(), account.version)).collect();
    assert_eq!(versions, expected);
    assert_eq!(database.versions(&ClusterId::parse("three").unwrap()).await.unwrap(), []);
}
