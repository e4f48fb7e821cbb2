//! The working place of OpsAdmin staff: a database with accounts, and the keyring and Secrets that belong to it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::database_contract::fixture::Fresh;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::run::Finished;

pub struct StaffDatabase {
    pub database: Fresh,
    folder: Arc<Folder>,
}

impl StaffDatabase {
    /// Creates an office with an SQLite database without accounts.
    pub async fn sqlite() -> Self {
        Self::on(Fresh::sqlite()).await
    }

    /// Creates an office with a PostgreSQL database without accounts.
    pub async fn postgres(test_name: &str) -> Self {
        Self::on(Fresh::postgres(test_name).await).await
    }

    async fn on(database: Fresh) -> Self {
        let office = Self { database, folder: Folder::new("office") };
        let init = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([office.keyring()]);
        init.run().await.succeeded();
        Opsadmin::new().args(["migrate", "--database", office.database.url()]).run().await.succeeded();
        office
    }

    pub fn keyring(&self) -> PathBuf {
        self.folder.path().join("opsadmin.keyring")
    }

    /// Applies accounts, given as the names and specs of their resources. Returns what the command printed.
    pub async fn apply(&self, accounts: &[(&str, Value)]) -> String {
        let call = self.call_with_keyring(&["apply", "-f", "-", "--unknown-affiliate", "register"]);
        call.args(["--secrets"]).args([self.secrets()]).stdin(list(accounts)).run().await.succeeded()
    }

    /// Returns the plan for these accounts.
    pub async fn plan(&self, accounts: &[(&str, Value)], extra: &[&str]) -> Value {
        let call = self.call_with_keyring(&["plan", "-f", "-", "-o", "json"]).args(extra);
        let finished = call.args(["--secrets"]).args([self.secrets()]).stdin(list(accounts)).run().await;
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    pub fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    /// Returns the text of the file of the Secret that has this name.
    pub fn secret(&self, name: &str) -> String {
        let file = self.folder.path().join(format!("secrets/partners.{name}.yaml"));
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// Returns a call of the program with this database.
    pub fn call(&self, arguments: &[&str]) -> Opsadmin {
        Opsadmin::new().args(arguments).args(["--database", self.database.url()])
    }

    /// Returns a call of the program with this database and its keyring.
    pub fn call_with_keyring(&self, arguments: &[&str]) -> Opsadmin {
        self.call(arguments).args(["--keyring"]).args([self.keyring()])
    }

    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.call(arguments).run().await
    }

    /// Runs a command, and returns what it prints as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.call(arguments).args(["-o", "json"]).run().await;
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    /// Runs SQL, as a user does by hand.
    pub async fn by_hand(&self, sql: &str) {
        self.database.by_hand(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Returns the manifests of accounts, given as the names and specs of their resources.
fn list(accounts: &[(&str, Value)]) -> String {
    let items: Vec<Value> = accounts
        .iter()
        .map(|(name, spec)| {
            let metadata = json!({ "name": name, "namespace": "partners" });
            json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": metadata, "spec": spec })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    // JSON allows some unescaped characters that YAML forbids.
    let is_escaped = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    list.chars().map(|c| if is_escaped(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// Checks that a command failed with this exit code and this text on standard error.
#[track_caller]
pub fn refused(finished: &Finished, code: i32, said: &str) {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert!(finished.stderr.contains(said), "{said:?} in {finished:?}");
}
