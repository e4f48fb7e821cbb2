//! Migrations: each is applied once, also by concurrent programs, and an older, newer or altered schema is detected.

use super::fixture::*;
use futures::future::join_all;
use opsadmin_operator::account::{Account, AccountId, Settings, twins};
use opsadmin_operator::database::{DatabaseError, open, open_existing, open_to_read};

pub async fn migrating_twice_changes_nothing(fresh: Fresh) {
    let database = open(fresh.url()).unwrap();
    assert_eq!(database.pending_migrations().await.unwrap(), migrations());
    database.migrate().await.unwrap();
    assert_eq!(database.pending_migrations().await.unwrap(), Vec::<String>::new());
    let made = create(&*database, owner("kept"), settings("kept")).await;
    let applied = "SELECT version, description, installed_on, checksum, execution_time FROM _sqlx_migrations";
    let applied = applied.replace("checksum", if fresh.file().is_some() { "hex(checksum)" } else { "checksum" });
    let before = fresh.by_hand(&applied).await.unwrap();

    database.migrate().await.unwrap();
    open(fresh.url()).unwrap().migrate().await.unwrap();

    assert_eq!(fresh.by_hand(&applied).await.unwrap(), before);
    assert_eq!(database.find_by_owner(&owner("kept")).await.unwrap(), Some(made));
}

pub async fn a_database_keeps_its_identity(fresh: Fresh) {
    let database = fresh.open().await;
    let identity = database.identity().await.unwrap().expect("the migrations made one");
    assert_eq!(identity.len(), 36, "{identity}");
    open(fresh.url()).unwrap().migrate().await.unwrap();
    assert_eq!(open(fresh.url()).unwrap().identity().await.unwrap().as_ref(), Some(&identity));
    assert_ne!(Fresh::sqlite().open().await.identity().await.unwrap(), Some(identity));
    assert!(fresh.by_hand("INSERT INTO database_identity (id) VALUES ('second')").await.is_err());
}

pub async fn concurrent_migrations_succeed(fresh: Fresh) {
    let migrating = (0..6).map(|_| {
        let database = open(fresh.url()).unwrap();
        tokio::spawn(async move { database.migrate().await })
    });
    for migrated in join_all(migrating).await {
        migrated.unwrap().unwrap();
    }
    assert_eq!(fresh.count("_sqlx_migrations").await, migrations().len().to_string());
    create(&*fresh.open().await, owner("works"), settings("works")).await;
}

/// An older version of the program stored two accounts whose names are the same in the present comparison. One account
/// keeps the name, and the other account can still be changed.
pub async fn names_that_look_the_same_are_equal_after_a_migration(fresh: Fresh) {
    let database = fresh.open().await;
    let made = create(&*database, owner("one"), settings("Caf\u{e9}")).await;
    create(&*database, owner("two"), settings("other")).await;
    create(&*database, owner("three"), settings("wide")).await;
    for (owner_name, name, key) in [("two", "Cafe\u{301}", "cafe\u{301}"), ("three", "\u{ff37}", "\u{ff57}")] {
        let sql = format!("UPDATE accounts SET name = '{name}', name_key = '{key}' WHERE owner_name = '{owner_name}'");
        fresh.by_hand(&sql).await.unwrap();
    }
    fresh.by_hand("DELETE FROM _sqlx_migrations WHERE version = 6").await.unwrap();
    database.migrate().await.unwrap();

    let keys = fresh.column("SELECT name_key FROM accounts ORDER BY created_at, owner_name").await;
    let mut keys: Vec<_> = keys.iter().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["cafe\u{301}", "caf\u{e9}", "w"]);
    let found = database.find_by_name(&name("CAFE\u{301}")).await.unwrap().unwrap();
    assert_eq!(found.id, made.id);
    let accounts: Vec<Account> = database.list().await.unwrap().into_iter().map(Result::unwrap).collect();
    let told: Vec<String> = twins(&accounts).iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains(&made.id.to_string()), "{told:?}");

    let twin = database.find_by_owner(&owner("two")).await.unwrap().unwrap();
    let disabled = Settings { enabled: false, ..settings("Cafe\u{301}") };
    database.commit(&update(&twin, &disabled)).await.unwrap();
    let twin = database.find_by_owner(&owner("two")).await.unwrap().unwrap();
    assert!(!twin.settings.enabled, "nothing else of it waits for its renaming");
    database.commit(&update(&twin, &settings("renamed"))).await.unwrap();
    assert_eq!(database.find_by_name(&name("renamed")).await.unwrap().unwrap().id, twin.id);
    let taken = database.commit(&creation(owner("new"), settings("CAFE\u{301}"))).await.unwrap_err();
    assert!(matches!(taken, DatabaseError::NameTaken { .. }), "{taken:?}");
}

