//! Tests the test support itself. If it fails, these tests explain the reason more clearly than hundreds of other
//! failures.

use std::env;
use std::fs;
use std::future::pending;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams, WatchParams};
use sqlx::postgres::PgConnection;
use sqlx::{Connection as _, Executor as _, Row as _};

use crate::support::cluster::{SUITE_USER_AGENT, client_of, cluster};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::{Postgres, postgres};
use crate::support::process::{Folder, Supervised};
use crate::support::run::{run, run_blocking};
use crate::support::wait::eventually;

const SOON: Duration = Duration::from_secs(30);

fn config_map(name: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, ..ConfigMap::default() }
}

#[tokio::test]
async fn the_api_server_returns_its_version_and_creates_a_namespace() {
    let cluster = cluster().await;
    let client = cluster.client().await;
    let version = client.apiserver_version().await.expect("the API server answers");
    assert_eq!(version.major, "1");
    assert!(version.git_version.starts_with("v1."), "{version:?}");

    let namespace = cluster.namespace("harness namespace").await;
    let namespaces: Api<Namespace> = Api::all(client);
    let seen = namespaces.get(namespace.name()).await.expect("the namespace is there");
    assert_eq!(seen.status.and_then(|status| status.phase).as_deref(), Some("Active"));

    let name = namespace.name().to_owned();
    drop(namespace);
    let left = namespaces.get_opt(&name).await.expect("the API server answers");
    let phase = left.and_then(|namespace| namespace.status).and_then(|status| status.phase);
    assert!(matches!(phase.as_deref(), None | Some("Terminating")), "{phase:?}");
}

