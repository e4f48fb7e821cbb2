//! The node: kubelet, containerd and runc, with a scheduler, and with kube-proxy for the addresses of Services.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::Api;
use serde_json::{Value, json};

use crate::apart::{CNI_FOLDERS, NODE_ADDRESS, POD_NETWORK, cgroup, runc};
use crate::support::cluster::Cluster;
use crate::support::control_plane::ControlPlane;
use crate::support::process::{Folder, Supervised};
use crate::support::programs::built;
use crate::support::wait::eventually;

const NAME: &str = "node";
const READY_WITHIN: Duration = Duration::from_mins(2);
const CONTAINERD: &str = "/run/containerd/containerd.sock";

/// A node that has joined a cluster. Its programs end when it is dropped, but its pods do not.
pub struct Node {
    folder: Arc<Folder>,
    programs: PathBuf,
    processes: Vec<Supervised>,
}

impl Node {
    /// Starts the node, and waits until the cluster reports it as ready. It pulls images from the registry at this
    /// port.
    pub async fn join(cluster: &Cluster, registry: u16) -> Self {
        let programs = built("cluster/build-node.sh", &[]).unwrap_or_else(|problem| panic!("{problem}"));
        let mut node = Self { folder: Folder::new("node"), programs, processes: Vec::new() };
        let plane = cluster.control_plane().expect("the tests have started it");
        node.start_containerd(registry);
        // A kubelet that finds no containerd ends at once.
        eventually("containerd to listen", READY_WITHIN, async || UnixStream::connect(CONTAINERD)).await;
        node.start_kubelet(plane);
        for name in ["kube-scheduler", "kube-proxy"] {
            let kubeconfig = plane.kubeconfig_for(&format!("system:{name}"), None);
            let mut arguments = if name == "kube-proxy" { proxy_arguments() } else { scheduler_arguments() };
            arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
            node.start(name, &arguments);
        }
        node.wait_until_ready(cluster).await;
        node
    }

    async fn wait_until_ready(&mut self, cluster: &Cluster) {
        let nodes: Api<NodeObject> = Api::all(cluster.client().await);
        eventually("the node to be ready", READY_WITHIN, async || {
            for process in &mut self.processes {
                let (ended, name, tail) = (process.ended(), process.name(), process.tail());
                assert_eq!(ended, None, "{name} has ended; the end of its log:\n{tail}");
            }
            let conditions = match nodes.get_opt(NAME).await {
                Ok(node) => node.and_then(|node| node.status?.conditions).unwrap_or_default(),
                Err(error) => return Err(error.to_string()),
            };
            let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
            if ready { Ok(()) } else { Err(format!("{conditions:?}\n{}", self.log())) }
        })
        .await;
    }

    /// Returns the last log lines of the node's programs.
    pub fn log(&self) -> String {
        let tails = self.processes.iter().map(|process| format!("{}:\n{}", process.name(), process.tail()));
        tails.collect::<Vec<_>>().join("\n\n")
    }

    fn start_containerd(&mut self, registry: u16) {
        let networks = self.new_folder("net.d");
        fs::write(networks.join("pods.conflist"), self.network().to_string()).expect("it can be written");
        // The settings in `_default` apply to every registry without its own folder.
        let mirrors = self.new_folder("certs.d");
        let mirror = self.new_folder("certs.d/_default");
        let hosts = format!("server = \"http://127.0.0.1:{registry}\"\n");
        fs::write(mirror.join("hosts.toml"), hosts).expect("it can be written");
        let config = format!(
            r#"
version = 3
root = "{root}"

[grpc]
address = "{CONTAINERD}"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "registry.example.com/pause:1"

[plugins."io.containerd.cri.v1.images".registry]
config_path = "{mirrors}"

[plugins."io.containerd.cri.v1.runtime"]
# A machine that is a container itself often may not lower it.
restrict_oom_score_adj = true

[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = {CNI_FOLDERS:?}
conf_dir = "{networks}"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
BinaryName = "{runc}"
SystemdCgroup = false
"#,
            root = self.new_folder("containerd").display(),
            mirrors = mirrors.display(),
            networks = networks.display(),
            runc = runc().expect("it was there").display(),
        );
        let config = self.folder.write("containerd.toml", config);
        self.start("containerd", &[format!("--config={}", config.display())]);
    }

    /// Returns the CNI configuration of the pods' network.
    fn network(&self) -> Value {
        let data = self.new_folder("addresses");
        json!({
            "cniVersion": "1.0.0",
            "name": "pods",
            "plugins": [{
                "type": "bridge",
                "bridge": "cni0",
                "ipam": {
                    "type": "host-local",
                    "dataDir": data,
                    "ranges": [[{ "subnet": POD_NETWORK, "gateway": NODE_ADDRESS }]],
                    "routes": [{ "dst": "0.0.0.0/0" }],
                },
            }],
        })
    }

    fn start_kubelet(&mut self, plane: &ControlPlane) {
        // The interval at which the kubelet refreshes Secrets keeps its default, because the guides mention it.
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": plane.folder().join("ca.crt") },
            },
            "authorization": { "mode": "Webhook" },
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": cgroup(),
            "containerRuntimeEndpoint": format!("unix://{CONTAINERD}"),
            // A full disk of this machine must not evict pods.
            "evictionHard": {
                "imagefs.available": "0%", "memory.available": "0%",
                "nodefs.available": "0%", "nodefs.inodesFree": "0%",
            },
            "failCgroupV1": false,
            "failSwapOn": false,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": self.new_folder("logs"),
            "resolvConf": self.folder.write("resolv.conf", ""),
            "volumePluginDir": self.new_folder("plugins"),
        });
        let config = self.folder.write("kubelet.json", config.to_string());
        let kubeconfig = plane.kubeconfig_for(&format!("system:node:{NAME}"), Some("system:nodes"));
        let root = self.new_folder("kubelet");
        let arguments = [
            format!("--config={}", config.display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--root-dir={}", root.display()),
            format!("--cert-dir={}", self.new_folder("pki").display()),
            format!("--hostname-override={NAME}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ];
        self.start("kubelet", &arguments);
    }

    fn start(&mut self, name: &str, arguments: &[String]) {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new(self.programs.join(name));
        // containerd finds its shim on the path, and the CNI plugins find iptables there.
        command.args(arguments).current_dir(self.folder.path());
        command.env("PATH", format!("{}:{path}:/usr/sbin:/sbin", self.programs.display()));
        self.processes.push(Supervised::spawn(&self.folder, name, "KILL", &command));
    }

    fn new_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).expect("a new folder");
        folder
    }
}

fn scheduler_arguments() -> Vec<String> {
    ["--leader-elect=false", "--secure-port=0"].map(Into::into).into()
}

fn proxy_arguments() -> Vec<String> {
    [
        "--proxy-mode=iptables",
        // Otherwise a pod would answer another pod directly, and not from the address of the Service.
        "--masquerade-all",
        &format!("--hostname-override={NAME}"),
        // These values leave the machine's own settings unchanged.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
    ]
    .map(Into::into)
    .into()
}