pub async fn an_older_schema_is_reported(fresh: Fresh) {
    let database = open(fresh.url()).unwrap();
    let errors = [
        database.find_by_owner(&owner("x")).await.unwrap_err(),
        database.find_by_name(&name("x")).await.unwrap_err(),
        database.list_by_cluster(&owner("x").cluster).await.unwrap_err(),
        database.versions(&owner("x").cluster).await.unwrap_err(),
        database.commit(&creation(owner("x"), full_settings("x"))).await.unwrap_err(),
        database.sealing_keys_in_use().await.unwrap_err(),
        database.find_by_id(AccountId::from_random(random())).await.unwrap_err(),
        database.list().await.unwrap_err(),
        database.journal(AccountId::from_random(random())).await.unwrap_err(),
        database.register_affiliate(&affiliate("x"), now()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(&error, DatabaseError::OlderSchema { pending } if pending == &migrations()), "{error:?}");
        assert!(error.to_string().contains("run `opsadmin migrate`"), "{error}");
        assert!(!error.is_retryable());
    }
    database.migrate().await.unwrap();
    create(&*database, owner("x"), settings("x")).await;
}

/// A newer program's additions to the schema, which an older program need not know.
const ADDS: &str = "ALTER TABLE accounts ADD COLUMN colour TEXT; CREATE TABLE account_colours (name TEXT NOT NULL);";

pub async fn a_newer_schema_that_only_adds_is_supported(fresh: Fresh) {
    let database = fresh.open().await;
    let before = create(&*database, owner("before"), settings("before")).await;
    migrate_as_another(&fresh, usize::MAX, &[("9000_colours", ADDS)]).await;

    // A running older program continues to work, and an older program can be started.
    let made = create(&*database, owner("made"), full_settings("made")).await;
    let older = open_existing(fresh.url()).await.unwrap();
    assert_eq!(older.pending_migrations().await.unwrap(), Vec::<String>::new());
    older.migrate().await.unwrap();
    let changed = older.commit(&update(&before, &full_settings("changed"))).await.unwrap();
    for (owner, account) in [(owner("before"), changed), (owner("made"), made)] {
        assert_eq!(older.find_by_owner(&owner).await.unwrap(), Some(account));
    }
    assert_eq!(fresh.count("_sqlx_migrations").await, (migrations().len() + 1).to_string());

    let schema = older.schema().await.unwrap();
    assert_eq!((schema.newer, schema.pending), (vec!["9000_colours".to_owned()], Vec::new()));
    assert!(schema.least.unwrap() <= schema.known, "{:?} {}", schema.least, schema.known);
}

pub async fn a_newer_schema_that_needs_a_newer_program_is_refused(fresh: Fresh) {
    let database = fresh.open().await;
    let needs = format!("{ADDS} UPDATE schema_compatibility SET least_version = 9000;");
    migrate_as_another(&fresh, usize::MAX, &[("9000_colours", &needs)]).await;
    let newer_is_needed = async |least: i64| {
        let errors = [
            database.pending_migrations().await.unwrap_err(),
            database.migrate().await.unwrap_err(),
            open_existing(fresh.url()).await.unwrap_err(),
            open_to_read(fresh.url()).await.unwrap_err(),
        ];
        for error in errors {
            assert!(
                matches!(&error, DatabaseError::NewerSchema { migration, least: needed, .. }
                    if migration == "9000_colours" && *needed == least),
                "{error:?}"
            );
            assert!(!error.is_retryable());
            let said = error.to_string();
            let known = migrations().last().unwrap()[..4].to_owned();
            for part in ["(9000_colours)", &format!("migration {least:04}"), &format!("up to {known}")] {
                assert!(said.contains(part), "{part}: {said}");
            }
        }
        assert_eq!(database.schema().await.unwrap().newer, ["9000_colours"]);
    };
    newer_is_needed(9000).await;
    fresh.by_hand("UPDATE schema_compatibility SET least_version = 8000").await.unwrap();
    newer_is_needed(8000).await;
    // Without a least version in the database, an older program refuses the newer schema.
    fresh.by_hand("DELETE FROM schema_compatibility").await.unwrap();
    newer_is_needed(9000).await;
    fresh.by_hand("DROP TABLE schema_compatibility").await.unwrap();
    newer_is_needed(9000).await;
}

pub async fn an_older_schema_is_migrated(fresh: Fresh) {
    migrate_as_another(&fresh, 3, &[]).await;
    let database = open(fresh.url()).unwrap();
    let schema = database.schema().await.unwrap();
    assert_eq!((schema.least, schema.pending), (None, migrations().split_off(3)));
    database.migrate().await.unwrap();
    let schema = database.schema().await.unwrap();
    assert_eq!((schema.newer, schema.pending), (Vec::new(), Vec::new()));
    assert!(schema.least.unwrap() >= 4);
    create(&*database, owner("works"), settings("works")).await;
}

pub async fn an_altered_migration_is_detected(fresh: Fresh) {
    let database = fresh.open().await;
    let other = if fresh.file().is_some() { "x'00'" } else { "'\\x00'" };
    fresh.by_hand(&format!("UPDATE _sqlx_migrations SET checksum = {other}")).await.unwrap();
    for error in [database.pending_migrations().await.unwrap_err(), database.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("_sqlx_migrations.checksum of 0001_accounts"), "{error}");
    }
}
