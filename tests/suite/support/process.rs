//! Processes and folders that end with the test binary, even when it is killed with SIGKILL.
//!
//! A `static` is not dropped when a test binary ends, and no code runs when it is killed. So a small shell supervises
//! each process. The shell reads from a pipe whose other end only the test binary has. When the pipe closes, the shell
//! ends the process. Each folder has such a shell too. It also waits for the shells of the processes in the folder.

use std::fs::{self, File};
use std::io::{self, PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::wait::eventually;

const SUPERVISOR: &str = include_str!("supervisor.sh");
const KEEPER: &str = r#"while read -r _; do :; done; rm -rf -- "$1""#;
const TAIL_LINES: usize = 40;

/// A temporary folder. It is removed when it has been dropped and every process in it has ended.
pub struct Folder {
    path: PathBuf,
    held: Option<PipeWriter>,
    keeper: Child,
}

impl Folder {
    /// Creates an empty folder.
    pub fn new(purpose: &str) -> Arc<Self> {
        let path = tempfile::Builder::new()
            .prefix(&format!("opsadmin-{purpose}-"))
            .tempdir()
            .expect("the system's folder for temporary files takes a folder")
            .keep();
        let (reader, writer) = io::pipe().expect("the system gives a pipe");
        let keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(&path)
            .stdin(reader)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sh starts");
        Arc::new(Self { path, held: Some(writer), keeper })
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file into the folder and returns its path.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path.join(name);
        fs::write(&path, contents).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        path
    }

    /// Returns a handle that keeps the folder in place as long as it is open.
    fn hold(&self) -> PipeWriter {
        let held = self.held.as_ref().expect("the pipe is there until the folder is dropped");
        held.try_clone().expect("the system gives another handle")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.held = None;
        if let Err(error) = self.keeper.wait() {
            eprintln!("waiting for {} to be removed: {error}", self.path.display());
        }
    }
}

/// A program in the background. It ends by itself, or when this value is dropped, or when the test binary ends.
pub struct Supervised {
    name: String,
    log: PathBuf,
    pipe: Option<ChildStdin>,
    supervisor: Child,
    // Keeps the folder as long as the program exists.
    _folder: Arc<Folder>,
}

impl Supervised {
    /// Starts `program`. Its output is appended to `NAME.log` in `folder`. `last` is the signal that ends the program
    /// when this value is dropped.
    pub fn spawn(folder: &Arc<Folder>, name: &str, last: &str, program: &Command) -> Self {
        let log = folder.path().join(format!("{name}.log"));
        File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        let mut command = Command::new("sh");
        command.args(["-c", SUPERVISOR, "supervisor"]).arg(&log).arg(last);
        command.arg(program.get_program()).args(program.get_args());
        for (variable, value) in program.get_envs() {
            match value {
                Some(value) => command.env(variable, value),
                None => command.env_remove(variable),
            };
        }
        if let Some(current) = program.get_current_dir() {
            command.current_dir(current);
        }
        // With a separate process group, Ctrl-C in a terminal reaches only the test binary. The supervised programs end
        // in order after it.
        command.process_group(0).stdin(Stdio::piped()).stdout(folder.hold()).stderr(Stdio::null());
        let mut supervisor = command.spawn().expect("sh starts");
        let pipe = supervisor.stdin.take();
        Self { name: name.to_owned(), log, pipe, supervisor, _folder: Arc::clone(folder) }
    }

    /// Returns the name with which the program was started.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Sends a signal, with a name as for `kill -s`. Does nothing if the program has ended.
    pub fn signal(&self, signal: &str) {
        let Some(mut pipe) = self.pipe.as_ref() else { return };
        match pipe.write_all(format!("{signal}\n").as_bytes()) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                panic!("sending {signal} to {}: {error}", self.name)
            }
            _ => {}
        }
    }

    /// Returns the exit code if the program has ended. As in a shell, it is 128 plus the signal's number if a signal
    /// ended the program.
    pub fn ended(&mut self) -> Option<i32> {
        let status = self.supervisor.try_wait().expect("the supervisor can be asked");
        status.map(|status| status.code().unwrap_or(-1))
    }

    /// Waits until the program ends, and returns its exit code.
    pub async fn wait(&mut self, within: Duration) -> i32 {
        let what = format!("{} to end", self.name);
        eventually(&what, within, async || {
            self.ended().ok_or_else(|| format!("it runs; the end of its log:\n{}", self.tail()))
        })
        .await
    }

    /// Returns all output so far: stdout and stderr.
    pub fn log(&self) -> String {
        match fs::read(&self.log) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) => panic!("{}: {error}", self.log.display()),
        }
    }

    /// Returns the last lines of the output.
    pub fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.pipe = None;
        if let Err(error) = self.supervisor.wait() {
            eprintln!("waiting for {} to end: {error}", self.name);
        }
    }
}
