//! Runs the built program as a user runs it, and as a controller that a test can observe and end.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::process::{Folder, Supervised};
use super::run::{Finished, run};
use super::wait::eventually;

const PROGRAM: &str = env!("CARGO_BIN_EXE_opsadmin");
const METRICS_ADDRESS: &str = "--metrics-address";
const DONE_WITHIN: Duration = Duration::from_mins(1);
/// The caller's environment variables that a program gets: the necessary ones, and the path of the coverage data.
const KEPT: [&str; 3] = ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"];

/// One call of `opsadmin` in a separate environment: an empty home and working folder, and none of the caller's
/// settings.
pub struct Opsadmin {
    folder: Arc<Folder>,
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    input: Vec<u8>,
    within: Duration,
}

impl Opsadmin {
    /// Creates a call without arguments.
    pub fn new() -> Self {
        Self {
            folder: Folder::new("call"),
            program: PathBuf::from(PROGRAM),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: Vec::new(),
            within: DONE_WITHIN,
        }
    }

    /// Adds arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub fn env(mut self, variable: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((variable.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Makes the program's clock wrong by this time, such as `+600s`. Only the time of day is wrong. Time that passes is
    /// measured correctly.
    pub fn with_clock(self, offset: &str) -> Self {
        let call = self.env("LD_PRELOAD", wrong_clock()).env("FAKETIME", offset);
        call.env("DONT_FAKE_MONOTONIC", "1").env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
    }

    /// Sets the standard input. The default is an empty input.
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// Sets the deadline. The default is one minute.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    /// Returns the home and working folder of the call.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs the program until it ends. The folder is removed afterwards.
    pub async fn run(self) -> Finished {
        run(self.command(), self.input, self.within).await
    }

    /// Runs the program on a terminal until it ends. All its output is returned as standard output.
    pub async fn run_on_terminal(self) -> Finished {
        let command = self.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().expect("it is text").replace('\'', r"'\''"));
        let line = words.map(quoted).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(self.folder.path());
        run(script, self.input, self.within).await
    }

    /// Runs the program under another name, by a symbolic link in its folder.
    pub fn under_the_name(mut self, name: &str) -> Self {
        let link = self.folder.path().join(name);
        std::os::unix::fs::symlink(PROGRAM, &link).expect("a link can be made");
        self.program = link;
        self
    }

    /// Runs the program in the background, as a controller, with the arguments and the environment of this call.
    pub fn spawn(&self) -> RunningController {
        RunningController { process: Supervised::spawn(&self.folder, "opsadmin", "KILL", &self.command()) }
    }

    /// Runs a shell command in the folder, with the program on the path as `opsadmin`. Returns all its output.
    pub async fn shell(&self, line: &str) -> String {
        let programs = self.folder.path().join("bin");
        if !programs.exists() {
            fs::create_dir(&programs).expect("a new folder");
            std::os::unix::fs::symlink(PROGRAM, programs.join("opsadmin")).expect("a new link");
        }
        let path =
            env::join_paths([programs].into_iter().chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())));
        let mut command = Command::new("env");
        command.arg("-i").arg(assignment("HOME".as_ref(), self.folder.path().as_os_str()));
        command.arg(assignment("PATH".as_ref(), &path.expect("no path has a colon")));
        command.args(["sh", "-c", &format!("{{ {line}\n}} 2>&1")]).current_dir(self.folder.path());
        run(command, Vec::new(), self.within).await.stdout
    }

    fn command(&self) -> Command {
        let home = self.folder.path();
        let mut command = Command::new("env");
        command.arg("-i").arg(assignment("HOME".as_ref(), home.as_os_str()));
        for variable in KEPT {
            if let Some(value) = env::var_os(variable) {
                command.arg(assignment(variable.as_ref(), &value));
            }
        }
        for (variable, value) in &self.environment {
            command.arg(assignment(variable, value));
        }
        command.arg(&self.program).args(&self.arguments).current_dir(home);
        command
    }
}

fn assignment(variable: &OsStr, value: &OsStr) -> OsString {
    let mut text = variable.to_owned();
    text.push("=");
    text.push(value);
    text
}

/// Starts `opsadmin controller` in the background. The controller is not necessarily ready when this function returns.
pub fn spawn_controller(
    kubeconfig: &Path,
    namespaces: &[&str],
    database_url: &str,
    keyring: &Path,
    extra: &[&str],
) -> RunningController {
    let call = controller_call(kubeconfig, namespaces, database_url, keyring, extra);
    call.spawn()
}

