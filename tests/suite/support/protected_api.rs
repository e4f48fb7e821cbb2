//! The example API behind a real proxy, which has the configuration of the guide.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;

use super::http::{Answer, exchange};
use super::ports::free_port;
use super::process::{Folder, Supervised};
use super::programs::built;
use super::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

/// The folder of the repository.
const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

/// A program that lets requests through if the auth server says yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proxy {
    Nginx,
    Caddy,
    Envoy,
}

/// The example API, and the proxy in front of it. Both end when this value is dropped.
pub struct ProtectedApi {
    address: String,
    api: Supervised,
    proxy: Supervised,
}

impl Proxy {
    /// The file of the repository that configures it.
    pub fn example(self) -> &'static str {
        match self {
            Self::Nginx => "examples/login/nginx.conf",
            Self::Caddy => "examples/login/Caddyfile",
            Self::Envoy => "examples/login/envoy.yaml",
        }
    }

    /// The status with which it refuses a request if the auth server cannot be reached.
    pub fn status_without_an_auth_server(self) -> u16 {
        match self {
            Self::Nginx => 500,
            Self::Caddy => 502,
            Self::Envoy => 503,
        }
    }

    /// The status with which it refuses a request if the auth server answers that it knows nothing.
    pub fn status_without_a_database(self) -> u16 {
        match self {
            Self::Nginx => 500,
            Self::Caddy | Self::Envoy => 503,
        }
    }

    /// Whether it answers 400 to a request with these header lines: Envoy does if a client asks in `Connection` that
    /// the way of its request be forgotten.
    pub fn refuses_to_hear(self, headers: &str) -> bool {
        let asks = |line: &str| line.starts_with("Connection:") && line.contains("X-Forwarded-For");
        self == Self::Envoy && headers.lines().any(asks)
    }

    /// The addresses in the example: its own, the API's and the auth server's.
    fn addresses(self) -> [&'static str; 3] {
        match self {
            Self::Nginx => ["listen 80;", "api:8080", "127.0.0.1:8089"],
            Self::Caddy => ["api.example.com {", "api:8080", "127.0.0.1:8089"],
            Self::Envoy => [
                "address: 0.0.0.0, port_value: 80 ",
                "address: api, port_value: 8080 ",
                "address: 127.0.0.1, port_value: 8089 ",
            ],
        }
    }

    /// Writes an address, or the head of a site at it, as the example does.
    fn written(self, address: &str, is_own: bool) -> String {
        match self {
            Self::Nginx if is_own => format!("listen {address};"),
            Self::Caddy if is_own => format!("http://{address} {{"),
            Self::Nginx | Self::Caddy => address.to_owned(),
            Self::Envoy => {
                let (host, port) = address.rsplit_once(':').unwrap();
                format!("address: {host}, port_value: {port} ")
            }
        }
    }

    /// Starts it at this address. Only the addresses of the example are replaced.
    async fn start(self, folder: &Arc<Folder>, own: &str, api: &str, auth_server: &str) -> Supervised {
        let file = Path::new(REPOSITORY).join(self.example());
        let mut site = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        for (documented, actual) in self.addresses().into_iter().zip([own, api, auth_server]) {
            assert_eq!(site.matches(documented).count(), 1, "{documented} in {}", self.example());
            site = site.replace(documented, &self.written(actual, actual == own));
        }
        let mut program = match self {
            Self::Nginx => nginx(folder, &site),
            Self::Caddy => caddy(folder, &site),
            Self::Envoy => envoy(folder, &site).await,
        };
        program.env("HOME", folder.path()).current_dir(folder.path());
        Supervised::spawn(folder, "proxy", "KILL", &program)
    }
}

