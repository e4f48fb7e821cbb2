//! Starts a Kubernetes control plane: etcd, the API server and the necessary controllers.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use kube::Client;
use serde_json::json;

use super::certificates::{Authority, new_key};
use super::cluster::client_of;
use super::names::unique;
use super::ports::free_port;
use super::process::{Folder, Supervised};
use super::programs::Programs;
use super::wait::eventually;

/// The deadline for an API server to become ready. It usually takes 3 seconds, and several times as long on a busy
/// machine.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// The number of ports to try if another program takes the free port first.
const ATTEMPTS: usize = 3;
const PORT_TAKEN: &str = "address already in use";

/// Records reads and writes of every resource by every client, once each and without bodies. Leaves out the API
/// server's own requests and the controllers' reads.
const AUDIT_POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:apiserver"]
- level: None
  users: ["system:kube-controller-manager"]
  verbs: [get, list, watch]
- level: None
  userGroups: ["system:serviceaccounts:kube-system"]
  verbs: [get, list, watch]
- level: None
  nonResourceURLs: ["*"]
- level: Metadata
"#;

/// The address range of Services.
pub const SERVICES: &str = "10.96.0.0/16";
/// The address in it that belongs to the API server.
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// The controllers that a cluster without nodes needs. The other controllers would only use CPU time.
const CONTROLLERS: [&str; 6] = [
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "persistentvolumeclaim-protection-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
];

/// The address of a control plane, and whether a node runs pods.
#[derive(Clone, Copy)]
pub enum Site {
    /// The loopback interface. No node can join.
    Loopback,
    /// The address of the node, which the node and its pods can reach.
    Node(Ipv4Addr),
}

/// A running control plane. It ends when it is dropped.
pub struct ControlPlane {
    site: Site,
    folder: Arc<Folder>,
    authority: Authority,
    url: String,
    audit_log: PathBuf,
    processes: Mutex<Vec<Supervised>>,
}

impl ControlPlane {
    /// Starts etcd and an API server, and waits until the API server is ready.
    pub async fn start(programs: &Programs, site: Site) -> Result<Self, String> {
        let mut problem = String::new();
        for _ in 0..ATTEMPTS {
            let mut started = Self::launch(programs, site);
            match started.wait_until_ready().await {
                Ok(()) => return Ok(started),
                Err(error) => problem = error,
            }
            if !problem.contains(PORT_TAKEN) {
                break;
            }
        }
        Err(problem)
    }

    fn launch(programs: &Programs, site: Site) -> Self {
        let folder = Folder::new("cluster");
        let authority = Authority::new();
        let port = free_port();
        let path = folder.path().to_path_buf();
        let at = |name: &str| path.join(name).display().to_string();

        // etcd does not authenticate clients. So it listens on a socket in a folder that only the current user can
        // enter.
        let etcd_url = format!("unix://{}", at("etcd.sock"));
        let etcd = Supervised::spawn(
            &folder,
            "etcd",
            "KILL",
            frugal(&programs.etcd).current_dir(&path).args([
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls={etcd_url}"),
                // These are for other members, which do not exist. Not every version of etcd accepts a socket here.
                "--advertise-client-urls=http://127.0.0.1:0".into(),
                "--listen-peer-urls=http://127.0.0.1:0".into(),
                "--unsafe-no-fsync".into(),
                "--log-level=warn".into(),
            ]),
        );

        let address = match site {
            Site::Loopback => Ipv4Addr::LOCALHOST,
            Site::Node(address) => address,
        };
        let names = [&address.to_string(), "localhost", "kubernetes.default.svc", SERVICE_ADDRESS];
        let server = authority.server(&names);
        folder.write("ca.crt", authority.certificate());
        folder.write("server.crt", server.certificate);
        folder.write("server.key", server.key);
        let service_accounts = new_key();
        folder.write("service-accounts.key", service_accounts.serialize_pem());
        folder.write("service-accounts.pub", service_accounts.public_key_pem());
        folder.write("audit-policy.yaml", AUDIT_POLICY);
        let audit_log = folder.write("audit.log", "");
        let apiserver = Supervised::spawn(
            &folder,
            "kube-apiserver",
            "KILL",
            frugal(&programs.apiserver).current_dir(&path).args(site.arguments(&folder, &authority)).args([
                format!("--etcd-servers={etcd_url}"),
                format!("--bind-address={address}"),
                format!("--advertise-address={address}"),
                format!("--secure-port={port}"),
                format!("--cert-dir={}", path.display()),
                format!("--tls-cert-file={}", at("server.crt")),
                format!("--tls-private-key-file={}", at("server.key")),
                format!("--client-ca-file={}", at("ca.crt")),
                "--authorization-mode=Node,RBAC".into(),
                format!("--service-cluster-ip-range={SERVICES}"),
                "--service-account-issuer=https://kubernetes.default.svc".into(),
                format!("--service-account-key-file={}", at("service-accounts.pub")),
                format!("--service-account-signing-key-file={}", at("service-accounts.key")),
                format!("--audit-policy-file={}", at("audit-policy.yaml")),
                format!("--audit-log-path={}", audit_log.display()),
                // With this mode, a request is in the log before the client gets the answer.
                "--audit-log-mode=blocking".into(),
                "--audit-log-maxsize=100000".into(),
            ]),
        );
        Self {
            site,
            folder,
            authority,
            url: format!("https://{address}:{port}"),
            audit_log,
            processes: Mutex::new(vec![etcd, apiserver]),
        }
    }

