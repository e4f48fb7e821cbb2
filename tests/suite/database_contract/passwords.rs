//! Password files: the file is read again for each connection, and a wrong password is reported as a refused login.

use super::fixture::*;
use crate::support::postgres::Postgres;
use crate::support::process::Folder;
use opsadmin_operator::database::{Address, DatabaseError, open};
use std::fs;
use std::path::Path;

/// A server that requires passwords, and the URL of a database on it. The URL has no password.
async fn server_with_passwords() -> (Postgres, String) {
    let server = Postgres::new().await;
    server.ask_for_scram().await;
    server.execute("postgres", "CREATE ROLE ops LOGIN PASSWORD 'first one'").await;
    server.execute("postgres", "CREATE DATABASE accounts OWNER ops").await;
    let url = format!("postgres://ops@127.0.0.1:{}/accounts", server.port());
    (server, url)
}

fn with_password_file<'a>(url: &'a str, password_file: &'a Path) -> Address<'a> {
    Address { password_file: Some(password_file), ..Address::from(url) }
}

#[tokio::test]
async fn a_password_file_is_read_again_for_each_connection() {
    let (server, url) = server_with_passwords().await;
    let folder = Folder::new("password");
    let file = folder.write("password", "first one\n");
    let database = open(with_password_file(&url, &file)).unwrap();
    database.migrate().await.unwrap();
    create(&*database, owner("one"), settings("one")).await;

    server.execute("postgres", "ALTER ROLE ops PASSWORD 'the second'").await;
    let kill = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'ops'";
    server.execute("postgres", kill).await;
    // The file may be written shortly after the password changes, so the first refusal counts as an outage.
    let first = database.list().await.unwrap_err();
    assert!(matches!(first, DatabaseError::Unavailable { .. }), "{first:?}");
    for _ in 0..2 {
        let again = database.list().await.unwrap_err();
        assert!(matches!(again, DatabaseError::LoginRefused { .. }), "{again:?}");
        assert!(again.is_retryable() && again.is_unavailable());
        let said = format!("{again} {again:?} {database:?}");
        assert!(said.contains("refuses the login") && said.contains("password authentication failed"), "{said}");
        assert!(said.contains("--database-password-file") && !said.contains("first one"), "{said}");
    }
    fs::write(&file, "the second").unwrap();
    create(&*database, owner("two"), settings("two")).await;

    // A login succeeded in between, so the next refusal counts as the first one.
    fs::write(&file, "another\r\n").unwrap();
    server.execute("postgres", kill).await;
    let first = database.list().await.unwrap_err();
    assert!(matches!(first, DatabaseError::Unavailable { .. }), "{first:?}");
    fs::remove_file(&file).unwrap();
    let missing = database.list().await.unwrap_err();
    assert!(missing.is_retryable() && missing.to_string().contains("cannot read"), "{missing}");
    fs::write(&file, "\n").unwrap();
    let empty = database.list().await.unwrap_err();
    assert!(empty.is_retryable() && empty.to_string().contains("holds no password"), "{empty}");
    fs::write(&file, "the second\r\n").unwrap();
    assert_eq!(readable(database.list().await).len(), 2);
}

#[tokio::test]
async fn a_password_file_beside_another_password_or_for_sqlite_is_refused() {
    let folder = Folder::new("password");
    let file = folder.write("password", "hush");
    for (url, reason) in [
        ("postgres://ops:hush@127.0.0.1/accounts", "a password file is given too"),
        ("sqlite://accounts.db", "a password file is for PostgreSQL"),
    ] {
        let refused = open(with_password_file(url, &file)).unwrap_err();
        assert!(refused.to_string().contains(reason) && !refused.to_string().contains("hush"), "{refused}");
    }
}
