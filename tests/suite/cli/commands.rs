//! The smaller commands, such as `crd`, `migrate` and `keyring init`, and the behaviour that all commands share.

use std::fs;
use std::process::{Command, Stdio};

use super::help::commands;
use super::working_folder::{WorkingFolder, account};
use crate::database_contract::fixture::{Fresh, migrate_as_another};
use crate::support::opsadmin::Opsadmin;
use crate::support::ports::free_port;
use crate::support::postgres::postgres;
use crate::support::process::Folder;

const DEFINITION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/apiaccounts.ops-admin.com.yaml");

#[tokio::test]
async fn crd_prints_the_checked_in_definition() {
    let printed = Opsadmin::new().args(["crd"]).run().await.succeeded();
    let checked_in = fs::read_to_string(DEFINITION).expect("it is checked in");
    assert!(printed == checked_in, "run: opsadmin crd > crds/apiaccounts.ops-admin.com.yaml");
    let json = Opsadmin::new().args(["crd", "-o", "json"]).run().await.succeeded();
    let json: serde_json::Value = serde_json::from_str(&json).expect("it is JSON");
    let yaml: serde_json::Value = serde_saphyr::from_str(&printed).expect("it is YAML");
    assert_eq!(json, yaml);
}

#[tokio::test]
async fn migrate_updates_a_database_once() {
    let database = postgres().await.database("migrate").await;
    let migrate = async || Opsadmin::new().args(["migrate", "--database", database.url()]).run().await.succeeded();
    let status = async || {
        let status = Opsadmin::new().args(["migrate", "--status", "--database", database.url()]).run().await;
        (status.status.code(), status.stdout)
    };
    let (code, missing) = status().await;
    assert!(code == Some(2) && missing.starts_with("missing "), "{missing}");
    assert!(migrate().await.starts_with("applied "));
    let (code, up_to_date) = status().await;
    assert!(code == Some(0) && up_to_date.starts_with("the database is up to date\n"), "{up_to_date}");
    assert!(up_to_date.contains("programs that know migration 0004 can work with it"), "{up_to_date}");
    assert_eq!(migrate().await, "the database is up to date\n");
}

#[tokio::test]
async fn an_older_program_works_until_the_schema_needs_a_newer_one() {
    let fresh = Fresh::sqlite();
    fresh.open().await.close().await;
    migrate_as_another(&fresh, usize::MAX, &[("9000_colours", "CREATE TABLE colours (name TEXT);")]).await;
    let call = async |command: &[&str]| Opsadmin::new().args(command).args(["--database", fresh.url()]).run().await;
    let status = call(&["migrate", "--status"]).await.succeeded();
    assert!(status.contains("9000_colours was made by a newer program\n"), "{status}");
    assert!(call(&["affiliates", "add", "North"]).await.succeeded().contains("North"));
    call(&["migrate"]).await.succeeded();

    fresh.by_hand("UPDATE schema_compatibility SET least_version = 9000").await.unwrap();
    for command in [&["migrate", "--status"][..], &["migrate"], &["affiliates", "add", "South"], &["get"]] {
        let finished = call(command).await;
        assert_eq!(finished.status.code(), Some(1), "{command:?} {finished:?}");
        assert!(finished.stderr.contains("a newer program (9000_colours)"), "{command:?} {finished:?}");
    }
}

#[tokio::test]
async fn migrate_status_creates_no_database() {
    let folder = tempfile::tempdir().expect("a new folder");
    let elsewhere = folder.path().join("none.db");
    let url = format!("sqlite://{}", elsewhere.display());
    let finished = Opsadmin::new().args(["migrate", "--status", "--database", &url]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("there is no such file"), "{finished:?}");
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn a_keyring_is_created_once_and_never_overwritten() {
    let call = Opsadmin::new();
    let keyring = call.folder().join("k.keyring");
    let init = || Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]);
    assert!(init().run().await.succeeded().contains("back it up"));
    let before = fs::read(&keyring).expect("it is there");
    let finished = init().run().await;
    assert_eq!(finished.status.code(), Some(1));
    assert!(finished.stderr.contains("exists already; it is left as it is"), "{}", finished.stderr);
    assert_eq!(fs::read(&keyring).expect("it is there"), before);
}

#[tokio::test]
async fn a_mistyped_command_has_its_own_exit_code() {
    let finished = Opsadmin::new().args(["aply"]).run().await;
    assert_eq!(finished.status.code(), Some(2));
    assert!(finished.stderr.contains("similar subcommand exists: 'apply'"), "{}", finished.stderr);
}

