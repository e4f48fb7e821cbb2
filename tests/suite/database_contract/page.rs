//! Checks docs/database.md, the reference for the authors of OpsAdmin's API servers: its tables are compared with the
//! database, and its SQL is run.

use super::fixture::*;
use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opsadmin_operator::account::{Account, KeyState};
use opsadmin_operator::database::Action;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;

const PAGE: &str = include_str!("../../../docs/database.md");

/// The SQL statements of the page. The key is the first sentence of the comment at the statement's beginning.
pub fn statements() -> BTreeMap<&'static str, &'static str> {
    PAGE.split("```sql\n")
        .skip(1)
        .map(|block| {
            let sql = block.split_once("```").unwrap().0;
            (sql.strip_prefix("-- ").unwrap().split_once('.').unwrap().0, sql)
        })
        .collect()
}

/// Returns a statement with its parameters replaced by values. Texts are quoted, and numbers are not.
fn filled(statement: &str, values: &[&str]) -> String {
    let mut sql = statements()[statement].split_once('\n').unwrap().1.to_owned();
    for (number, value) in values.iter().enumerate() {
        let value = if value.parse::<i64>().is_ok() { (*value).to_owned() } else { format!("'{value}'") };
        let parameter = format!("${}", number + 1);
        assert!(sql.contains(&parameter), "{statement} has no {parameter}");
        sql = sql.replace(&parameter, &value);
    }
    assert!(!sql.contains('$'), "{sql}");
    sql
}

pub async fn the_page_has_every_table_and_column(fresh: Fresh) {
    fresh.open().await;
    let mut documented = Vec::new();
    for section in PAGE.split("\n### `").skip(1) {
        let (table, section) = section.split_once('`').unwrap();
        let section = section.split("\n## ").next().unwrap();
        for row in section.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            documented.push(format!("{table}.{} {}", cells[1].trim_matches('`'), cells[2]));
        }
    }
    documented.sort();
    let query = if fresh.file().is_some() {
        // SQLite has no boolean type: it stores booleans as integers.
        for line in &mut documented {
            *line = line.replace("boolean", "bigint");
        }
        r#"SELECT t.name || '.' || c.name || ' '
             || CASE c.type WHEN 'TEXT' THEN 'text' WHEN 'INTEGER' THEN 'bigint' WHEN 'BLOB' THEN 'bytes' END
             || CASE WHEN c."notnull" OR c.pk THEN '' ELSE ' or null' END
           FROM sqlite_schema t JOIN pragma_table_info(t.name) c
           WHERE t.type = 'table' AND substr(t.name, 1, 1) <> '_' AND t.name <> 'sqlite_sequence'"#
    } else {
        r"SELECT table_name || '.' || column_name || ' ' || replace(data_type, 'bytea', 'bytes')
             || CASE is_nullable WHEN 'NO' THEN '' ELSE ' or null' END
           FROM information_schema.columns WHERE table_schema = 'public' AND left(table_name, 1) <> '_'"
    };
    let mut there = fresh.column(query).await;
    there.sort();
    assert_eq!(there, documented);
}

async fn log_in(fresh: &Fresh, account: &Account) -> Vec<Vec<Cell>> {
    let now = now().as_microsecond().to_string();
    let sql = filled("Who logs in with an API key", &[account.keys[0].api_key.as_str(), &now]);
    // SQLite and PostgreSQL return bytes as different texts, so the length is compared instead.
    fresh.by_hand(&sql.replace("k.secret_key_sealed,", "length(k.secret_key_sealed),")).await.unwrap()
}

