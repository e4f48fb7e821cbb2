//! Tests `apart.sh`: everything in the namespaces ends when the parent process ends.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::apart::SCRIPT;
use crate::support::wait::eventually;

/// A command line that no other process on the machine has.
const PROGRAM: &str = "sleep 86399.75";
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Runs `apart.sh` from inside the namespaces, and closes the pipe, as when the parent process is killed.
pub async fn nothing_outlives_its_owner() {
    let mut command = Command::new("sh");
    // Creates cgroups as a container has them, and puts into some of them a process that no shell waits for.
    let inside = format!(
        r#"{PROGRAM} &
        for cgroup in /sys/fs/cgroup$OPSADMIN_PODS_CGROUP /sys/fs/cgroup/*$OPSADMIN_PODS_CGROUP; do
            [ -d "$cgroup" ] || continue
            mkdir -p "$cgroup/kubepods/pod"
            # Not every kind takes a process without further ado.
            echo $! 2>&1 >"$cgroup/kubepods/pod/cgroup.procs" | true
            echo "$cgroup"
        done
        echo ready
        wait"#
    );
    command.arg(SCRIPT).args(["sh", "-c", &inside]).stdin(Stdio::piped()).stdout(Stdio::piped());
    // The shells would report that their child was killed.
    command.stderr(Stdio::null());
    let mut apart = command.spawn().expect("sh starts");
    let said = BufReader::new(apart.stdout.take().expect("it is a pipe")).lines().map(|line| line.expect("it is text"));
    let cgroups: Vec<PathBuf> = said.take_while(|line| line != "ready").map(PathBuf::from).collect();
    assert!(!cgroups.is_empty() && cgroups.iter().all(|cgroup| cgroup.is_dir()), "{cgroups:?}");
    assert!(runs(PROGRAM));

    drop(apart.stdin.take());
    eventually("apart.sh to end", GONE_WITHIN, async || match apart.try_wait().expect("it can be asked") {
        Some(_) => Ok(()),
        None => Err("it runs"),
    })
    .await;
    assert!(!runs(PROGRAM), "a process was left");
    assert!(!cgroups.iter().any(|cgroup| cgroup.exists()), "a cgroup was left: {cgroups:?}");
}

/// Returns whether a process with this command line runs in this namespace or in a namespace below it.
fn runs(words: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it can be listed").flatten();
    let mut arguments = processes.filter_map(|process| fs::read(Path::new(&process.path()).join("cmdline")).ok());
    arguments.any(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " ").trim() == words)
}
