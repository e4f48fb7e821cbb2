//! Databases that cannot be reached, refuse access, or are not what the URL says: each failure has its own error.

use super::fixture::*;
use crate::support::ports::free_port;
use crate::support::postgres::{Postgres, postgres};
use crate::support::wait::eventually;
use opsadmin_operator::database::{AccountAdmin, DatabaseError, open, open_existing};
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection as _, Executor as _};
use std::fs::{self, File, Permissions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

const SOON: Duration = Duration::from_mins(1);

/// Returns all text of the error, and checks that it does not contain the password.
fn text_of(error: &DatabaseError, database: Option<&Arc<dyn AccountAdmin>>) -> String {
    let said = format!("{error} {error:?} {database:?}");
    assert!(!said.contains("hush"), "{said}");
    said
}

async fn unavailable(url: &str, reasons: &[&str]) {
    let database = open(url).unwrap();
    let error = database.find_by_owner(&owner("x")).await.unwrap_err();
    let said = text_of(&error, Some(&database));
    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{said}");
    assert!(error.is_retryable());
    for reason in reasons {
        assert!(said.contains(reason), "{reason}: {said}");
    }
}

#[tokio::test]
async fn a_missing_server_is_unavailable() {
    let port = free_port();
    let reason = format!("127.0.0.1:{port}/accounts as ops");
    unavailable(&format!("postgres://ops:hush@127.0.0.1:{port}/accounts"), &[&reason, "Connection refused"]).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_unavailable() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    unavailable(&format!("postgres://ops:hush@127.0.0.1:{port}/accounts"), &["no connection"]).await;
}

#[tokio::test]
async fn the_error_of_another_server_does_not_show_the_drivers_source() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = other.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for call in other.incoming() {
            let mut call = call.unwrap();
            call.read_exact(&mut [0; 8]).unwrap();
            call.write_all(&[0]).unwrap();
        }
    });
    let database = open(&format!("postgres://ops:hush@127.0.0.1:{port}/accounts")).unwrap();
    let error = database.find_by_owner(&owner("x")).await.unwrap_err();
    let said = text_of(&error, None);
    let reason =
        "accounts as ops: it does not answer as a PostgreSQL server does: unexpected response from SSLRequest: 0x00";
    assert!(said.contains(reason) && !said.contains("sqlx"), "{said}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_wrong_password_or_database_is_unavailable_and_retried() {
    let url = postgres().await.url("missing");
    unavailable(&url, &[r#"database "missing" does not exist"#]).await;
    let (login, server) = url.rsplit_once('@').unwrap();
    let (user, _) = login.rsplit_once(':').unwrap();
    unavailable(&format!("{user}:hush@{server}"), &["password authentication failed"]).await;
}

#[tokio::test]
async fn a_change_without_permission_is_refused() {
    let fresh = Fresh::postgres("permissions").await;
    let database = fresh.open().await;
    let role = format!("reader_{}", u64::from_be_bytes(random()));
    let grant =
        format!("CREATE ROLE {role} LOGIN PASSWORD 'hush'; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    fresh.by_hand(&grant).await.unwrap();
    let (_, server) = fresh.url().rsplit_once('@').unwrap();
    let reader = open(&format!("postgres://{role}:hush@{server}")).unwrap();

    let found = reader.find_by_owner(&owner("x")).await;
    let refused = reader.commit(&creation(owner("x"), settings("x"))).await;

    reader.close().await;
    fresh.by_hand(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    assert_eq!(found.unwrap(), None);
    let error = refused.unwrap_err();
    assert!(text_of(&error, Some(&reader)).contains("permission denied for table accounts"), "{error}");
    assert!(matches!(error, DatabaseError::Refused { .. }) && !error.is_retryable());
    assert_eq!(database.find_by_owner(&owner("x")).await.unwrap(), None);
}

#[tokio::test]
async fn a_standby_is_unavailable_for_writes() {
    let fresh = Fresh::postgres("standby").await;
    let database = fresh.open().await;
    // With this setting, a primary refuses writes with the same error as a standby.
    let name = fresh.url().rsplit_once('/').unwrap().1;
    let read_only = format!(r#"ALTER DATABASE "{name}" SET default_transaction_read_only = on"#);
    fresh.by_hand(&read_only).await.unwrap();
    drop(database);
    unavailable_for_writing(&open(fresh.url()).unwrap()).await;
}

async fn unavailable_for_writing(database: &Arc<dyn AccountAdmin>) {
    let error = database.commit(&creation(owner("x"), settings("x"))).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
}

#[tokio::test]
async fn the_pool_uses_a_restarted_server_again() {
    let mut server = Postgres::new().await;
    let database = open(&server.url("postgres")).unwrap();
    database.migrate().await.unwrap();
    let made = create(&*database, owner("before"), settings("before")).await;

    for crash in [false, true] {
        if crash {
            server.crash().await;
        } else {
            server.stop().await;
        }
        let down = creation(owner("down"), settings("down"));
        let before = owner("before");
        let (read, written, migrated) =
            tokio::join!(database.find_by_owner(&before), database.commit(&down), database.migrate());
        for error in [read.unwrap_err(), written.unwrap_err(), migrated.unwrap_err()] {
            assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
        }
        server.start().await;
        let found =
            eventually("the account to be read again", SOON, async || database.find_by_owner(&owner("before")).await)
                .await;
        assert_eq!(found, Some(made.clone()));
    }
    create(&*database, owner("after"), settings("after")).await;
    assert_eq!(database.find_by_owner(&owner("down")).await.unwrap(), None);
}

#[tokio::test]
async fn lost_idle_connections_are_replaced_before_use() {
    let fresh = Fresh::postgres("idle").await;
    let database = fresh.open().await;
    let others = "SELECT count(pg_terminate_backend(pid, 10000)) FROM pg_stat_activity \
                  WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name = 'opsadmin'";
    assert_ne!(fresh.column(others).await, ["0"]);
    create(&*database, owner("survives"), settings("survives")).await;
}

#[tokio::test]
async fn a_database_with_another_encoding_is_refused_and_not_changed() {
    let server = Postgres::new().await;
    let mut admin = PgConnection::connect(&server.url("postgres")).await.unwrap();
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    sqlx::query(create).execute(&mut admin).await.unwrap();
    let database = open(&server.url("latin")).unwrap();
    let refused = database.migrate().await.unwrap_err();
    assert!(matches!(refused, DatabaseError::Refused { .. }), "{refused:?}");
    assert!(refused.to_string().contains("the encoding of this database is LATIN1, and it must be UTF8"), "{refused}");
    assert_eq!(database.pending_migrations().await.unwrap(), migrations());
}

#[tokio::test]
async fn no_url_error_shows_a_password() {
    for url in
        ["postgres://ops:hush@host:port/d", "mysql://ops:hush@host/d", "ops:hush@host", "postgres://o:hu#hush@h/d"]
    {
        let error = open(url).unwrap_err();
        assert!(matches!(error, DatabaseError::Url { .. }), "{}", text_of(&error, None));
        text_of(&error, None);
    }
}

#[tokio::test]
async fn only_the_owner_may_access_new_database_files() {
    let fresh = Fresh::sqlite();
    let database = fresh.open().await;
    create(&*database, owner("private"), settings("private")).await;
    let file = fresh.file().unwrap();
    let names = ["accounts.db", "accounts.db-shm", "accounts.db-wal"];
    for name in names {
        let mode = fs::metadata(file.with_file_name(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let mut beside: Vec<_> = fs::read_dir(file.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    beside.sort();
    assert_eq!(beside, names);
    database.close().await;
    assert!(!file.with_file_name("accounts.db-wal").exists(), "the file alone is the database");
}

#[tokio::test]
async fn reading_and_migrating_again_change_no_byte() {
    let fresh = Fresh::sqlite();
    let database = fresh.open().await;
    let made = create(&*database, owner("still"), full_settings("still")).await;
    database.close().await;
    let file = fresh.file().unwrap();
    let (bytes, modified) = (fs::read(&file).unwrap(), fs::metadata(&file).unwrap().modified().unwrap());

    let database = fresh.open().await;
    assert_eq!(database.pending_migrations().await.unwrap(), Vec::<String>::new());
    assert_eq!(database.find_by_owner(&owner("still")).await.unwrap(), Some(made));
    assert_conflict(database.commit(&creation(owner("still"), settings("other"))).await);
    database.close().await;

    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), modified);
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("sqlite://{}", folder.path().join(name).display());
    let refusal = |name: &str| {
        let error = open(&at(name)).unwrap_err();
        assert!(matches!(error, DatabaseError::File { .. }) && !error.is_retryable(), "{error:?}");
        error.to_string()
    };
    assert!(refusal("missing/accounts.db").ends_with("make the folder first"));
    assert!(refusal("").ends_with("it is a folder"));

    fs::write(folder.path().join("locked.db"), "").unwrap();
    fs::set_permissions(folder.path().join("locked.db"), Permissions::from_mode(0o400)).unwrap();
    // File modes do not restrict root.
    match File::options().write(true).open(folder.path().join("locked.db")) {
        Ok(_) => assert!(open(&at("locked.db")).is_ok()),
        Err(_) => assert!(refusal("locked.db").contains("must be able to read and write it")),
    }

    fs::write(folder.path().join("text.db"), "this is a text and no database, whatever its name says".repeat(90))
        .unwrap();
    let error = open(&at("text.db")).unwrap().find_by_owner(&owner("x")).await.unwrap_err();
    assert!(matches!(error, DatabaseError::Refused { .. }), "{error:?}");
    assert!(error.to_string().ends_with("text.db: file is not a database"), "{error}");
}

#[tokio::test]
async fn opening_an_existing_database_neither_creates_nor_changes_it() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}", folder.path().join("none.db").display());
    let error = open_existing(&missing).await.unwrap_err();
    assert!(matches!(error, DatabaseError::File { .. }) && !error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains("there is no such file, and this command makes none"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);

    let fresh = Fresh::sqlite();
    let database = fresh.open().await;
    let made = create(&*database, owner("seen"), settings("seen")).await;
    let seen = open_existing(fresh.url()).await.unwrap();
    assert_eq!(readable(seen.list().await), std::slice::from_ref(&made), "beside a program that has it open");
    seen.close().await;
    database.close().await;
    let file = fresh.file().unwrap();
    let bytes = fs::read(&file).unwrap();
    let seen = open_existing(fresh.url()).await.unwrap();
    assert_eq!(readable(seen.list().await), [made]);
    seen.close().await;
    assert!(fs::read(&file).unwrap() == bytes);
    assert_eq!(fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[tokio::test]
async fn a_locked_file_is_unavailable() {
    let fresh = Fresh::sqlite();
    let database = fresh.open().await;
    let made = create(&*database, owner("held"), settings("held")).await;
    let mut holder = SqliteConnection::connect(fresh.url()).await.unwrap();
    holder.execute("BEGIN IMMEDIATE").await.unwrap();

    assert_eq!(database.find_by_owner(&owner("held")).await.unwrap(), Some(made.clone()));
    let error = database.commit(&update(&made, &settings("changed"))).await.unwrap_err();

    assert!(matches!(error, DatabaseError::Unavailable { .. }), "{error:?}");
    assert!(error.to_string().contains("accounts.db: database is locked"), "{error}");
    holder.close().await.unwrap();
    database.commit(&update(&made, &settings("changed"))).await.unwrap();
}
