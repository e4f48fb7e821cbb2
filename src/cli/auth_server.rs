//! `opsadmin auth-server`: lets accounts log in, and lets proxies ask what they may do.

use super::database::{DatabaseArgs, KeyringArgs};
use super::environment::SystemEnvironment;
use super::retention::at_least_a_second;
use super::stop::stopped;
use crate::account::AllowedIp;
use crate::auth_server::{AttemptLimits, CallerToken, Issuer, Listening, Networks, Settings, run};
use crate::database::{DatabaseError, Keyring, WithLogins};
use crate::http::{Listen, Purpose, Tls, TlsFiles};
use crate::login::{Lifetimes, PathTable, TrustedProxies};
use crate::telemetry::logs::{self, LogFormat};
use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use jiff::SignedDuration;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

/// The endpoint groups without `--paths`.
const PATHS: &str = include_str!("../../examples/login/paths.yaml");

const PUBLIC: Purpose = Purpose { serves: "logins", option: "--listen" };
const INTERNAL: Purpose = Purpose { serves: "proxies", option: "--internal-listen" };

/// Let accounts log in, and tell proxies which requests may pass, until stopped.
///
/// A client logs in at /token of the public listener: it signs an assertion with its secret key, which it never sends, and
/// gets an access token. The proxy in front of the API asks the internal listener about each request: /authz/nginx,
/// /authz/forward (Caddy, Traefik) or /authz/envoy. On SIGTERM or Ctrl-C it answers what it has begun; a second signal
/// ends it at once.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin auth-server --database sqlite://opsadmin.db\n  opsadmin auth-server --listen :8088 --internal-listen :8089 \\\n    --issuer https://auth.example.com \\\n    --trusted-proxies 10.0.0.0/8 --internal-networks 10.0.0.0/8 \\\n    --database postgres://opsadmin_auth@db.example.com/opsadmin \\\n    --keyring opsadmin.keyring"
)]
pub struct AuthServer {
    /// The address for partners: /token, /revoke and /.well-known/oauth-authorization-server. Port 0: any free port, which
    /// is logged.
    #[arg(long, value_name = "ADDRESS", env = "OPSADMIN_AUTH_LISTEN", default_value = "127.0.0.1:8088", value_parser = Listen::parse)]
    listen: Listen,

    /// The address for proxies and monitoring: /authz, /introspect, /metrics, /livez and /readyz.
    #[arg(long, value_name = "ADDRESS", env = "OPSADMIN_AUTH_INTERNAL_LISTEN", default_value = "127.0.0.1:8089", value_parser = Listen::parse)]
    internal_listen: Listen,

    /// The networks from which the internal listener takes requests, separated by commas. Only /livez and /readyz answer
    /// everybody.
    #[arg(long, value_name = "CIDR", env = "OPSADMIN_AUTH_INTERNAL_NETWORKS", value_delimiter = ',', default_value = "127.0.0.0/8,::1", value_parser = network)]
    internal_networks: Vec<AllowedIp>,

    /// The URL at which clients reach this server. Assertions must be made for it. Default: the URL of --listen.
    #[arg(long, value_name = "URL", env = "OPSADMIN_AUTH_ISSUER", value_parser = Issuer::parse)]
    issuer: Option<Issuer>,

    /// The file that says which methods and paths of the API belong to which endpoint group. Default: /my-account, /plans
    /// and /enrollments, and everything below them.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_AUTH_PATHS")]
    paths: Option<PathBuf>,

    /// The networks of your own proxies, separated by commas: their word about a client's address counts. List them as
    /// narrowly as you can. Default: none.
    #[arg(long, value_name = "CIDR", env = "OPSADMIN_AUTH_TRUSTED_PROXIES", value_delimiter = ',', value_parser = network)]
    trusted_proxies: Vec<AllowedIp>,

    /// How long an access token works for an account with useRefreshToken: true.
    #[arg(long, value_name = "TIME", env = "OPSADMIN_AUTH_SHORT_TOKEN_LIFETIME", default_value = "10s", value_parser = at_least_a_second)]
    short_token_lifetime: Duration,

    /// How long an access token works for other accounts.
    #[arg(long, value_name = "TIME", env = "OPSADMIN_AUTH_TOKEN_LIFETIME", default_value = "5m", value_parser = at_least_a_second)]
    token_lifetime: Duration,

    /// The time after which a client must log in again, however often it refreshed.
    #[arg(long, value_name = "TIME", env = "OPSADMIN_AUTH_LOGIN_LIFETIME", default_value = "1d", value_parser = at_least_a_second)]
    login_lifetime: Duration,

    /// The most requests at /token and /revoke from one address in a minute. More get 429.
    #[arg(long, value_name = "NUMBER", env = "OPSADMIN_AUTH_TRIES_PER_MINUTE", default_value = "3000", value_parser = clap::value_parser!(u32).range(1..))]
    tries_per_minute: u32,

    /// The most failed logins with one API key from one address in a minute. More get 429.
    #[arg(long, value_name = "NUMBER", env = "OPSADMIN_AUTH_FAILURES_PER_MINUTE", default_value = "20", value_parser = clap::value_parser!(u32).range(1..))]
    failures_per_minute: u32,

    /// The file with the token with which programs call /introspect, at least 32 characters. Default: nobody may call it.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_AUTH_INTROSPECTION_TOKEN_FILE")]
    introspection_token_file: Option<PathBuf>,

    /// The file with the certificate of the public listener, in PEM. A renewed file is used without a restart.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_AUTH_TLS_CERTIFICATE")]
    tls_certificate: Option<PathBuf>,

    /// The file with the certificate's private key, in PEM.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_AUTH_TLS_KEY")]
    tls_key: Option<PathBuf>,

