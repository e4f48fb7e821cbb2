//! Runs a command until it ends.

use std::io::{Read, Write as _};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// A command that has ended, with all its output.
#[derive(Debug)]
pub struct Finished {
    /// The exit status.
    pub status: ExitStatus,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl Finished {
    /// Returns the standard output. Panics with the whole output if the command failed.
    #[track_caller]
    pub fn succeeded(self) -> String {
        assert!(self.status.success(), "{}\nstdout: {}\nstderr: {}", self.status, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a command with `input` as its standard input. Kills the command and fails the test if it takes longer than
/// `within`.
pub async fn run(command: Command, input: impl Into<Vec<u8>>, within: Duration) -> Finished {
    let input = input.into();
    let finished = tokio::task::spawn_blocking(move || run_blocking(command, &input, within));
    match finished.await.expect("the thread that runs the command does not panic") {
        Ok(finished) => finished,
        Err(problem) => panic!("{problem}"),
    }
}

/// Runs a command like [`run`], without a runtime. Returns an error if the command could not be started or took too
/// long.
pub fn run_blocking(mut command: Command, input: &[u8], within: Duration) -> Result<Finished, String> {
    let deadline = Instant::now() + within;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{command:?} does not start: {error}"))?;
    let mut stdin = child.stdin.take().expect("stdin is a pipe");
    let stdout = child.stdout.take().expect("stdout is a pipe");
    let stderr = child.stderr.take().expect("stderr is a pipe");
    thread::scope(|threads| {
        // The error is ignored, because a command need not read all its input. Its exit status shows whether it
        // succeeded.
        threads.spawn(move || drop(stdin.write_all(input)));
        let stdout = threads.spawn(|| read_all(stdout));
        let stderr = threads.spawn(|| read_all(stderr));
        let mut late = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("the command can be asked") {
                break status;
            }
            if !late && Instant::now() > deadline {
                late = true;
                child.kill().expect("the command can be killed");
            }
            thread::sleep(Duration::from_millis(2));
        };
        let stdout = stdout.join().expect("reading stdout does not panic");
        let stderr = stderr.join().expect("reading stderr does not panic");
        if late {
            return Err(format!("{command:?} was not done after {within:?}\nstdout: {stdout}\nstderr: {stderr}"));
        }
        Ok(Finished { status, stdout, stderr })
    })
}

fn read_all(mut source: impl Read) -> String {
    let mut bytes = Vec::new();
    if let Err(error) = source.read_to_end(&mut bytes) {
        bytes.extend_from_slice(format!("\n(reading on failed: {error})").as_bytes());
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