/// Returns the call of a controller, before it is started.
pub fn controller_call(
    kubeconfig: &Path,
    namespaces: &[&str],
    database_url: &str,
    keyring: &Path,
    extra: &[&str],
) -> Opsadmin {
    let mut call = Opsadmin::new().args(["controller"]);
    call = call.args([OsStr::new("--kubeconfig"), kubeconfig.as_os_str()]);
    for namespace in namespaces {
        call = call.args(["--namespace", namespace]);
    }
    call = call.args(["--database", database_url]);
    if !extra.contains(&METRICS_ADDRESS) {
        call = call.args([METRICS_ADDRESS, "127.0.0.1:0"]);
    }
    call.args([OsStr::new("--keyring"), keyring.as_os_str()]).args(extra)
}

/// Starts `opsadmin controller` with a limit on file sizes, so that its writes can fail as if the disk were full.
///
/// The second value sets the maximum file size. Writes beyond this size fail.
pub fn spawn_confined_controller(
    kubeconfig: &Path,
    namespaces: &[&str],
    database_url: &str,
    keyring: &Path,
    extra: &[&str],
) -> (RunningController, Confinement) {
    let call = controller_call(kubeconfig, namespaces, database_url, keyring, extra);
    let pid_file = call.folder().join("pid");
    // Without the trap, the signal SIGXFSZ of a failing write would end the program.
    let mut confined = Command::new("sh");
    confined.args(["-c", r#"trap '' XFSZ; echo $$ >"$0"; exec "$@""#]).arg(&pid_file);
    let command = call.command();
    confined.arg(command.get_program()).args(command.get_args()).current_dir(call.folder());
    let process = Supervised::spawn(&call.folder, "opsadmin", "KILL", &confined);
    (RunningController { process }, Confinement { pid_file })
}

/// Sets the maximum file size of a running program.
pub struct Confinement {
    pid_file: PathBuf,
}

impl Confinement {
    /// Sets the maximum file size in bytes, or removes the limit.
    pub async fn set(&self, bytes: Option<u64>) {
        let pid = fs::read_to_string(&self.pid_file).expect("the program has told its process id");
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes}:unlimited"));
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", pid.trim()]).arg(format!("--fsize={limit}"));
        run(prlimit, "", DONE_WITHIN).await.succeeded();
    }
}

/// A controller in the background. It is killed when this value is dropped.
pub struct RunningController {
    process: Supervised,
}

impl RunningController {
    /// Returns all output so far: stdout and stderr.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until the controller serves metrics and probes, and returns the address.
    pub async fn address(&self) -> String {
        eventually("the controller to serve metrics", DONE_WITHIN, async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("serving metrics and probes"));
            // The log line is text or JSON.
            let address = line.and_then(|line| line.split_once("address").map(|(_, rest)| rest));
            let address = address.map(|rest| rest.trim_start_matches(['=', ':', '"']));
            let end = |character: char| character == '"' || character.is_whitespace();
            address.and_then(|address| address.split(end).next()).map(ToOwned::to_owned).ok_or(log)
        })
        .await
    }

    /// Sends SIGTERM, as Kubernetes does, and does not wait.
    pub fn ask_to_end(&self) {
        self.process.signal("TERM");
    }

    /// Sends SIGSTOP: the process stands still, and its connections stay open.
    pub fn pause(&self) {
        self.process.signal("STOP");
    }

    /// Sends SIGCONT: the process goes on.
    pub fn resume(&self) {
        self.process.signal("CONT");
    }

    /// Returns the exit code if the controller has ended.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.ended()
    }

    /// Waits until the controller ends by itself, and returns its exit code and its log.
    pub async fn wait(mut self, within: Duration) -> (i32, String) {
        let code = self.process.wait(within).await;
        (code, self.process.log())
    }

    /// Sends SIGTERM, as Kubernetes does, and waits. Returns the exit code and the log.
    pub async fn terminate(self, within: Duration) -> (i32, String) {
        self.ask_to_end();
        self.wait(within).await
    }

    /// Sends SIGKILL, and returns the log.
    pub async fn kill(self) -> String {
        self.process.signal("KILL");
        self.wait(DONE_WITHIN).await.1
    }
}

/// Returns the library of libfaketime.
fn wrong_clock() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").expect("the system has libraries").flatten().map(|entry| entry.path());
    let mut candidates = folders.chain([PathBuf::from("/usr/lib")]).map(|f| f.join("faketime/libfaketime.so.1"));
    candidates.find(|library| library.is_file()).expect("libfaketime is missing: run tests/setup.sh")
}
