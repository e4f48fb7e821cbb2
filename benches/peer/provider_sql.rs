//! crossplane's provider-sql: its program, its definitions and its objects.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kube::api::DynamicObject;
use serde_json::{Value, json};
use url::Url;

use super::support::process::{Folder, Supervised};
use super::world::World;

/// The API group and version of the objects that belong to a namespace, as ApiAccounts do.
pub const API_VERSION: &str = "postgresql.sql.m.crossplane.io/v1alpha1";

/// The Secret with the credentials of the database's administrator.
pub const ADMINISTRATOR: &str = "administrator";

/// What `benches/peer/build.sh` has built.
pub struct ProviderSql {
    pub version: String,
    folder: PathBuf,
}

impl ProviderSql {
    /// Finds what was built. Says what to do if there is nothing.
    pub fn find() -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peer/build.sh");
        let output = Command::new("sh").arg(&script).arg("find").stderr(Stdio::inherit()).output();
        let output = output.map_err(|error| format!("{} does not start: {error}", script.display()))?;
        let folder = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end());
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        match name.strip_prefix("provider-sql-").filter(|_| output.status.success()) {
            Some(version) => Ok(Self { version: version.to_owned(), folder: folder.clone() }),
            None => Err("There is no provider-sql to measure beside the controller.".to_owned()),
        }
    }

    /// Installs all its definitions, because it watches the objects of all of them.
    pub async fn install_definitions(&self, world: &World) {
        let definitions = self.folder.join("crds").display().to_string();
        world.cluster().kubectl("", &["create", "-f", &definitions]).await.succeeded();
        let wait = ["wait", "--for=condition=Established", "crd", "--all", "--timeout=50s"];
        world.cluster().kubectl("", &wait).await.succeeded();
    }

    /// Tells it the database for the Roles of this namespace.
    pub async fn configure(world: &World, namespace: &str) {
        let database = Url::parse(&world.database()).expect("it is a URL");
        let secret = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": ADMINISTRATOR},
            "stringData": {
                "username": database.username(),
                "password": database.password(),
                "endpoint": database.host_str(),
                "port": database.port().map(|port| port.to_string()),
            },
        });
        let config = json!({
            "apiVersion": API_VERSION,
            "kind": "ProviderConfig",
            "metadata": {"name": "default"},
            "spec": {
                "sslMode": "disable",
                "credentials": {
                    "source": "PostgreSQLConnectionSecret",
                    "connectionSecretRef": {"name": ADMINISTRATOR},
                },
            },
        });
        let both = json!({"apiVersion": "v1", "kind": "List", "items": [secret, config]}).to_string();
        world.cluster().kubectl_with(namespace, &["create", "-f", "-"], &both).await.succeeded();
    }

    /// Starts the program. Its process is called `provider`.
    pub fn start(&self, world: &World, arguments: &[&str]) -> Supervised {
        let mut program = Command::new(self.folder.join("provider"));
        program.args(["--metrics-bind-address", "127.0.0.1:0"]).args(arguments);
        program.env("KUBECONFIG", world.cluster().kubeconfig());
        Supervised::spawn(&Folder::new("provider-sql"), "provider", "TERM", &program)
    }
}

/// A role that may log in, as in the examples of provider-sql. It fills in each privilege that is not declared, with one
/// more write.
pub fn role(namespace: &str, number: usize, is_complete: bool) -> DynamicObject {
    let name = format!("{namespace}-{number}");
    let parameters: Value = if is_complete {
        json!({
            "connectionLimit": -1,
            "privileges": {
                "superUser": false, "inherit": true, "createDb": false, "createRole": false,
                "login": true, "replication": false, "bypassRls": false,
            },
        })
    } else {
        json!({"privileges": {"login": true}})
    };
    serde_json::from_value(json!({
        "apiVersion": API_VERSION,
        "kind": "Role",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "forProvider": parameters,
            "writeConnectionSecretToRef": {"name": name},
            "providerConfigRef": {"kind": "ProviderConfig", "name": "default"},
        },
    }))
    .expect("it is an object")
}
