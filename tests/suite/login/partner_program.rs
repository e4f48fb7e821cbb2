//! The example programs of partners, each with a library that nobody here wrote, as they run on a partner's computer.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OnceCell;

use super::scene::{Client, SOON};
use super::with_ureq::OpsAdmin;
use crate::guides::page;
use crate::support::process::Folder;
use crate::support::programs::built;
use crate::support::run::run;
use crate::support::wait::eventually;

/// Java asks for one. A certificate is no secret.
const STORE_PASSWORD: &str = "certificates";

/// A library with which a program logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    Authlib,
    RequestsOauth2client,
    OpenidClient,
    Nimbus,
    Ureq,
}

/// Where a program logs in, and what it calls.
pub struct Place {
    /// The URL of the auth server.
    pub issuer: String,
    /// The certificate of the authority that the auth server's certificate is from.
    pub authority: String,
    /// The URL of the API.
    pub api: String,
}

/// A running program with its folder, in which the Secret is mounted.
pub struct PartnerProgram {
    folder: Arc<Folder>,
    running: Running,
}

enum Running {
    Process { process: Child, paths: Option<ChildStdin>, answered: usize },
    InThisProcess(Box<OpsAdmin>),
}

impl Library {
    pub const ALL: [Self; 5] =
        [Self::Authlib, Self::RequestsOauth2client, Self::OpenidClient, Self::Nimbus, Self::Ureq];

    /// The file of the repository that has the program, and the language of its block in the guide.
    pub fn example(self) -> (&'static str, &'static str) {
        match self {
            Self::Authlib => ("examples/login/clients/with_authlib.py", "python"),
            Self::RequestsOauth2client => ("examples/login/clients/with_requests_oauth2client.py", "python"),
            Self::OpenidClient => ("examples/login/clients/with-openid-client.mjs", "js"),
            Self::Nimbus => ("examples/login/clients/WithNimbus.java", "java"),
            Self::Ureq => ("examples/login/clients/with_ureq.rs", "rust"),
        }
    }

    /// A text in what the program says when its login is refused.
    pub fn refusal(self) -> &'static str {
        match self {
            Self::RequestsOauth2client => "InvalidClient",
            Self::OpenidClient => "WWWAuthenticateChallengeError",
            Self::Nimbus => "The login failed",
            Self::Authlib | Self::Ureq => "invalid_client",
        }
    }

    /// Writes the program into the folder. If it must always renew its token, its leeway is longer than any lifetime.
    fn write(self, folder: &Folder, always_renews: bool) -> PathBuf {
        let (example, _) = self.example();
        let mut source = page(example);
        assert_eq!(source.matches("LEEWAY = 2").count(), 1, "{example}");
        if always_renews {
            source = source.replace("LEEWAY = 2", "LEEWAY = 3600");
        }
        folder.write(Path::new(example).file_name().unwrap().to_str().unwrap(), source)
    }

    /// Prepares to run the program as its first lines say.
    async fn command(self, folder: &Folder, always_renews: bool) -> Command {
        let libraries = installed().await;
        let program = self.write(folder, always_renews);
        let authority = folder.path().join("authority.pem");
        let mut command = match self {
            Self::Authlib | Self::RequestsOauth2client => {
                let mut python = Command::new("python3");
                python.env("PYTHONPATH", libraries.join("python")).env("REQUESTS_CA_BUNDLE", authority);
                python
            }
            Self::OpenidClient => {
                std::os::unix::fs::symlink(libraries.join("node_modules"), folder.path().join("node_modules")).unwrap();
                let mut node = Command::new("node");
                node.env("NODE_EXTRA_CA_CERTS", authority);
                node
            }
            Self::Nimbus => {
                let store = trust_store(folder, &authority).await;
                let mut java = Command::new("java");
                java.arg(format!("-Djavax.net.ssl.trustStore={}", store.display()));
                java.arg(format!("-Djavax.net.ssl.trustStorePassword={STORE_PASSWORD}"));
                java.arg("-cp").arg(libraries.join("jars/*"));
                java
            }
            Self::Ureq => unreachable!("it runs in this process"),
        };
        command.arg(program).current_dir(folder.path());
        command
    }
}

/// Returns the folder of the libraries.
async fn installed() -> &'static Path {
    static FOLDER: OnceCell<PathBuf> = OnceCell::const_new();
    let install = async || {
        let folder = tokio::task::spawn_blocking(|| built("clients/build.sh", &[])).await.unwrap();
        folder.unwrap_or_else(|problem| panic!("no libraries of other projects: {problem}"))
    };
    FOLDER.get_or_init(install).await
}

