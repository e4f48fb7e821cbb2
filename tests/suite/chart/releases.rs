//! Releases of the chart on a real API server: install, upgrade, uninstall, and install again; and two releases beside
//! each other. The clusters of this suite have no nodes, so hooks are left out and no pod runs.

use std::time::Duration;

use serde_json::json;

use super::rendered::values;
use crate::support::cluster::Cluster;
use crate::support::helm::{Helm, chart, first_account};
use crate::support::opsadmin::{Opsadmin, spawn_controller};
use crate::support::process::Folder;
use crate::support::wait::eventually;

/// Installs or upgrades a release.
async fn upgrade(helm: &Helm, release: &str, namespace: &str, name: &str, extra: &[&str]) -> String {
    let (chart, file) = (chart(), values(name).display().to_string());
    let arguments = ["upgrade", "--install", release, &chart, "--namespace", namespace, "--create-namespace"];
    // Where the values file is empty, Helm would use the values of the release before.
    let own = ["--reset-values", "--no-hooks", "--values", &file];
    let arguments = [&arguments[..], &own, extra].concat();
    helm.run(&arguments).await.succeeded()
}

async fn names(cluster: &Cluster, namespace: &str, what: &str) -> String {
    let what: Vec<&str> = what.split(' ').collect();
    cluster
        .kubectl(namespace, &[&["get"][..], &what, &["-o", "jsonpath={.items[*].metadata.name}"]].concat())
        .await
        .succeeded()
}

#[tokio::test]
async fn a_release_is_installed_upgraded_uninstalled_and_installed_again() {
    let cluster = Cluster::of_its_own().await;
    let helm = Helm::of(&cluster).await;
    let notes = upgrade(&helm, "ops", "ops", "default", &[]).await;
    // The notes lead to a first account, which the API server accepts.
    let manifest = first_account(&notes);
    // Without --wait, Helm returns before the API server has the new kind everywhere.
    eventually("the first account to be accepted", Duration::from_secs(30), async || {
        let applied = cluster.kubectl_with("default", &["apply", "-f", "-"], &manifest).await;
        if applied.status.success() { Ok(()) } else { Err(applied.stderr) }
    })
    .await;
    let replicas = ["get", "deployment", "ops-opsadmin-operator", "-o", "jsonpath={.spec.replicas}"];
    assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), "1");
    assert_eq!(names(&cluster, "ops", "pvc").await, "ops-opsadmin-operator-database");

    // The same values change nothing.
    let version = [
        "get",
        "deployment,clusterrole,crd,pvc",
        "-l",
        "app.kubernetes.io/instance=ops",
        "-o",
        "jsonpath={.items[*].metadata.generation}",
    ];
    let before = cluster.kubectl("ops", &version).await.succeeded();
    upgrade(&helm, "ops", "ops", "default", &[]).await;
    assert_eq!(cluster.kubectl("ops", &version).await.succeeded(), before);
    upgrade(&helm, "ops", "ops", "postgresql", &[]).await;
    assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), "2");
    upgrade(&helm, "ops", "ops", "postgresql", &["--set=replicas=3"]).await;
    assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), "3");
    helm.run(&["rollback", "ops", "--namespace", "ops", "--no-hooks"]).await.succeeded();
    assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), "2");
    an_auth_server_comes_and_goes(&cluster, &helm).await;
    upgrade(&helm, "ops", "ops", "default", &[]).await;
    assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), "1");

    // The Secret that the hook creates, and what else must outlive the release.
    cluster.kubectl("ops", &["create", "secret", "generic", "ops-opsadmin-operator-keyring"]).await.succeeded();
    helm.run(&["uninstall", "ops", "--namespace", "ops"]).await.succeeded();
    assert_eq!(names(&cluster, "ops", "deployment,role,rolebinding").await, "");
    assert_eq!(names(&cluster, "", "clusterrole,clusterrolebinding -l app.kubernetes.io/instance=ops").await, "");
    assert_eq!(names(&cluster, "ops", "pvc").await, "ops-opsadmin-operator-database");
    assert_eq!(names(&cluster, "ops", "secret").await, "ops-opsadmin-operator-keyring");
    assert_eq!(names(&cluster, "default", "apiaccount").await, "first-account", "the definition is kept");

    upgrade(&helm, "ops", "ops", "default", &[]).await;
    assert_eq!(names(&cluster, "ops", "deployment").await, "ops-opsadmin-operator");

    // A second release for other namespaces, with another name and in another namespace, beside the first.
    for namespace in ["partners", "staging"] {
        cluster.kubectl("", &["create", "namespace", namespace]).await.succeeded();
    }
    upgrade(&helm, "ops", "test", "namespaces", &[]).await;
    upgrade(&helm, "other", "test", "namespaces", &[]).await;
    assert_eq!(
        names(&cluster, "partners", "role").await,
        "test-ops-opsadmin-operator test-other-opsadmin-operator",
        "a Role for each release"
    );
    helm.run(&["uninstall", "other", "--namespace", "test"]).await.succeeded();
    assert_eq!(names(&cluster, "partners", "role").await, "test-ops-opsadmin-operator");
    assert_eq!(names(&cluster, "ops", "deployment").await, "ops-opsadmin-operator", "the first release is as it was");

    everything_is_removed(&cluster, &helm).await;
}

