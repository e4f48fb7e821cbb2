//! The way apart is tested by itself: what is in there ends with whoever is outside.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::apart::SCRIPT;
use crate::support::wait::eventually;

/// A program that nobody else runs.
const PROGRAM: &str = "sleep 86399.75";
const GONE_WITHIN: Duration = Duration::from_secs(30);

/// Goes apart once more, from in here, and has the owner let go, as when it is killed: the pipe closes.
pub async fn nothing_outlives_its_owner() {
    let mut command = Command::new("sh");
    // Cgroups as a container has them, and a process in some of them that nobody waits for.
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
    // Where the shells would say that what they waited for was killed.
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

/// Whether a program with these words runs, here or in namespaces below.
fn runs(words: &str) -> bool {
    let processes = fs::read_dir("/proc").expect("it can be listed").flatten();
    let mut arguments = processes.filter_map(|process| fs::read(Path::new(&process.path()).join("cmdline")).ok());
    arguments.any(|arguments| String::from_utf8_lossy(&arguments).replace('\0', " ").trim() == words)
}
