//! Migrations: made once, by whoever comes first; told apart when they are not this program's.

use super::fixture::*;
use futures::future::join_all;
use opsadmin_operator::account::AccountId;
use opsadmin_operator::database::{DatabaseError, open};

const MIGRATIONS: [&str; 3] = ["0001_accounts", "0002_versions", "0003_sealing_keys"];

pub async fn migrating_twice_changes_nothing(fresh: Fresh) {
    let database = open(fresh.url()).unwrap();
    assert_eq!(database.pending_migrations().await.unwrap(), MIGRATIONS);
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

pub async fn many_migrate_at_once(fresh: Fresh) {
    let migrating = (0..6).map(|_| {
        let database = open(fresh.url()).unwrap();
        tokio::spawn(async move { database.migrate().await })
    });
    for migrated in join_all(migrating).await {
        migrated.unwrap().unwrap();
    }
    assert_eq!(fresh.count("_sqlx_migrations").await, MIGRATIONS.len().to_string());
    create(&*fresh.open().await, owner("works"), settings("works")).await;
}

pub async fn an_older_schema_is_named(fresh: Fresh) {
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
        assert!(matches!(&error, DatabaseError::OlderSchema { pending } if pending == &MIGRATIONS), "{error:?}");
        assert!(error.to_string().contains("run `opsadmin migrate`"), "{error}");
        assert!(!error.is_retryable());
    }
    database.migrate().await.unwrap();
    create(&*database, owner("x"), settings("x")).await;
}

pub async fn a_newer_schema_is_left_alone(fresh: Fresh) {
    let database = fresh.open().await;
    let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 9000, 'far future', success, checksum, execution_time FROM _sqlx_migrations LIMIT 1";
    fresh.by_hand(newer).await.unwrap();
    for error in [database.pending_migrations().await.unwrap_err(), database.migrate().await.unwrap_err()] {
        assert!(
            matches!(&error, DatabaseError::NewerSchema { migration } if migration == "9000_far_future"),
            "{error:?}"
        );
    }
}

pub async fn an_altered_migration_is_noticed(fresh: Fresh) {
    let database = fresh.open().await;
    let other = if fresh.file().is_some() { "x'00'" } else { "'\\x00'" };
    fresh.by_hand(&format!("UPDATE _sqlx_migrations SET checksum = {other}")).await.unwrap();
    for error in [database.pending_migrations().await.unwrap_err(), database.migrate().await.unwrap_err()] {
        assert!(error.to_string().contains("_sqlx_migrations.checksum of 0001_accounts"), "{error}");
    }
}
