//! A database with accounts, and an auth server on it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::partners::Partner;
use super::support::http::get;
use super::support::opsadmin::{Opsadmin, RunningController};
use super::support::postgres::Postgres;
use super::support::process::Folder;
use super::support::wait::eventually;

/// The issuer of the auth servers.
pub const ISSUER: &str = "https://auth.test";

/// The name of an auth server's process.
pub const AUTH_SERVER: &str = "opsadmin";

/// The number of accounts.
const ACCOUNTS: usize = 100;

const SOON: Duration = Duration::from_secs(30);

/// The kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    Sqlite,
    Postgres,
}

/// A database with accounts.
pub struct World {
    pub partners: Vec<Partner>,
    pub url: String,
    pub engine: Engine,
    folder: Arc<Folder>,
    // Keeps the server as long as the world exists.
    _postgres: Option<Postgres>,
}

/// A running auth server. It is killed when this value is dropped.
pub struct AuthServer {
    pub public: String,
    pub internal: String,
    process: RunningController,
}

impl World {
    pub async fn start(engine: Engine) -> Self {
        let folder = Folder::new("login");
        let (url, postgres) = match engine {
            Engine::Sqlite => (format!("sqlite://{}", folder.path().join("opsadmin.db").display()), None),
            Engine::Postgres => {
                let server = Postgres::new().await;
                (server.url("postgres"), Some(server))
            }
        };
        let mut world = Self { partners: Vec::new(), url, engine, folder, _postgres: postgres };
        let manifests: Vec<String> = (0..ACCOUNTS).map(manifest).collect();
        let manifests = world.folder.write("accounts.yaml", manifests.concat());
        let keyring = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([world.keyring()]);
        keyring.run().await.succeeded();
        let secrets = world.folder.path().join("secrets");
        let apply = Opsadmin::new()
            .args(["apply", "--database", &world.url, "--cluster-id", "bench", "--unknown-affiliate", "register"])
            .args(["-f".into(), manifests, "--keyring".into(), world.keyring()])
            .args(["--secrets".into(), secrets.clone()]);
        apply.run().await.succeeded();
        world.partners = Partner::read_all(&secrets);
        assert_eq!(world.partners.len(), ACCOUNTS);
        world
    }

    fn keyring(&self) -> PathBuf {
        self.folder.path().join("opsadmin.keyring")
    }

    /// Starts an auth server without limits for this benchmark, and waits until it is ready.
    pub async fn serve(&self) -> AuthServer {
        let call = Opsadmin::new()
            .args(["auth-server", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0", "--issuer", ISSUER])
            .args(["--database", &self.url, "--tries-per-minute", "100000000", "--token-lifetime", "1h"])
            .args(["--trusted-proxies", "127.0.0.1"])
            .args(["--keyring".into(), self.keyring()])
            // A line for each login goes to a file here, and to the container's log in production.
            .env("RUST_LOG", "info");
        let process = call.spawn();
        let [public, internal] = eventually("the auth server to listen", SOON, async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("serving logins")).ok_or_else(|| log.clone())?;
            let field = |name: &str| {
                let value = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
                value.map(str::to_owned).ok_or_else(|| line.to_owned())
            };
            Ok::<_, String>([field("address")?, field("internal_address")?])
        })
        .await;
        let server = AuthServer { public, internal, process };
        eventually("the auth server to be ready", SOON, async || {
            let answer = get(&server.internal, "/readyz").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
        server
    }
}

impl AuthServer {
    /// Returns the value of a series.
    pub async fn metric(&self, series: &str) -> u64 {
        let metrics = get(&self.internal, "/metrics").await.expect("it answers").body;
        let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_else(|| panic!("no {series} in {metrics}"))
    }

    pub async fn stop(self) {
        let (code, log) = self.process.terminate(SOON).await;
        assert_eq!(code, 0, "{log}");
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// An account with two roles, an affiliate and two networks.
fn manifest(number: usize) -> String {
    format!(
        "---\napiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata:\n  name: partner-{number}\n  namespace: partners\n\
         spec:\n  roles: [Customer, PlansAndRates]\n  affiliate: Example Affiliate\n  \
         allowedIPs: [192.0.2.0/24, 198.51.100.0/24]\n"
    )
}
