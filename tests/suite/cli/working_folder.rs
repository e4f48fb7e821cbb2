//! The working folder of a platform team, with manifests, Secrets and an SQLite database.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::run::Finished;

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart");

/// A working folder with manifests, Secrets and an SQLite database in it.
pub struct WorkingFolder {
    folder: Arc<Folder>,
    pub database: String,
}

impl WorkingFolder {
    /// Creates a working folder without manifests.
    pub fn new() -> Self {
        let folder = Folder::new("desk");
        fs::create_dir(folder.path().join("accounts")).expect("a new folder");
        let database = format!("sqlite://{}", folder.path().join("opsadmin.db").display());
        Self { folder, database }
    }

    /// Creates a working folder with the manifests of the quick start.
    pub fn with_quickstart() -> Self {
        let desk = Self::new();
        for entry in fs::read_dir(QUICKSTART).expect("the examples are there") {
            let file = entry.expect("it can be listed").path();
            fs::copy(&file, desk.path("accounts").join(file.file_name().expect("a name"))).expect("it can be copied");
        }
        desk
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.path("accounts").join(name), text).expect("it can be written");
    }

    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path("accounts").join(name)).expect("it is there");
    }

    pub fn edit(&self, name: &str, from: &str, to: &str) {
        let file = self.path("accounts").join(name);
        let text = fs::read_to_string(&file).expect("it can be read");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("it can be written");
    }

    pub async fn apply(&self, extra: &[&str]) -> Finished {
        let call = Opsadmin::new().args(["apply", "--database", &self.database, "-f"]).args([self.path("accounts")]);
        call.args(["--secrets"]).args([self.path("secrets")]).args(extra).run().await
    }

    /// Returns every file of the folder with its bytes, except the manifests.
    pub fn written(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in [self.folder.path().to_owned(), self.path("secrets")] {
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries {
                let path = entry.expect("it can be listed").path();
                if path.is_file() {
                    files.insert(path.clone(), fs::read(&path).expect("it can be read"));
                }
            }
        }
        files
    }

    pub fn secret(&self, name: &str) -> BTreeMap<String, String> {
        read_secret(&self.path("secrets").join(format!("default.{name}.yaml")))
    }

    /// Returns the data of each Secret, by file.
    pub fn secrets(&self) -> BTreeMap<PathBuf, BTreeMap<String, String>> {
        let files = self.written().into_keys().filter(|path| path.starts_with(self.path("secrets")));
        files.map(|path| (path.clone(), read_secret(&path))).collect()
    }

    pub async fn sql(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.path("opsadmin.db")).read_only(true);
        SqlitePool::connect_with(options).await.expect("the database is there")
    }
}

fn read_secret(file: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let secret: Secret = serde_saphyr::from_str(&text).expect("it is a Secret");
    let data = secret.data.into_iter().flatten();
    data.map(|(key, value)| (key, String::from_utf8(value.0).expect("it is text"))).collect()
}

pub fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

pub fn account(name: &str, spec: &str) -> String {
    format!("apiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata:\n  name: {name}\nspec: {spec}\n")
}
