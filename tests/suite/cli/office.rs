//! Where somebody who looks after accounts sits: a database with accounts in it, and what was used to make them.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::database_contract::fixture::Fresh;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::run::Finished;

pub struct Office {
    pub database: Fresh,
    folder: Arc<Folder>,
}

impl Office {
    /// On an SQLite file, without an account.
    pub async fn sqlite() -> Self {
        Self::on(Fresh::sqlite()).await
    }

    /// On PostgreSQL, without an account.
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

    /// Has accounts made by their resources' names and specs.
    pub async fn apply(&self, accounts: &[(&str, Value)]) -> String {
        let call = self.call_with_keyring(&["apply", "-f", "-", "--unknown-affiliate", "register"]);
        call.args(["--secrets"]).args([self.secrets()]).stdin(list(accounts)).run().await.succeeded()
    }

    /// What would be done for these.
    pub async fn plan(&self, accounts: &[(&str, Value)], extra: &[&str]) -> Value {
        let call = self.call_with_keyring(&["plan", "-f", "-", "-o", "json"]).args(extra);
        let finished = call.args(["--secrets"]).args([self.secrets()]).stdin(list(accounts)).run().await;
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    pub fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    /// What the Secret of this name holds.
    pub fn secret(&self, name: &str) -> String {
        let file = self.folder.path().join(format!("secrets/partners.{name}.yaml"));
        fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    }

    /// A call with this database.
    pub fn call(&self, arguments: &[&str]) -> Opsadmin {
        Opsadmin::new().args(arguments).args(["--database", self.database.url()])
    }

    /// The same with the keyring.
    pub fn call_with_keyring(&self, arguments: &[&str]) -> Opsadmin {
        self.call(arguments).args(["--keyring"]).args([self.keyring()])
    }

    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.call(arguments).run().await
    }

    /// What a command prints as JSON.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let finished = self.call(arguments).args(["-o", "json"]).run().await;
        serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
    }

    /// What somebody does by hand.
    pub async fn by_hand(&self, sql: &str) {
        self.database.by_hand(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }
}

/// Manifests of accounts, by their resources' names and specs.
fn list(accounts: &[(&str, Value)]) -> String {
    let items: Vec<Value> = accounts
        .iter()
        .map(|(name, spec)| {
            let metadata = json!({ "name": name, "namespace": "partners" });
            json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": metadata, "spec": spec })
        })
        .collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items }).to_string();
    // JSON takes characters as they are that YAML does not.
    let is_escaped = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}');
    list.chars().map(|c| if is_escaped(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

/// It failed, and said this.
#[track_caller]
pub fn refused(finished: &Finished, code: i32, said: &str) {
    assert_eq!(finished.status.code(), Some(code), "{finished:?}");
    assert!(finished.stderr.contains(said), "{said:?} in {finished:?}");
}