pub async fn the_statements_of_the_page_work(fresh: Fresh) {
    let database = fresh.open().await;
    let mut wide = full_settings("page");
    wide.enabled = true;
    let account = create(&*database, owner("page"), wide.clone()).await;
    let now = now().as_microsecond().to_string();
    let id = account.id.to_string();
    let yes = |cell: &Cell| matches!(cell.as_deref(), Some("t" | "1"));

    let rows = log_in(&fresh, &account).await;
    assert_eq!(rows.len(), 2 * 3, "each role with each address");
    for row in &rows {
        assert_eq!(row[0].as_deref(), Some(id.as_str()));
        assert_eq!(row[1], Some(account.keys[0].id.to_string()));
        assert_eq!(row[2], Some(account.keys[0].sealed.bytes.len().to_string()));
        assert_eq!(row[3].as_deref(), Some(account.keys[0].sealed.sealed_with.as_str()));
        assert_eq!((yes(&row[4]), row[5].as_deref(), yes(&row[6])), (true, Some("Énergie du Nord"), false));
        assert!(account.settings.roles.contains(row[7].as_ref().unwrap()));
        assert!(account.settings.allowed_ips.contains(row[8].as_ref().unwrap()));
    }
    let bare = create(&*database, owner("bare"), settings("bare")).await;
    let row = log_in(&fresh, &bare).await.remove(0);
    assert_eq!((&row[5], yes(&row[6]), &row[7], &row[8]), (&None, true, &None, &None));

    for (expires, may) in [(-1, false), (0, false), (1, true)] {
        let mut creation = creation(owner(&expires.to_string()), settings(&format!("expires {expires}")));
        let Action::Create { key, .. } = &mut creation.action else { panic!("it creates") };
        key.state = KeyState::Retiring { expires: super::fixture::now() + jiff::SignedDuration::from_micros(expires) };
        let account = database.commit(&creation).await.unwrap();
        assert_eq!(log_in(&fresh, &account).await.is_empty(), !may, "{expires}");
    }

    fresh.by_hand(&filled("Stop an account at once", &[&id, &now])).await.unwrap();
    assert!(log_in(&fresh, &account).await.is_empty(), "it is disabled");
    assert_conflict(database.commit(&update(&account, &wide)).await);
    let stopped = database.find_by_owner(&owner("page")).await.unwrap().unwrap();
    assert_eq!((stopped.settings.enabled, stopped.version.0), (false, 2));
    let started = database.commit(&update(&stopped, &wide)).await.unwrap();
    assert_eq!(log_in(&fresh, &account).await.len(), 6);

    fresh.by_hand(&filled("Suspend an account", &[&id, &now, "unpaid"])).await.unwrap();
    assert!(log_in(&fresh, &account).await.is_empty(), "it is suspended");
    let suspended = database.find_by_owner(&owner("page")).await.unwrap().unwrap();
    assert_eq!(suspended.suspension.unwrap().reason, "unpaid");
    fresh.by_hand(&filled("End a suspension", &[&id, &now])).await.unwrap();
    assert_eq!(log_in(&fresh, &account).await.len(), 6);

    fresh.by_hand(&filled("Rename an account", &[&id, &now, "Päge Two", "päge two"])).await.unwrap();
    assert_eq!(database.find_by_name(&name("PÄGE two")).await.unwrap().unwrap().id, started.id);

    let bare_id = bare.id.to_string();
    let network = filled("Let an account be used from one network only", &[&bare_id, &now, "192.0.2.0/24"]);
    fresh.by_hand(&network).await.unwrap();
    let row = log_in(&fresh, &bare).await.remove(0);
    assert_eq!((yes(&row[6]), row[8].as_deref()), (false, Some("192.0.2.0/24")));

    fresh.by_hand(&filled("Register an affiliate", &["South", &now])).await.unwrap();
    let bare = database.find_by_owner(&owner("bare")).await.unwrap().unwrap();
    let mut southern = settings("bare");
    southern.affiliate = Some(affiliate("South"));
    let bare = database.commit(&update(&bare, &southern)).await.unwrap();
    database.commit(&deletion(&bare)).await.unwrap();
    assert!(log_in(&fresh, &bare).await.is_empty(), "it is deleted");

    fresh.by_hand(&filled("Tell the journal", &[&id, &now, "staff", "[]"])).await.unwrap();
    let history = fresh.by_hand(&filled("The history of an account", &[&id])).await.unwrap();
    let told: Vec<_> = history.iter().map(|row| (row[1].as_deref().unwrap(), row[4].as_deref().unwrap())).collect();
    assert_eq!(told, [("controller", "created"), ("controller", "updated"), ("staff", "updated")]);

    let needed = fresh.column(&filled("The keyring's keys that are still needed", &[])).await;
    assert_eq!(needed, [account.keys[0].sealed.sealed_with.clone()]);

    assert_eq!(statements().len(), 11, "each statement of the page is tried above, or in auth_server_role.rs");
}

pub async fn a_secret_key_can_be_opened_as_the_page_describes(fresh: Fresh) {
    let database = fresh.open().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("opsadmin.keyring");
    keyring().create(&file).unwrap();
    let mut creation = creation(owner("sealed"), settings("sealed"));
    let pair = pair();
    let sealed = stored(creation.account, &pair);
    let Action::Create { key, .. } = &mut creation.action else { panic!("it creates") };
    *key = sealed;
    database.commit(&creation).await.unwrap();
    let account = database.find_by_owner(&owner("sealed")).await.unwrap().unwrap();
    let stored = &account.keys[0];

    let keyring: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let entry = &keyring["keys"][0];
    let key = STANDARD.decode(entry["key"].as_str().unwrap()).unwrap();
    let first_bits = Sha256::digest(&key)[..8].try_into().map(u64::from_be_bytes).unwrap();
    let id = format!("{first_bits:016x}");
    assert_eq!((entry["id"].as_str(), stored.sealed.sealed_with.as_str()), (Some(id.as_str()), id.as_str()));
    let (nonce, ciphertext) = stored.sealed.bytes.split_first_chunk::<12>().unwrap();
    let uuid = |text: String| *uuid::Uuid::parse_str(&text).unwrap().as_bytes();
    let place = [uuid(account.id.to_string()), uuid(stored.id.to_string())].concat();
    let key = Key::<Aes256Gcm>::from(<[u8; 32]>::try_from(key).unwrap());
    let opened = Aes256Gcm::new(&key).decrypt(&Nonce::from(*nonce), Payload { msg: ciphertext, aad: &place }).unwrap();
    assert_eq!(String::from_utf8(opened).unwrap(), pair.secret_key.expose());
}
