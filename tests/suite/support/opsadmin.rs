//! The built program, run as a user would run it, and as a controller that a test can watch and end.

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
/// Of the caller's environment, what a program cannot do without, and where coverage goes.
const KEPT: [&str; 3] = ["PATH", "TMPDIR", "LLVM_PROFILE_FILE"];

/// One call of `opsadmin`, in an environment of its own: an empty home and working folder, and none of the caller's
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
    /// A call without arguments.
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

    /// Gives it something to read; without this its standard input is empty.
    pub fn stdin(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = input.into();
        self
    }

    /// How long it may take, if that is not a minute.
    pub fn within(mut self, deadline: Duration) -> Self {
        self.within = deadline;
        self
    }

    /// Its home and working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs it to its end; what it left in its folder is gone afterwards.
    pub async fn run(self) -> Finished {
        run(self.command(), self.input, self.within).await
    }

    /// Runs it to its end on a terminal, where all that it writes comes out as standard output.
    pub async fn run_on_terminal(self) -> Finished {
        let command = self.command();
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let quoted = |word: &OsStr| format!("'{}'", word.to_str().expect("it is text").replace('\'', r"'\''"));
        let line = words.map(quoted).collect::<Vec<_>>().join(" ");
        let mut script = Command::new("script");
        script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(self.folder.path());
        run(script, self.input, self.within).await
    }

    /// The same program under another name, as a link in its folder.
    pub fn under_the_name(mut self, name: &str) -> Self {
        let link = self.folder.path().join(name);
        std::os::unix::fs::symlink(PROGRAM, &link).expect("a link can be made");
        self.program = link;
        self
    }

    /// Runs it in the background: a controller, with whatever arguments and environment it was given.
    pub fn spawn(&self) -> RunningController {
        RunningController { process: Supervised::spawn(&self.folder, "opsadmin", "KILL", &self.command()) }
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

/// Starts `opsadmin controller`; it is running, not necessarily ready, when this returns.
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

fn controller_call(
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

/// The same, for a test that will have the program's writes fail as if the disk were full.
///
/// The second value changes how large the program may make a file; what goes beyond that fails.
pub fn spawn_confined_controller(
    kubeconfig: &Path,
    namespaces: &[&str],
    database_url: &str,
    keyring: &Path,
    extra: &[&str],
) -> (RunningController, Confinement) {
    let call = controller_call(kubeconfig, namespaces, database_url, keyring, extra);
    let pid_file = call.folder().join("pid");
    // Without the trap, the signal that comes with the failing write would end the program.
    let mut confined = Command::new("sh");
    confined.args(["-c", r#"trap '' XFSZ; echo $$ >"$0"; exec "$@""#]).arg(&pid_file);
    let command = call.command();
    confined.arg(command.get_program()).args(command.get_args()).current_dir(call.folder());
    let process = Supervised::spawn(&call.folder, "opsadmin", "KILL", &confined);
    (RunningController { process }, Confinement { pid_file })
}

/// How large a running program may make a file.
pub struct Confinement {
    pid_file: PathBuf,
}

impl Confinement {
    /// From now on no file may become larger than this many bytes, or any may.
    pub async fn set(&self, bytes: Option<u64>) {
        let pid = fs::read_to_string(&self.pid_file).expect("the program has told its process id");
        let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| format!("{bytes}:unlimited"));
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", pid.trim()]).arg(format!("--fsize={limit}"));
        run(prlimit, "", DONE_WITHIN).await.succeeded();
    }
}

/// A controller in the background, killed when this is dropped.
pub struct RunningController {
    process: Supervised,
}

impl RunningController {
    /// All that it wrote so far, to stdout and stderr.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Where it serves metrics and probes, once it does.
    pub async fn address(&self) -> String {
        eventually("the controller to serve metrics", DONE_WITHIN, async || {
            let log = self.log();
            let line = log.lines().find(|line| line.contains("serving metrics and probes"));
            // As text or as JSON.
            let address = line.and_then(|line| line.split_once("address").map(|(_, rest)| rest));
            let address = address.map(|rest| rest.trim_start_matches(['=', ':', '"']));
            let end = |character: char| character == '"' || character.is_whitespace();
            address.and_then(|address| address.split(end).next()).map(ToOwned::to_owned).ok_or(log)
        })
        .await
    }

    /// Asks it to end, as Kubernetes does, without waiting for that.
    pub fn ask_to_end(&self) {
        self.process.signal("TERM");
    }

    /// Its exit code if it has ended by itself.
    pub fn ended(&mut self) -> Option<i32> {
        self.process.ended()
    }

    /// Waits for it to end by itself, and gives its exit code and its log.
    pub async fn wait(mut self, within: Duration) -> (i32, String) {
        let code = self.process.wait(within).await;
        (code, self.process.log())
    }

    /// Asks it to end, as Kubernetes does, and gives its exit code and its log.
    pub async fn terminate(self, within: Duration) -> (i32, String) {
        self.ask_to_end();
        self.wait(within).await
    }

    /// Ends it on the spot, without a chance to finish anything, and gives its log.
    pub async fn kill(self) -> String {
        self.process.signal("KILL");
        self.wait(DONE_WITHIN).await.1
    }
}
