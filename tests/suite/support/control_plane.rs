//! Starts a Kubernetes control plane: etcd, the API server and the controllers that a cluster needs.

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

/// How long an API server may take to say that it is ready; a busy machine takes several times the usual 3 seconds.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// How often another port is tried when something else took the free one first.
const ATTEMPTS: usize = 3;
const PORT_TAKEN: &str = "address already in use";

/// Reads and writes of every resource by every client, once each and without the bodies; the API server's own ones and
/// the controllers' reads are noise.
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

/// The addresses of Services, and the one of these that is the API server's.
const SERVICES: &str = "10.96.0.0/16";
const SERVICE_ADDRESS: &str = "10.96.0.1";

/// What a cluster without nodes can make use of; the others would only cost time.
const CONTROLLERS: [&str; 5] = [
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
];

/// Where it is, and whether there is a node that runs pods.
#[derive(Clone, Copy)]
pub enum Site {
    /// On the loopback interface, where no node can be.
    Loopback,
    /// At this address, which a node and its pods reach. It is the node's own.
    Node(Ipv4Addr),
}

/// A running control plane; dropping it ends it.
pub struct ControlPlane {
    site: Site,
    folder: Arc<Folder>,
    authority: Authority,
    url: String,
    audit_log: PathBuf,
    processes: Mutex<Vec<Supervised>>,
}

impl ControlPlane {
    /// Starts etcd and an API server, and waits until it is ready.
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

        // A socket in a folder that only we can enter: etcd asks nobody who they are.
        let etcd_url = format!("unix://{}", at("etcd.sock"));
        let etcd = Supervised::spawn(
            &folder,
            "etcd",
            "KILL",
            Command::new(&programs.etcd).current_dir(&path).args([
                format!("--data-dir={}", at("etcd")),
                format!("--listen-client-urls={etcd_url}"),
                // For other members, of which there are none; a socket is not accepted by every version.
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
            Command::new(&programs.apiserver).current_dir(&path).args(site.arguments(&folder, &authority)).args([
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
                // A request that has its answer is in the log.
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

    /// Ends its programs. Nobody uses it afterwards.
    pub fn end(&self) {
        self.processes.lock().expect("nothing panics with it").clear();
    }

    /// Starts the controllers. Kinds that the API server has by now are known to the garbage collector from its start,
    /// others only within half a minute.
    pub fn start_controllers(&mut self, program: &Path) {
        let kubeconfig = self.kubeconfig_for("system:kube-controller-manager", None);
        let path = self.folder.path();
        let at = |name: &str| path.join(name).display().to_string();
        let controllers = Supervised::spawn(
            &self.folder,
            "kube-controller-manager",
            "KILL",
            Command::new(program).current_dir(path).args([
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

    /// Writes a kubeconfig for a client that the API server knows as `user`, in `group` if one is given.
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

    /// Where the API server says what it was asked.
    pub fn audit_log(&self) -> &Path {
        &self.audit_log
    }

    /// Where its files are; its authority's certificate is `ca.crt`.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Site {
    /// What the API server is told because of it.
    fn arguments(self, folder: &Folder, authority: &Authority) -> Vec<String> {
        match self {
            // It refuses to tell others of a loopback address, and nobody asks for it.
            Self::Loopback => vec!["--endpoint-reconciler-type=none".into()],
            Self::Node(_) => {
                let pair = authority.client("kube-apiserver-kubelet-client", Some("system:masters"));
                let certificate = folder.write("kubelet-client.crt", pair.certificate);
                let key = folder.write("kubelet-client.key", pair.key);
                vec![
                    format!("--kubelet-client-certificate={}", certificate.display()),
                    format!("--kubelet-client-key={}", key.display()),
                    // Nobody resolves the names of nodes.
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

fn death(process: &mut Supervised) -> Option<String> {
    let code = process.ended()?;
    Some(format!("{} ended with exit code {code}; the end of its log:\n{}", process.name(), process.tail()))
}