#[tokio::test]
async fn every_command_refuses_an_invalid_namespace() {
    let mut asked = Vec::new();
    for (words, command) in commands() {
        if command.get_arguments().any(|option| option.get_long() == Some("namespace")) {
            let finished = Opsadmin::new().args(&words).args(["--namespace", "a,b"]).run().await;
            assert_eq!(finished.status.code(), Some(2), "{words:?}: {finished:?}");
            let said = "invalid value 'a,b' for '--namespace <NAMESPACE>': no namespace can have this name";
            assert!(finished.stderr.contains(said), "{words:?}: {finished:?}");
            asked.push(words.join(" "));
        }
    }
    for command in ["controller", "apply", "plan", "get", "release", "render", "export"] {
        assert!(asked.iter().any(|asked| asked == command), "{command}: {asked:?}");
    }
}

#[tokio::test]
async fn an_unusable_kubeconfig_is_reported_once_with_the_reason() {
    let call = || Opsadmin::new().args(["release"]);
    for (call, named) in [
        (call().env("KUBECONFIG", "/no/such"), "the kubeconfig in $KUBECONFIG: "),
        (call().args(["--kubeconfig", "/no/such"]), "the kubeconfig /no/such: "),
    ] {
        let said = call.run().await.stderr;
        assert!(said.starts_with(&format!("opsadmin: cannot use {named}")), "{said}");
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
    }
}

#[tokio::test]
async fn no_possible_token_of_a_kubeconfig_or_login_program_is_shown() {
    let folder = Folder::new("kubeconfig");
    let kubeconfig = |user: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n\
             clusters: [{{name: here, cluster: {{server: 'http://127.0.0.1:1'}}}}]\n\
             users:\n- name: me\n  user: {user}\n"
        );
        let file = folder.path().join("config");
        fs::write(&file, text).expect("it can be written");
        file
    };
    let login = |script: &str| {
        format!(
            "{{exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c, \"{script}\"]}}}}"
        )
    };
    let of_the_login = "the kubeconfig's login program failed with exit status: 1: log in first";
    for (user, reason) in [
        ("\n    token: hush\n   as: x", "it is not a valid kubeconfig at line 10, column 4"),
        ("hush", "it is not a valid kubeconfig at line 8, column 9"),
        ("{client-certificate-data: 'hush!'}", "failed to load client certificate: failed to decode base64 data"),
        (&login("echo hush; echo log in first >&2; exit 1"), of_the_login),
        (&login("echo hush: ["), "the answer of the kubeconfig's login program cannot be read"),
    ] {
        let file = kubeconfig(user);
        let finished = Opsadmin::new().args(["release"]).args(["--kubeconfig".as_ref(), file.as_os_str()]).run().await;
        let said = finished.stderr;
        assert!(said.contains(reason), "{user}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains("hush"), "{said}");
        assert!(said.starts_with(&format!("opsadmin: cannot use the kubeconfig {}: ", file.display())), "{said}");
    }
}

#[tokio::test]
async fn an_unreachable_cluster_is_reported_with_the_option_for_its_id() {
    let folder = Folder::new("away");
    let kubeconfig = folder.path().join("config");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
         contexts: [{{name: here, context: {{cluster: here, user: me}}}}]\n\
         clusters: [{{name: here, cluster: {{server: 'http://127.0.0.1:{}'}}}}]\n\
         users: [{{name: me, user: {{}}}}]\n",
        free_port()
    );
    fs::write(&kubeconfig, text).expect("it can be written");
    let desk = WorkingFolder::new();
    desk.write("acme.yaml", &account("acme", "{}"));
    desk.apply(&[]).await.succeeded();
    for command in [&["get", "-n", "default"][..], &["suspend", "-n", "default", "acme", "--reason", "unpaid"]] {
        let call = || Opsadmin::new().args(command).args(["--database", &desk.database]);
        let refused = call().args(["--kubeconfig"]).args([&kubeconfig]).run().await;
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        for said in ["Connection refused", "; --cluster-id ID spares", "the account's own name without --namespace"] {
            assert!(refused.stderr.contains(said), "{said}: {refused:?}");
        }
        call().args(["--cluster-id", "local"]).run().await.succeeded();
    }
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_opsadmin"))
        .arg("crd")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let finished = child.wait_with_output().expect("it ends");
    assert_eq!((finished.status.code(), String::from_utf8_lossy(&finished.stderr).as_ref()), (Some(0), ""));
}
