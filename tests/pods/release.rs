//! Releases of the chart for production: PostgreSQL as a pod, a keyring that the hook creates, and two replicas.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::ListParams;
use opsadmin_operator::api::ApiAccount;
use serde_json::json;
use sqlx::AssertSqlSafe;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::OnceCell;
use url::Url;

use crate::apart::NODE_ADDRESS;
use crate::database::Database;
use crate::support::helm::chart;
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::trial::tried;
use crate::world::{CONTROLLERS, IMAGE, World, once, repository, world};

/// The password of the auth servers' database role.
const AUTH_SERVERS_PASSWORD: &str = "only-for-tests";

/// What distinguishes a release from the others.
pub struct Installation {
    pub name: &'static str,
    /// The namespace of the operator and of its database.
    pub namespace: &'static str,
    /// The namespaces with accounts. Each belongs to one release.
    pub watched: &'static [&'static str],
    /// Whether this release owns the CustomResourceDefinition.
    pub has_definition: bool,
    /// Whether this release runs auth servers.
    pub has_auth_server: bool,
}

/// The release that serves the partners.
const PRODUCTION: Installation = Installation {
    name: "opsadmin",
    namespace: "opsadmin-system",
    watched: &["steady", "logged", "partners-staging", "leaving", "logging-in"],
    has_definition: true,
    has_auth_server: true,
};

/// Returns the release that serves the partners. Nothing disturbs it but the tests in `operator.rs`.
pub async fn production() -> &'static Release {
    static RELEASE: OnceCell<Option<Release>> = OnceCell::const_new();
    once(&RELEASE, Release::create(&PRODUCTION).boxed_local()).await
}

/// A release, with its database and a copy of its keyring.
pub struct Release {
    pub world: &'static World,
    pub installation: &'static Installation,
    pub database: Database,
    keyring: PathBuf,
    _folder: Arc<Folder>,
}

impl Release {
    /// Creates the namespaces and the database, and installs the release.
    pub async fn create(installation: &'static Installation) -> Self {
        let world = world().await;
        for namespace in installation.watched.iter().chain([&installation.namespace]) {
            world.create_namespace(namespace).await;
        }
        let (database, ()) = tokio::join!(Database::start(world, installation.namespace), ready_for(installation));
        let url = format!("--from-literal=url={}", database.url());
        let create = ["create", "secret", "generic", "opsadmin-database", &url];
        world.cluster.kubectl(installation.namespace, &create).await.succeeded();
        let folder = Folder::new("keyring");
        let release =
            Self { world, installation, database, keyring: folder.path().join("opsadmin.keyring"), _folder: folder };
        if installation.has_auth_server {
            release.create_role_of_auth_servers().await;
        }
        release.install().await;
        let secret = release.keyring_secret().await;
        let keyring = secret.data.and_then(|mut data| data.remove("keyring")).expect("the hook has created it");
        fs::write(&release.keyring, keyring.0).expect("it can be written");
        // The program warns if other users may read it.
        fs::set_permissions(&release.keyring, Permissions::from_mode(0o600)).expect("it is our file");
        release
    }

    /// Installs the release with Helm, and waits until it is rolled out.
    pub async fn install(&self) {
        self.helm(&["install", self.installation.name, &chart(), "--values=-"]).await;
        self.rolled_out().await;
    }

    /// Upgrades the release, with some more values than at the installation, and waits until it is rolled out.
    pub async fn upgrade(&self, extra: &[&str]) {
        let upgrade = ["upgrade", self.installation.name, &chart(), "--reset-values", "--values=-"];
        self.helm(&[&upgrade[..], extra].concat()).await;
        self.rolled_out().await;
    }

    /// Rolls the release back to the revision before, and waits until it is rolled out.
    pub async fn roll_back(&self) {
        self.helm(&["rollback", self.installation.name]).await;
        self.rolled_out().await;
    }

    /// Uninstalls the release, and waits until its pods are gone.
    pub async fn uninstall(&self) {
        self.helm(&["uninstall", self.installation.name]).await;
        self.world.controllers_gone(self.installation.namespace).await;
    }

    async fn helm(&self, arguments: &[&str]) {
        let values = json!({
            "image": { "repository": IMAGE },
            "watchNamespaces": self.installation.watched,
            "crds": { "enabled": self.installation.has_definition },
            "database": { "type": "postgresql", "postgresql": { "existingSecret": "opsadmin-database" } },
            "keyring": { "create": true },
            "networkPolicy": { "enabled": true },
            "service": { "enabled": true },
            "authServer": {
                "enabled": self.installation.has_auth_server,
                "issuer": self.issuer(),
                // The proxies are on the node.
                "internalNetworks": [format!("{NODE_ADDRESS}/32")],
                "database": { "existingSecret": "opsadmin-auth-database" },
                "networkPolicy": { "internalFrom": [{ "ipBlock": { "cidr": format!("{NODE_ADDRESS}/32") } }] },
            },
        });
        let arguments = [arguments, &["--namespace", self.installation.namespace]].concat();
        let said = self.world.helm.run_with(&arguments, &values.to_string()).await;
        assert!(said.status.success(), "{said:?}\n{}", self.world.state(self.installation.namespace).await);
    }