/// Adds an auth server to a release on PostgreSQL, moves it to SQLite and back, and removes it.
async fn an_auth_server_comes_and_goes(cluster: &Cluster, helm: &Helm) {
    let server = "ops-opsadmin-operator-auth-server";
    let replicas = ["get", "deployment", server, "-o", "jsonpath={.spec.replicas} {.spec.strategy.type}"];
    for (values, expected) in
        [("auth-server", "2 RollingUpdate"), ("auth-server-sqlite", "1 Recreate"), ("auth-server", "2 RollingUpdate")]
    {
        upgrade(helm, "ops", "ops", values, &[]).await;
        assert_eq!(cluster.kubectl("ops", &replicas).await.succeeded(), expected);
    }
    let subjects = ["get", "rolebinding,clusterrolebinding", "-A", "-o", "jsonpath={.items[*].subjects[*].name}"];
    let subjects = cluster.kubectl("", &subjects).await.succeeded();
    assert!(subjects.contains("ops-opsadmin-operator") && !subjects.contains(server), "{subjects}");
    let paths = ["get", "configmap", &format!("{server}-paths"), "-o", "jsonpath={.data.paths\\.yaml}"];
    let paths = cluster.kubectl("ops", &paths).await.succeeded();
    assert!(paths.contains("/enrollments/**"), "{paths}");
    let own = "deployment,service,pdb,serviceaccount -l app.kubernetes.io/component=auth-server";
    assert_eq!(names(cluster, "ops", own).await.split(' ').count(), 5);
    upgrade(helm, "ops", "ops", "postgresql", &[]).await;
    assert_eq!(names(cluster, "ops", own).await, "");
}

/// Removes everything as the guide says, with a controller as a process. It has put finalizers on the resources.
async fn everything_is_removed(cluster: &Cluster, helm: &Helm) {
    let folder = Folder::new("removed");
    let url = format!("sqlite://{}", folder.path().join("opsadmin.db").display());
    let keyring = folder.path().join("opsadmin.keyring");
    let init = Opsadmin::new().args(["keyring", "init", "--keyring"]).args([&keyring]);
    init.run().await.succeeded();
    cluster.kubectl("", &["create", "namespace", "apps"]).await.succeeded();
    let controller = spawn_controller(cluster.kubeconfig(), &["default", "apps"], &url, &keyring, &[]);
    for (namespace, name, policy) in [("apps", "retained", "Retain"), ("apps", "removed", "Delete")] {
        let account = json!({
            "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name },
            "spec": { "deletionPolicy": policy },
        });
        cluster.kubectl_with(namespace, &["apply", "-f", "-"], &account.to_string()).await.succeeded();
    }
    let ready = ["wait", "apiaccount", "--all", "--for=condition=Ready", "--timeout=60s"];
    for namespace in ["default", "apps"] {
        cluster.kubectl(namespace, &ready).await.succeeded();
    }

    cluster.kubectl("", &["delete", "apiaccounts", "--all", "--all-namespaces", "--timeout=60s"]).await.succeeded();
    assert_eq!(names(cluster, "apps", "secret").await, "retained-opsadmin");
    let (code, log) = controller.terminate(Duration::from_mins(1)).await;
    assert_eq!(code, 0, "{log}");
    for (release, namespace) in [("ops", "test"), ("ops", "ops")] {
        helm.run(&["uninstall", release, "--namespace", namespace]).await.succeeded();
    }
    cluster.kubectl("", &["delete", "crd", "apiaccounts.ops-admin.com", "--timeout=60s"]).await.succeeded();
    let all = ["apps", "ops", "test", "partners", "staging"];
    // Fails if a namespace stays in the phase Terminating.
    cluster.kubectl("", &[&["delete", "namespace", "--timeout=60s"], &all[..]].concat()).await.succeeded();
    assert_eq!(
        names(cluster, "", "clusterrole,clusterrolebinding -l app.kubernetes.io/name=opsadmin-operator").await,
        ""
    );
    let account = Opsadmin::new().args(["get", "retained", "--database", &url, "-o", "json"]).run().await.succeeded();
    assert!(account.contains("opsa_pk_"), "a retained account keeps its keys: {account}");
}