    /// Serve the internal listener by TLS too, with the same certificate.
    #[arg(long, env = "OPSADMIN_AUTH_INTERNAL_TLS")]
    internal_tls: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    /// How to write log lines.
    #[arg(long, value_name = "FORMAT", env = "OPSADMIN_AUTH_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,

    /// A file with a filter for log lines, as in `RUST_LOG`. Changes apply within seconds, without a restart.
    #[arg(long, value_name = "FILE", env = "OPSADMIN_AUTH_LOG_FILTER_FILE")]
    log_filter_file: Option<PathBuf>,
}

impl AuthServer {
    /// Runs the auth server until a signal.
    pub async fn run(mut self) -> Result<ExitCode> {
        logs::start(self.log_format, self.log_filter_file.take())?;
        // Before everything else: as process 1 of a container, the program receives only signals that it has a handler
        // for.
        let mut stop = std::pin::pin!(stopped()?);
        let database = self.database.open_with_logins()?;
        let keyring = tokio::select! {
            keyring = self.load_keyring(&database) => keyring?,
            () = &mut stop => return Ok(ExitCode::SUCCESS),
        };
        let tls = self.tls()?;
        let public = bind(self.listen, PUBLIC).await?;
        let internal = bind(self.internal_listen, INTERNAL).await?;
        let (address, internal_address) = (public.local_addr()?, internal.local_addr()?);
        let issuer = self.issuer(address)?;
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"), %address, %internal_address, %issuer, tls = tls.is_some(),
            "serving logins"
        );
        let internal = Listening { listener: internal, tls: tls.clone().filter(|_| self.internal_tls) };
        let settings = self.settings(database, keyring, issuer)?;
        run(settings, Listening { listener: public, tls }, internal, stop).await?;
        tracing::info!("stopped");
        Ok(ExitCode::SUCCESS)
    }

    /// Loads the keyring, which exists, and checks it and the tables if the database answers.
    async fn load_keyring(&self, database: &WithLogins) -> Result<Keyring> {
        let keyring = Keyring::load(&self.keyring.path(&self.database)?)?;
        let checked = async {
            let pending = database.accounts.pending_migrations().await?;
            if !pending.is_empty() {
                return Err(DatabaseError::OlderSchema { pending });
            }
            database.accounts.sealing_keys_in_use().await
        };
        match checked.await {
            Ok(in_use) => keyring.check(&in_use)?,
            Err(error) if error.is_unavailable() => {
                tracing::warn!("requests that need the account database are not answered: {error}");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(keyring)
    }

    fn tls(&self) -> Result<Option<Arc<Tls>>> {
        match (&self.tls_certificate, &self.tls_key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(Tls::load(TlsFiles { certificate: certificate.clone(), key: key.clone() })?))
            }
            (None, None) if self.internal_tls => bail!("--internal-tls needs --tls-certificate and --tls-key"),
            (None, None) => Ok(None),
            _ => bail!("--tls-certificate and --tls-key belong together: give both, or neither"),
        }
    }

    /// Returns the issuer. Without an option, it is the URL of the listener, which must be one address then.
    fn issuer(&self, address: SocketAddr) -> Result<Issuer> {
        if let Some(issuer) = &self.issuer {
            return Ok(issuer.clone());
        }
        if address.ip().is_unspecified() {
            bail!(
                "--listen {} has no address that clients could use; give the URL at which they reach this server as --issuer",
                self.listen
            );
        }
        let scheme = if self.tls_certificate.is_some() { "https" } else { "http" };
        Issuer::parse(&format!("{scheme}://{address}"))
            .map_err(|reason| anyhow!("the URL of --listen is no issuer: {reason}"))
    }

    fn settings(self, database: WithLogins, keyring: Keyring, issuer: Issuer) -> Result<Settings> {
        let feed = if self.database.is_sqlite() { None } else { Some(self.database.open_feed()?) };
        let paths = match &self.paths {
            None => PathTable::parse(PATHS)?,
            Some(file) => {
                let shown = file.display();
                let text =
                    std::fs::read_to_string(file).with_context(|| format!("cannot read {shown}; correct --paths"))?;
                PathTable::parse(&text).with_context(|| format!("{shown} is no table of paths"))?
            }
        };
        let introspection = match &self.introspection_token_file {
            None => None,
            Some(file) => {
                let shown = file.display();
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {shown}; correct --introspection-token-file"))?;
                Some(CallerToken::parse(&text).map_err(|reason| anyhow!("{shown} has no token: {reason}"))?)
            }
        };
        Ok(Settings {
            keyring_file: self.keyring.file(&self.database)?.0,
            database,
            feed,
            keyring,
            environment: Arc::new(SystemEnvironment),
            issuer,
            paths,
            proxies: TrustedProxies::new(self.trusted_proxies),
            internal: Networks(self.internal_networks),
            introspection,
            lifetimes: Lifetimes {
                token: lifetime(self.token_lifetime)?,
                short_token: lifetime(self.short_token_lifetime)?,
                family: lifetime(self.login_lifetime)?,
            },
            limits: AttemptLimits { tries: self.tries_per_minute, failures: self.failures_per_minute },
        })
    }
}

async fn bind(listen: Listen, purpose: Purpose) -> Result<TcpListener> {
    match listen.bind(purpose).await? {
        Some(listener) => Ok(listener),
        None => bail!("{} cannot be off: an auth server needs both listeners", purpose.option),
    }
}

fn lifetime(time: Duration) -> Result<SignedDuration> {
    SignedDuration::try_from(time).context("a lifetime is too long")
}

/// Reads a network in canonical form, or one address.
pub fn network(text: &str) -> Result<AllowedIp, String> {
    AllowedIp::parse(text.trim()).map_err(|error| error.to_string())
}