    /// Waits until the operator is rolled out.
    pub async fn rolled_out(&self) {
        self.world.rolled_out(self.installation.namespace, &self.full_name()).await;
    }

    /// Returns the name of the Deployment and of the Lease.
    pub fn full_name(&self) -> String {
        format!("{}-opsadmin-operator", self.installation.name)
    }

    /// Creates the database role of the auth servers, with the rights in docs/database.md, and the Secret with its URL.
    async fn create_role_of_auth_servers(&self) {
        self.opsadmin(&["migrate"]).run().await.succeeded();
        let page = fs::read_to_string(repository("docs/database.md")).expect("the page is there");
        let (_, grants) = page.split_once("-- The rights of an auth server.").expect("the page has the rights");
        let (grants, _) = grants.split_once("```").expect("the statements end");
        let role = format!("CREATE ROLE opsadmin_auth LOGIN PASSWORD '{AUTH_SERVERS_PASSWORD}'; {grants}");
        sqlx::raw_sql(AssertSqlSafe(role)).execute(&self.sql().await).await.expect("the role is new");
        let mut url = Url::parse(self.database.url()).expect("the database has a URL");
        url.set_username("opsadmin_auth").expect("the URL has a host");
        url.set_password(Some(AUTH_SERVERS_PASSWORD)).expect("the URL has a host");
        let url = format!("--from-literal=url={url}");
        let create = ["create", "secret", "generic", "opsadmin-auth-database", &url];
        self.world.cluster.kubectl(self.installation.namespace, &create).await.succeeded();
    }

    /// Returns the name of the auth servers' Deployment and of their Service for partners.
    pub fn auth_server(&self) -> String {
        format!("{}-auth-server", self.full_name())
    }

    /// Returns the URL of the auth servers for partners.
    pub fn issuer(&self) -> String {
        format!("http://{}:8088", self.auth_server())
    }

    /// Returns the address of a Service of the release.
    pub async fn service(&self, name: &str) -> String {
        let address = ["get", "service", name, "-o", "jsonpath={.spec.clusterIP}"];
        self.world.cluster.kubectl(self.installation.namespace, &address).await.succeeded()
    }

    /// Returns the Secret that the hook has created.
    pub async fn keyring_secret(&self) -> Secret {
        let secrets: Api<Secret> = Api::namespaced(self.world.client.clone(), self.installation.namespace);
        let name = format!("{}-keyring", self.full_name());
        secrets.get(&name).await.unwrap_or_else(|error| panic!("the Secret {name}: {error}"))
    }

    /// Returns the operator's pods that are not being deleted.
    pub async fn pods(&self) -> Vec<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.world.client.clone(), self.installation.namespace);
        let pods = pods.list(&ListParams::default().labels(CONTROLLERS)).await.expect("the API server answers");
        pods.items.into_iter().filter(|pod| pod.metadata.deletion_timestamp.is_none()).collect()
    }

    /// Returns the identity of the leader: the name of its pod, `_`, and a part that each process has for itself. Empty
    /// if nobody leads.
    pub async fn leader(&self) -> String {
        let leases: Api<Lease> = Api::namespaced(self.world.client.clone(), self.installation.namespace);
        let lease = leases.get(&self.full_name()).await.expect("the operator has created it");
        lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default()
    }

    /// Returns the last lines of the operator's log.
    pub async fn log(&self) -> String {
        self.world.controllers_log(self.installation.namespace).await
    }

    /// Creates a call of the command line from outside the cluster, with the same database.
    pub fn opsadmin(&self, arguments: &[&str]) -> Opsadmin {
        Opsadmin::new().args(arguments).env("OPSADMIN_DATABASE_URL", self.database.url())
    }

    /// Creates such a call with the keyring.
    pub fn opsadmin_with_keyring(&self, arguments: &[&str]) -> Opsadmin {
        self.opsadmin(arguments).env("OPSADMIN_KEYRING", &self.keyring)
    }

    /// Opens connections to the database for a test.
    pub async fn sql(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(2).connect(self.database.url()).await;
        pool.expect("the test database answers")
    }

    /// Returns the API for the accounts of a namespace.
    pub fn accounts(&self, namespace: &str) -> Api<ApiAccount> {
        assert!(
            self.installation.watched.contains(&namespace),
            "{} does not watch {namespace}",
            self.installation.name
        );
        Api::namespaced(self.world.client.clone(), namespace)
    }
}

/// Waits for what must be there before the release: the definition, if another release owns it, and the end of the trial,
/// which watches every namespace.
async fn ready_for(installation: &Installation) {
    if installation.has_definition {
        tried().await;
    } else {
        production().boxed_local().await;
    }
}
