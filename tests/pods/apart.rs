//! Runs the tests in separate namespaces, and checks that this machine has what they need.

use std::env;
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use crate::support::control_plane::SERVICES;
use crate::support::programs::{Programs, built};

/// The node's address. The pods and the API server use it too.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// The network of the pods.
pub const POD_NETWORK: &str = "10.200.0.0/24";
/// The folders where distributions install the CNI plugins.
pub const CNI_FOLDERS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The script that creates the namespaces.
pub const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pods/apart.sh");

/// The variable with the folder of the operator's image, an OCI layout.
pub const IMAGE: &str = "OPSADMIN_PODS_IMAGE";

const CGROUP: &str = "OPSADMIN_PODS_CGROUP";
const SETUP: &str = "tests/pods/setup.sh installs it on Debian and Ubuntu";

/// Returns the parent cgroup for everything on the node. `None` outside the namespaces.
pub fn cgroup() -> Option<String> {
    env::var(CGROUP).ok()
}

/// Runs this program again with the same arguments, in namespaces that end with it.
pub fn run_again() -> Result<ExitCode, String> {
    require_root()?;
    for program in ["unshare", "ip", "iptables", "tar", "buildah", "musl-gcc"] {
        which(program)?;
    }
    runc()?;
    busybox()?;
    if !CNI_FOLDERS.iter().any(|folder| Path::new(folder).join("bridge").is_file()) {
        return Err(format!("the CNI plugins are missing (none in {}); {SETUP}", CNI_FOLDERS.join(", ")));
    }
    // The first build of these programs needs the network, which is not available inside the namespaces.
    Programs::of_release("newest")?;
    built("cluster/build-node.sh", &[])?;
    built("helm/build.sh", &[])?;
    let image = built("../release/image.sh", &[])?;

    let because = |error: io::Error| format!("tests/pods/apart.sh: {error}");
    let mut apart = Command::new("sh")
        .arg(SCRIPT)
        .arg(env::current_exe().map_err(because)?)
        .args(env::args_os().skip(1))
        .env(IMAGE, image)
        .env("OPSADMIN_PODS_NODE", format!("{NODE_ADDRESS}/24"))
        .env("OPSADMIN_PODS_SERVICES", SERVICES)
        // With a separate process group, Ctrl-C in a terminal reaches only this program. The rest ends in order.
        .process_group(0)
        .stdin(Stdio::piped())
        .spawn()
        .map_err(because)?;
    // `wait` would close the pipe, and so end the tests.
    let owner = apart.stdin.take();
    let status = apart.wait().map_err(because)?;
    drop(owner);
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from))
}

fn require_root() -> Result<(), String> {
    let id = Command::new("id").arg("-u").output().map_err(|error| format!("id: {error}"))?;
    if id.stdout.trim_ascii() == b"0" {
        return Ok(());
    }
    Err("they need root, for namespaces, cgroups and containers. As another user: \
         sudo --preserve-env=PATH,HOME cargo test --test pods"
        .into())
}

/// Returns the path of the container runtime `runc`.
pub fn runc() -> Result<PathBuf, String> {
    which("runc")
}

/// Returns the path of `busybox`, which is in the images of the partners' programs.
pub fn busybox() -> Result<PathBuf, String> {
    which("busybox")
}

fn which(program: &str) -> Result<PathBuf, String> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{program} is missing; {SETUP}"))
}