/// Java reads no PEM.
async fn trust_store(folder: &Folder, authority: &Path) -> PathBuf {
    let store = folder.path().join("authority.p12");
    let mut keytool = Command::new("keytool");
    keytool.args(["-importcert", "-noprompt", "-storepass", STORE_PASSWORD, "-file"]).arg(authority);
    keytool.arg("-keystore").arg(&store);
    run(keytool, "", SOON).await.succeeded();
    store
}

/// An agent that trusts this authority alone.
fn agent(authority: &str) -> ureq::Agent {
    let root = ureq::tls::Certificate::from_pem(authority.as_bytes()).unwrap();
    let provider = tokio_rustls::rustls::crypto::ring::default_provider();
    let tls = ureq::tls::TlsConfig::builder()
        .root_certs(ureq::tls::RootCerts::new_with_certs(&[root]))
        .unversioned_rustls_crypto_provider(Arc::new(provider))
        .build();
    ureq::Agent::config_builder().tls_config(tls).http_status_as_error(false).build().into()
}

impl PartnerProgram {
    /// Starts the program with the keys of this client.
    pub async fn start(library: Library, place: &Place, client: &Client, always_renews: bool) -> Self {
        let folder = Folder::new("partner");
        folder.write("authority.pem", &place.authority);
        let running = if library == Library::Ureq {
            Running::InThisProcess(Box::new(OpsAdmin {
                agent: agent(&place.authority),
                issuer: place.issuer.clone(),
                api: place.api.clone(),
                keys: folder.path().to_owned(),
                leeway: Duration::from_secs(if always_renews { 3600 } else { 2 }),
                login: None,
            }))
        } else {
            let mut command = library.command(&folder, always_renews).await;
            command.env("OPSADMIN_ISSUER", &place.issuer).env("OPSADMIN_API", &place.api);
            command.env("OPSADMIN_KEYS", folder.path()).stdin(Stdio::piped());
            let [stdout, stderr] = ["stdout", "stderr"].map(|name| File::create(folder.path().join(name)).unwrap());
            let mut process = command.stdout(stdout).stderr(stderr).spawn().unwrap();
            Running::Process { paths: process.stdin.take(), process, answered: 0 }
        };
        let started = Self { folder, running };
        started.mount(client);
        started
    }

    /// Replaces the keys, as the kubelet does after a rotation.
    pub fn mount(&self, client: &Client) {
        self.folder.write("api-key", &client.api_key);
        self.folder.write("secret-key", &client.secret_key);
    }

    /// Has the program call the API, and returns the status and the answer. The error is what the program said when it
    /// failed.
    pub async fn get(&mut self, path: &'static str) -> Result<(u16, Value), String> {
        let line = match &mut self.running {
            Running::InThisProcess(opsadmin) => {
                let answered = tokio::task::block_in_place(|| opsadmin.get(path));
                answered.map(|(status, body)| format!("{status} {body}")).map_err(|error| error.to_string())?
            }
            Running::Process { process, paths, answered } => {
                writeln!(paths.as_mut().unwrap(), "{path}").unwrap();
                *answered += 1;
                let read = |name: &str| fs::read_to_string(self.folder.path().join(name)).unwrap();
                eventually("the program to answer or to end", SOON, async || {
                    let ended = process.try_wait().unwrap();
                    let lines = read("stdout");
                    match (lines.split_inclusive('\n').nth(*answered - 1).filter(|line| line.ends_with('\n')), ended) {
                        (Some(line), _) => Ok(Ok(line.to_owned())),
                        (None, Some(status)) if status.success() => panic!("the program ended: {lines}"),
                        (None, Some(_)) => Ok(Err(lines + &read("stderr"))),
                        (None, None) => Err(lines + &read("stderr")),
                    }
                })
                .await?
            }
        };
        let (status, body) = line.trim_end().split_once(' ').unwrap_or((line.trim_end(), ""));
        Ok((
            status.parse().unwrap_or_else(|error| panic!("{error}: {line}")),
            serde_json::from_str(body).unwrap_or_default(),
        ))
    }
}

impl Drop for PartnerProgram {
    /// Ends the program by the end of its input.
    fn drop(&mut self) {
        if let Running::Process { process, paths, .. } = &mut self.running {
            *paths = None;
            if let Err(error) = process.wait() {
                eprintln!("waiting for a partner's program: {error}");
            }
        }
    }
}