/// Everything that nginx writes is in the folder.
fn nginx(folder: &Folder, site: &str) -> Command {
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|name| format!("{name}_temp_path {name};"));
    let configuration = format!(
        "daemon off; master_process off; pid nginx.pid; error_log stderr;\n\
         events {{}}\n\
         http {{ access_log off; {}\n{site}}}\n",
        paths.concat()
    );
    let file = folder.write("nginx.conf", configuration);
    // Debian installs it in a folder that is not on the path of ordinary users.
    let installed =
        ["/usr/sbin/nginx", "/usr/local/sbin/nginx"].map(PathBuf::from).into_iter().find(|file| file.exists());
    let mut program = Command::new(installed.unwrap_or_else(|| "nginx".into()));
    program.arg("-p").arg(folder.path()).arg("-c").arg(file);
    program
}

/// Without its admin endpoint, several Caddies run beside each other.
fn caddy(folder: &Folder, site: &str) -> Command {
    let file = folder.write("Caddyfile", format!("{{\n\tadmin off\n}}\n{site}"));
    let mut program = Command::new("caddy");
    program.args(["run", "--adapter", "caddyfile", "--config"]).arg(file);
    for variable in ["XDG_CONFIG_HOME", "XDG_DATA_HOME"] {
        program.env(variable, folder.path());
    }
    program
}

/// Without hot restarts, several Envoys run beside each other.
async fn envoy(folder: &Folder, site: &str) -> Command {
    let file = folder.write("envoy.yaml", site);
    let installed = tokio::task::spawn_blocking(|| built("envoy/build.sh", &[])).await.unwrap();
    let mut program = Command::new(installed.unwrap_or_else(|problem| panic!("no Envoy: {problem}")).join("envoy"));
    program.args(["--disable-hot-restart", "--concurrency", "1", "--config-path"]).arg(file);
    program
}

impl ProtectedApi {
    /// Starts the API and the proxy, which asks the auth server at this address. Waits until requests get answers.
    pub async fn start(proxy: Proxy, auth_server: &str) -> Self {
        Self::start_at(Ipv4Addr::LOCALHOST.into(), proxy, auth_server).await
    }

    /// As [`Self::start`], with a proxy that listens at this address of the machine.
    pub async fn start_at(own: IpAddr, proxy: Proxy, auth_server: &str) -> Self {
        let folder = Folder::new("protected-api");
        let port = free_port();
        let mut program = Command::new("python3");
        program.arg(Path::new(REPOSITORY).join("examples/login/api.py")).arg(port.to_string());
        let api = Supervised::spawn(&folder, "api", "KILL", &program);
        eventually("the example API to listen", SOON, async || match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{error}\n{}", api.tail())),
        })
        .await;
        let address = format!("{own}:{}", free_port());
        let process = proxy.start(&folder, &address, &format!("127.0.0.1:{port}"), auth_server).await;
        let started = Self { address, api, proxy: process };
        eventually("the proxy to answer (tests/setup.sh installs it)", SOON, async || {
            match exchange(&started.address, &started.request("GET /", "")).await {
                Ok(Answer { status: 401, .. }) => Ok(()),
                other => Err(format!("{other:?}\n{}", started.proxy.tail())),
            }
        })
        .await;
        started
    }

    /// The URL under which the proxy serves the API.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sends a request, such as `GET /plans`, with a token and with these additional header lines.
    pub async fn call(&self, what: &str, token: &str, headers: &str) -> Answer {
        self.send(what, &format!("Authorization: Bearer {token}\r\n{headers}")).await
    }

    /// Sends a request with these header lines.
    pub async fn send(&self, what: &str, headers: &str) -> Answer {
        exchange(&self.address, &self.request(what, headers)).await.unwrap()
    }

    fn request(&self, what: &str, headers: &str) -> String {
        format!("{what} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n{headers}\r\n", self.address)
    }

    /// Returns the method and the target of each request that reached the API, once one with this target did.
    ///
    /// The API answers one request after the other, so everything that was sent before is in the list.
    pub async fn reached(&self, last: &str) -> Vec<String> {
        eventually("the request to be in the log of the API", SOON, async || {
            let log = self.api.log();
            let requests = log.lines().filter_map(|line| line.split('"').nth(1)?.split_once(" HTTP/"));
            let requests: Vec<String> = requests.map(|(request, _)| request.to_owned()).collect();
            if requests.iter().any(|request| request == last) { Ok(requests) } else { Err(log) }
        })
        .await
    }
}