#[tokio::test]
async fn a_secret_is_deleted_with_its_owner() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("garbage collection").await;
    let client = cluster.client().await;
    let owners: Api<ConfigMap> = Api::namespaced(client.clone(), namespace.name());
    let secrets: Api<Secret> = Api::namespaced(client, namespace.name());
    let owner = owners.create(&PostParams::default(), &config_map("owner")).await.expect("the owner is made");
    let dependent = Secret {
        metadata: ObjectMeta {
            name: Some("dependent".into()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".into(),
                kind: "ConfigMap".into(),
                name: "owner".into(),
                uid: owner.metadata.uid.expect("it has a UID"),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        ..Secret::default()
    };
    secrets.create(&PostParams::default(), &dependent).await.expect("the secret is made");

    owners.delete("owner", &DeleteParams::default()).await.expect("the owner is deleted");

    eventually("the secret to be garbage-collected", SOON, async || match secrets.get_opt("dependent").await {
        Ok(None) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn the_audit_log_has_each_request_once_as_soon_as_it_is_answered() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("audit").await;
    let api: Api<ConfigMap> = Api::namespaced(cluster.client().await, namespace.name());

    for number in 1..=3 {
        api.create(&PostParams::default(), &config_map(&format!("map-{number}"))).await.expect("it is made");
    }
    api.list(&ListParams::default()).await.expect("they are listed");
    api.get_opt("another").await.expect("the API server says that it is not there");
    let _open = api.watch(&WatchParams::default(), "0").await.expect("the watch begins");

    let Some(events) = cluster.audit(namespace.name()) else { return };
    let ours: Vec<_> = events
        .iter()
        .filter(|event| event.resource == "configmaps" && event.user_agent == SUITE_USER_AGENT)
        .map(|event| (event.verb.as_str(), event.name.as_str(), event.code, event.is_write()))
        .collect();
    let expected = [
        ("create", "map-1", 201, true),
        ("create", "map-2", 201, true),
        ("create", "map-3", 201, true),
        ("list", "", 200, false),
        ("get", "another", 404, false),
        ("watch", "", 200, false),
    ];
    assert_eq!(ours, expected);
}

#[tokio::test]
async fn the_user_of_a_separate_kubeconfig_has_only_the_granted_rights() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("rights").await;
    let Some(kubeconfig) = cluster.kubeconfig_for("nobody-special", None) else { return };
    let client = client_of(&kubeconfig).await.expect("the kubeconfig is valid");
    let secrets: Api<Secret> = Api::namespaced(client, namespace.name());

    let refused = secrets.list(&ListParams::default()).await.expect_err("nobody granted it");

    assert!(matches!(&refused, kube::Error::Api(status) if status.is_forbidden()), "{refused}");
    assert!(refused.to_string().contains("nobody-special"), "{refused}");
}

#[tokio::test]
async fn kubectl_reaches_the_cluster_of_the_tests() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("kubectl").await;
    let manifest = r#"{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "made"}}"#;

    cluster.kubectl_with(namespace.name(), &["apply", "-f", "-"], manifest).await.succeeded();
    let listed = cluster.kubectl(namespace.name(), &["get", "configmap", "made", "-o", "name"]).await.succeeded();

    assert_eq!(listed.trim(), "configmap/made");
}

async fn tables(url: &str) -> Vec<String> {
    let mut connection = PgConnection::connect(url).await.expect("the database answers");
    let rows = connection
        .fetch_all("SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        .await
        .expect("the tables can be listed");
    connection.close().await.expect("the connection ends in order");
    rows.iter().map(|row| row.get(0)).collect()
}

async fn create_table(url: &str, statement: &'static str) {
    let mut connection = PgConnection::connect(url).await.expect("the database answers");
    connection.execute(statement).await.expect("the table is made");
    connection.close().await.expect("the connection ends in order");
}

#[tokio::test]
async fn two_databases_are_separate_and_are_dropped_with_their_values() {
    let server = postgres().await;
    let one = server.database("harness one").await;
    let two = server.database("harness two").await;

    create_table(one.url(), "CREATE TABLE first (id BIGINT PRIMARY KEY)").await;

    assert_eq!(tables(one.url()).await, ["first"]);
    assert_eq!(tables(two.url()).await, Vec::<String>::new());

    let url = one.url().to_owned();
    // A connected client must not prevent the drop of the database.
    let _connected = PgConnection::connect(&url).await.expect("the database answers");
    drop(one);
    let gone = PgConnection::connect(&url).await.expect_err("the database is dropped");
    assert!(gone.to_string().contains("does not exist"), "{gone}");
}

#[tokio::test]
async fn a_separate_server_can_be_restarted_on_its_port_with_its_data() {
    let mut server = Postgres::new().await;
    let url = server.url("postgres");
    create_table(&url, "CREATE TABLE kept (id BIGINT PRIMARY KEY)").await;

    server.stop().await;
    let refused = PgConnection::connect(&url).await.expect_err("nothing listens");
    assert!(matches!(refused, sqlx::Error::Io(_)), "{refused}");
    server.start().await;
    assert_eq!(tables(&url).await, ["kept"]);

    server.crash().await;
    server.start().await;
    assert_eq!(tables(&url).await, ["kept"]);
}

#[tokio::test]
#[should_panic(expected = "for the moon to answer; last seen: look 2: silence")]
async fn a_wait_that_fails_reports_the_last_state() {
    let mut looks = 0;
    eventually("the moon to answer", Duration::from_millis(10), async || {
        looks += 1;
        Err::<(), _>(format!("look {looks}: silence"))
    })
    .await;
}

#[tokio::test]
async fn a_look_without_an_answer_does_not_use_up_a_wait() {
    let mut looks = 0;
    eventually("a second look", SOON, async || {
        looks += 1;
        if looks == 1 {
            pending::<()>().await;
        }
        Ok::<_, String>(())
    })
    .await;
    assert_eq!(looks, 2);
}

#[tokio::test]
async fn a_command_gets_its_input_and_stdout_and_stderr_are_separate() {
    let mut command = Command::new("sh");
    command.args(["-c", "cat; echo trouble >&2; exit 3"]);

    let finished = run(command, "text", SOON).await;

    assert_eq!(finished.status.code(), Some(3));
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("text", "trouble\n"));
}

#[test]
fn a_command_that_hangs_is_killed() {
    let mut command = Command::new("sleep");
    command.arg("600");

    let problem = run_blocking(command, b"", Duration::from_millis(50)).expect_err("it is not done by then");

    assert!(problem.contains("was not done after 50ms"), "{problem}");
}

#[tokio::test]
async fn the_built_program_runs_in_its_own_folder() {
    let call = Opsadmin::new().args(["--version"]);
    let folder = call.folder().to_path_buf();
    assert!(folder.is_dir());

    call.run().await.succeeded();

    assert!(!folder.exists());
}

#[tokio::test]
async fn a_background_process_is_logged_and_can_be_stopped() {
    let folder = Folder::new("harness");
    let mut program = Command::new("sh");
    program.args(["-c", "trap 'echo ending; exit 7' TERM; echo started; while :; do sleep 0.01; done"]);
    let mut process = Supervised::spawn(&folder, "program", "KILL", &program);
    eventually(
        "the program to start",
        SOON,
        async || {
            if process.log() == "started\n" { Ok(()) } else { Err(process.log()) }
        },
    )
    .await;
    assert_eq!(process.ended(), None);

    process.signal("TERM");

    assert_eq!(process.wait(SOON).await, 7);
    assert_eq!(process.log(), "started\nending\n");
    process.signal("TERM");
}

/// The environment variable of the process that the test below starts. It names the file that the process reports to.
const VICTIM: &str = "OPSADMIN_TEST_HARNESS_VICTIM";

#[tokio::test]
async fn nothing_outlives_a_killed_test_binary() {
    if let Some(report) = env::var_os(VICTIM) {
        return victim(PathBuf::from(report)).await;
    }
    let folder = Folder::new("harness");
    let report = folder.path().join("report");
    let mut itself = Command::new(env::current_exe().expect("the test binary knows where it is"));
    itself.args(["--exact", "harness::nothing_outlives_a_killed_test_binary", "--nocapture"]).env(VICTIM, &report);
    let mut binary = Supervised::spawn(&folder, "victim", "KILL", &itself);
    let (left_folder, left_process) = eventually("the other test binary to start something", SOON, async || {
        let text = fs::read_to_string(&report).map_err(|error| format!("{error}\n{}", binary.tail()))?;
        let mut lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        match (lines.next(), lines.next()) {
            (Some(folder), Some(process)) => Ok((PathBuf::from(folder), process.to_owned())),
            _ => Err(text.clone()),
        }
    })
    .await;
    assert!(left_folder.is_dir());
    assert!(is_running(&left_process).await);

    binary.signal("KILL");

    assert_eq!(binary.wait(SOON).await, 128 + 9);
    eventually("the folder and the process to go", SOON, async || {
        let left = (left_folder.exists(), is_running(&left_process).await);
        if left == (false, false) { Ok(()) } else { Err(format!("(folder, process): {left:?}")) }
    })
    .await;
}

async fn is_running(process: &str) -> bool {
    let mut kill = Command::new("kill");
    kill.args(["-0", process]);
    run(kill, "", SOON).await.status.success()
}

/// Runs in a separate process that the test above kills: starts a program, reports its process id, and waits.
async fn victim(report: PathBuf) {
    let folder = Folder::new("victim");
    let mut program = Command::new("sh");
    program.args(["-c", "echo $$; exec sleep 600"]);
    let process = Supervised::spawn(&folder, "sleeper", "KILL", &program);
    let id = eventually("the program to say who it is", SOON, async || {
        process.log().strip_suffix('\n').map(str::to_owned).ok_or("nothing")
    })
    .await;
    fs::write(report, format!("{}\n{id}\n", folder.path().display())).expect("the report can be written");
    std::future::pending::<()>().await;
}