    async fn wait_until_ready(&mut self) -> Result<(), String> {
        let kubeconfig = self.kubeconfig_for("opsadmin-suite", Some("system:masters"));
        let client = client_of(&kubeconfig).await?;
        let processes = self.processes.get_mut().expect("nothing panics with it");
        let url = &self.url;
        eventually(&format!("the API server at {url} to be ready"), READY_WITHIN, async || {
            match ask_if_ready(&client).await {
                Ok(()) => Ok(Ok(())),
                Err(not_ready) => match processes.iter_mut().find_map(death) {
                    Some(death) => Ok(Err(death)),
                    None => Err(format!("{not_ready}; the end of its log:\n{}", processes[1].tail())),
                },
            }
        })
        .await
    }

    /// Ends the programs. The control plane must not be used afterwards.
    pub fn end(&self) {
        self.processes.lock().expect("nothing panics with it").clear();
    }

    /// Starts the controllers. The garbage collector knows the kinds that the API server already serves immediately. It
    /// discovers other kinds within half a minute.
    pub fn start_controllers(&mut self, program: &Path) {
        let kubeconfig = self.kubeconfig_for("system:kube-controller-manager", None);
        let path = self.folder.path();
        let at = |name: &str| path.join(name).display().to_string();
        let controllers = Supervised::spawn(
            &self.folder,
            "kube-controller-manager",
            "KILL",
            frugal(program).current_dir(path).args([
                format!("--kubeconfig={}", kubeconfig.display()),
                format!("--controllers={}", self.site.controllers()),
                "--secure-port=0".into(),
                "--leader-elect=false".into(),
                "--use-service-account-credentials".into(),
                format!("--root-ca-file={}", at("ca.crt")),
                format!("--service-account-private-key-file={}", at("service-accounts.key")),
                "--kube-api-qps=500".into(),
                "--kube-api-burst=1000".into(),
            ]),
        );
        self.processes.get_mut().expect("nothing panics with it").push(controllers);
    }

    /// Writes a kubeconfig for a client that the API server authenticates as `user`, and as a member of `group` if it
    /// is given.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> PathBuf {
        let pair = self.authority.client(user, group);
        let kubeconfig = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "suite",
            "contexts": [{"name": "suite", "context": {"cluster": "suite", "user": user}}],
            "clusters": [{"name": "suite", "cluster": {
                "server": self.url,
                "certificate-authority-data": BASE64_STANDARD.encode(self.authority.certificate()),
            }}],
            "users": [{"name": user, "user": {
                "client-certificate-data": BASE64_STANDARD.encode(pair.certificate),
                "client-key-data": BASE64_STANDARD.encode(pair.key),
            }}],
        });
        self.folder.write(&format!("{}.kubeconfig", unique(user)), kubeconfig.to_string())
    }

    /// Returns the path of the API server's audit log.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// Returns the folder of the control plane's files. The authority's certificate is `ca.crt`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Site {
    /// Returns the arguments of the API server that depend on the site.
    fn arguments(self, folder: &Folder, authority: &Authority) -> Vec<String> {
        match self {
            // The reconciler does not accept a loopback address as an endpoint, and no client needs the endpoint.
            Self::Loopback => vec!["--endpoint-reconciler-type=none".into()],
            Self::Node(_) => {
                let pair = authority.client("kube-apiserver-kubelet-client", Some("system:masters"));
                let certificate = folder.write("kubelet-client.crt", pair.certificate);
                let key = folder.write("kubelet-client.key", pair.key);
                vec![
                    format!("--kubelet-client-certificate={}", certificate.display()),
                    format!("--kubelet-client-key={}", key.display()),
                    // The names of nodes cannot be resolved.
                    "--kubelet-preferred-address-types=InternalIP".into(),
                    "--enable-admission-plugins=NodeRestriction".into(),
                ]
            }
        }
    }

    fn controllers(self) -> String {
        match self {
            Self::Loopback => CONTROLLERS.join(","),
            Self::Node(_) => "*".into(),
        }
    }
}

async fn ask_if_ready(client: &Client) -> Result<(), String> {
    let request = http::Request::get("/readyz").body(Vec::new()).expect("the request is well-formed");
    client.request_text(request).await.map(drop).map_err(|error| error.to_string())
}

/// Returns a command for a program of Kubernetes that collects its garbage seldom, for which it needs less processor time
/// and more memory.
fn frugal(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("GOGC", "400");
    command
}

fn death(process: &mut Supervised) -> Option<String> {
    let code = process.ended()?;
    Some(format!("{} ended with exit code {code}; the end of its log:\n{}", process.name(), process.tail()))
}
