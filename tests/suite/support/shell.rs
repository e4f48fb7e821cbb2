//! A shell for the commands of a documentation page: the built program and `kubectl` are on its path, and it has none
//! of the caller's settings.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use super::process::Folder;
use super::run::{Finished, run};

const WITHIN: Duration = Duration::from_mins(3);
/// The folder in which the commands run.
const DESK: &str = "desk";

/// A shell with its own home and its own working folder.
pub struct Shell {
    folder: Arc<Folder>,
    environment: Vec<(String, String)>,
}

impl Shell {
    /// Creates a shell with an empty folder.
    pub fn new(cluster: &Cluster) -> Self {
        let folder = Folder::new("shell");
        let shell = Self { folder, environment: Vec::new() };
        for name in [DESK, "bin"] {
            fs::create_dir(shell.folder.path().join(name)).expect("a new folder");
        }
        let (opsadmin, kubectl) =
            (PathBuf::from(env!("CARGO_BIN_EXE_opsadmin")), find_program(cluster.kubectl_program()));
        for (name, program) in [("opsadmin", &opsadmin), ("kubectl-opsadmin", &opsadmin), ("kubectl", &kubectl)] {
            symlink(program, shell.program_path(name)).expect("a new link");
        }
        shell
    }

    /// Creates a shell whose `kubectl` uses this namespace.
    pub async fn in_namespace(cluster: &Cluster, namespace: &str) -> Self {
        let mut shell = Self::new(cluster);
        let kubeconfig = shell.folder.path().join("kubeconfig");
        fs::copy(cluster.kubeconfig(), &kubeconfig).expect("it can be copied");
        shell.set("KUBECONFIG", &kubeconfig.display().to_string());
        let select = format!("kubectl config set-context --current --namespace={namespace}");
        shell.run(&select).await.succeeded();
        shell
    }

    /// Sets an environment variable.
    pub fn set(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Puts a script on the shell's path, under this name.
    pub fn stand_in(&self, name: &str, script: &str) {
        let program = self.program_path(name);
        fs::write(&program, script).expect("it can be written");
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("it can be run");
    }

    /// Returns the path of a file in the working folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(DESK).join(name)
    }

    /// Returns the path of a file in the parent of the working folder.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs commands until one fails.
    pub async fn run(&self, lines: &str) -> Finished {
        self.run_with(lines, &[]).await
    }

    /// Runs commands with additional environment variables.
    pub async fn run_with(&self, lines: &str, environment: &[(String, String)]) -> Finished {
        let mut shell = Command::new("sh");
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin", self.folder.path().join("bin").display());
        shell.args(["-e", "-c", lines]).current_dir(self.path("")).env_clear();
        shell.env("PATH", path).env("HOME", self.folder.path());
        shell.envs(self.environment.iter().chain(environment).map(|(name, value)| (name, value)));
        run(shell, "", WITHIN).await
    }

    fn program_path(&self, name: &str) -> PathBuf {
        self.folder.path().join("bin").join(name)
    }
}

/// Returns the path of a program. The program may be given by its name only.
fn find_program(program: &Path) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("no {} in the path", program.display()))
}
