//! Runs the README's commands one after the other in one folder, as a new user does.

use super::{auth_server, page, repository};
use crate::login::scene::AuthServer;
use crate::support::cluster::Cluster;
use crate::support::opsadmin::{Opsadmin, RunningController};
use std::os::unix::fs::symlink;

/// How the README calls the built program, and how this test calls it.
const BUILT: &str = "cargo run --release --";
const INSTALLED: &str = "opsadmin";

/// Returns the text from a heading to the next heading.
fn section<'a>(readme: &'a str, heading: &str) -> &'a str {
    let (_, rest) = readme.split_once(&format!("\n## {heading}\n")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap_or(rest)
}

/// Returns the commands of a section, which are its indented lines.
fn typed(section: &str) -> impl Iterator<Item = String> {
    section.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| line.replace(BUILT, INSTALLED))
}

/// Returns a table of kubectl without its last column, the age.
fn without_ages(table: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.rsplit_once(char::is_whitespace))
        .map(|(row, _)| row.trim_end().into())
        .collect()
}

#[tokio::test]
async fn the_commands_of_the_readme_work() {
    let readme = page("README.md");
    let on_a_cluster = section(&readme, "On a cluster");
    let shown = on_a_cluster.split("```\n").nth(1).expect("it shows a table");
    let is_controller = |line: &String| line.starts_with("opsadmin controller");
    let controller = typed(on_a_cluster).find(is_controller).expect("it starts a controller");

    let cluster = Cluster::of_its_own().await;
    let desk = Opsadmin::new().env("KUBECONFIG", cluster.kubeconfig());
    let desk = desk.args(controller.split_whitespace().skip(1)).args(["--metrics-address", "127.0.0.1:0"]);
    for example in ["examples/quickstart", "examples/login"] {
        desk.shell(&format!("mkdir -p examples && cp -r '{}' examples", repository(example).display())).await;
    }
    symlink(cluster.kubectl_program(), desk.folder().join("bin/kubectl")).expect("a new link");

    let mut running: Option<RunningController> = None;
    let mut server: Option<AuthServer> = None;
    let [first, login] = ["Two commands", "Log in"].map(|heading| typed(section(&readme, heading)));
    let commands = first.chain(login).chain(typed(on_a_cluster));
    // `tests/setup.sh` is skipped because the suite runs already, and the database for production does not exist here.
    for command in commands.filter(|line| !line.starts_with("tests/setup.sh") && !line.contains("postgres://")) {
        if is_controller(&command) {
            running = Some(desk.spawn());
            continue;
        }
        if command.starts_with("opsadmin auth-server") {
            server = Some(auth_server::start(&command, desk.folder()).await);
            continue;
        }
        let command = auth_server::at(server.as_ref(), &command);
        let patience = if command.starts_with("kubectl wait") { " --timeout=55s" } else { "" };
        let kubeconfig = cluster.kubeconfig().display();
        let said = desk.shell(&format!("export KUBECONFIG='{kubeconfig}'; {command}{patience} && echo done")).await;
        let log = running.as_ref().map(RunningController::log).unwrap_or_default();
        let table = said.strip_suffix("done\n").unwrap_or_else(|| panic!("$ {command}\n{said}\n{log}"));
        if command.starts_with("kubectl get") {
            assert_eq!(without_ages(table), without_ages(shown));
        }
        if let Some(server) = server.as_ref().filter(|_| command.contains("login.sh")) {
            let answer: serde_json::Value =
                serde_json::from_str(table).unwrap_or_else(|error| panic!("{error}: {table}"));
            let token = answer["access_token"].as_str().expect("the login works");
            assert_eq!(server.authorize(token, "/plans").await.status, 200);
        }
    }
    let (code, log) = running.expect("a controller runs").terminate(std::time::Duration::from_mins(1)).await;
    assert_eq!(code, 0, "{log}");
}
