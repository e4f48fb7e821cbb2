//! Finds the programs of a control plane, or builds them.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The programs of a control plane.
pub struct Programs {
    /// The etcd server.
    pub etcd: PathBuf,
    /// The API server.
    pub apiserver: PathBuf,
    /// The controllers. Without them, nothing is garbage-collected and no deleted namespace is removed.
    pub controller_manager: Option<PathBuf>,
    /// The command-line client.
    pub kubectl: PathBuf,
}

impl Programs {
    /// Returns the programs in the folder that `KUBEBUILDER_ASSETS` names. Without it, returns the pinned release,
    /// which `tests/cluster/build.sh` builds. The first build takes minutes.
    pub fn find() -> Result<Self, String> {
        match env::var_os("KUBEBUILDER_ASSETS") {
            Some(folder) => Self::in_folder(&PathBuf::from(folder)),
            None => Self::of_release(&env::var("OPSADMIN_TEST_KUBERNETES").unwrap_or_else(|_| String::from("newest"))),
        }
    }

    /// Returns the programs of the pinned `newest` or `oldest` release, and builds them if necessary.
    pub fn of_release(release: &str) -> Result<Self, String> {
        Self::in_folder(&built("cluster/build.sh", &[release])?)
    }

    fn in_folder(folder: &Path) -> Result<Self, String> {
        let program = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let required = |name: &str| {
            program(name).ok_or_else(|| {
                format!("{} has no {name}; KUBEBUILDER_ASSETS must name a folder that has it", folder.display())
            })
        };
        Ok(Self {
            etcd: required("etcd")?,
            apiserver: required("kube-apiserver")?,
            controller_manager: program("kube-controller-manager"),
            kubectl: program("kubectl").unwrap_or_else(installed_kubectl),
        })
    }
}

/// Returns the `kubectl` on the system's path.
pub fn installed_kubectl() -> PathBuf {
    PathBuf::from("kubectl")
}

/// Runs a script below `tests` that builds programs if necessary, and returns the folder that the script prints.
pub fn built(script: &str, arguments: &[&str]) -> Result<PathBuf, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(script);
    let output = Command::new("sh")
        .arg(&script)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("{} does not start: {error}", script.display()))?;
    if !output.status.success() {
        let arguments = arguments.join(" ");
        return Err(format!("{} {arguments}: {}; its own message is above", script.display(), output.status));
    }
    let folder = String::from_utf8(output.stdout).map_err(|error| format!("{}: {error}", script.display()))?;
    Ok(PathBuf::from(folder.trim_end()))
}
