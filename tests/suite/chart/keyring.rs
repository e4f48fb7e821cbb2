//! `opsadmin keyring init --secret`, with the rights and the arguments of the chart's hook: it creates a keyring once,
//! never replaces one, and refuses where the database has sealed secret keys.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::rendered::{is_hook, objects, of_kind, values};
use crate::cli::staff_database::StaffDatabase;
use crate::support::cluster::{Cluster, cluster};
use crate::support::helm::Helm;
use crate::support::namespace::TestNamespace;
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;

/// The hook in a namespace, where its Role is applied.
struct Hook {
    cluster: &'static Cluster,
    namespace: TestNamespace,
    arguments: Vec<String>,
    secret: String,
    kubeconfig: Option<PathBuf>,
}

impl Hook {
    async fn new(test: &str) -> Self {
        let cluster = cluster().await;
        let namespace = cluster.namespace(test).await;
        let rendered = Helm::new().await.template("ops", namespace.name(), &values("postgresql-parts"), &[]).await;
        let hooks: Vec<Value> = objects(&rendered.succeeded()).into_iter().filter(is_hook).collect();
        assert_eq!(
            hooks.iter().map(|hook| hook["kind"].as_str().expect("a kind")).collect::<Vec<_>>(),
            ["ServiceAccount", "Role", "RoleBinding", "Job"]
        );
        for hook in hooks.iter().filter(|hook| hook["kind"] != "Job") {
            cluster.kubectl_with("", &["apply", "-f", "-"], &hook.to_string()).await.succeeded();
        }
        let pod = &of_kind(&hooks, "Job")[0]["spec"]["template"]["spec"];
        let arguments = pod["containers"][0]["args"].as_array().expect("a list");
        let account = pod["serviceAccountName"].as_str().expect("a name");
        let user = format!("system:serviceaccount:{}:{account}", namespace.name());
        Self {
            cluster,
            kubeconfig: cluster.kubeconfig_for(&user, Some("system:serviceaccounts")),
            arguments: arguments.iter().map(|argument| argument.as_str().expect("a text").to_owned()).collect(),
            namespace,
            secret: "ops-opsadmin-operator-keyring".to_owned(),
        }
    }

    /// Runs the program as the hook's pod does.
    async fn run(&self, database: &str, extra: &[&str]) -> Finished {
        let kubeconfig = self.kubeconfig.as_deref().unwrap_or(self.cluster.kubeconfig());
        let call = Opsadmin::new().args(&self.arguments).args(extra).args(["--kubeconfig"]).args([kubeconfig]);
        call.env("OPSADMIN_DATABASE_URL", database).run().await
    }

    /// Returns the keyring in the Secret.
    async fn keyring(&self) -> Option<String> {
        let get = ["get", "secret", &self.secret, "--ignore-not-found", "-o", "jsonpath={.data.keyring}"];
        let found = self.cluster.kubectl(self.namespace.name(), &get).await.succeeded();
        (!found.is_empty()).then_some(found)
    }

    async fn delete(&self) {
        self.cluster.kubectl(self.namespace.name(), &["delete", "secret", &self.secret]).await.succeeded();
    }
}

#[tokio::test]
async fn the_hook_creates_a_keyring_once_and_never_replaces_it() {
    let hook = Hook::new("hook-once").await;
    let database = postgres().await.database("hook-once").await;
    let url = database.url();
    let created = hook.run(url, &[]).await.succeeded();
    let place = format!("{}/{}", hook.namespace.name(), hook.secret);
    assert!(created.starts_with(&format!("created the Secret {place} with a new keyring; back it up")), "{created}");
    let keyring = hook.keyring().await.expect("it was created");
    for _ in 0..2 {
        let again = hook.run(url, &[]).await.succeeded();
        assert_eq!(again, format!("the Secret {place} exists already; it is left as it is\n"));
        assert_eq!(hook.keyring().await.as_ref(), Some(&keyring));
    }
    let told: Value = serde_json::from_str(&hook.run(url, &["-o", "json"]).await.succeeded()).expect("it is JSON");
    assert_eq!((&told["keyring"], &told["created"]), (&json!(place), &json!(false)), "{told}");

    // An upgrade while the database is down needs no keyring, so it does not fail here.
    hook.run("postgres://opsadmin@127.0.0.1:1/none", &[]).await.succeeded();

    let other = hook.run(url, &["--secret-key=other"]).await;
    assert_eq!(other.status.code(), Some(2), "an option that is given twice: {other:?}");
    let edit = json!({ "stringData": { "keyring": "hush" } }).to_string();
    let patch = ["patch", "secret", &hook.secret, "-p", &edit];
    hook.cluster.kubectl(hook.namespace.name(), &patch).await.succeeded();
    let invalid = hook.run(url, &[]).await;
    assert!(
        !invalid.status.success() && invalid.stderr.contains("is left as it is: this is no keyring"),
        "{invalid:?}"
    );
    assert!(!invalid.stderr.contains("hush"), "{invalid:?}");
}

#[tokio::test]
async fn several_hooks_at_once_create_one_keyring() {
    let hook = Hook::new("hook-race").await;
    let database = postgres().await.database("hook-race").await;
    let runs = futures::future::join_all((0..6).map(|_| hook.run(database.url(), &["-o", "json"]))).await;
    let told: Vec<Value> =
        runs.into_iter().map(|run| serde_json::from_str(&run.succeeded()).expect("it is JSON")).collect();
    assert_eq!(told.iter().filter(|one| one["created"] == true).count(), 1, "{told:?}");
    assert!(told.iter().all(|one| one["seals"] == told[0]["seals"]), "{told:?}");
}

#[tokio::test]
async fn the_hook_refuses_a_new_keyring_where_the_database_has_sealed_keys() {
    let hook = Hook::new("hook-sealed").await;
    let office = StaffDatabase::postgres("hook sealed").await;
    // The tables alone seal nothing.
    hook.run(office.database.url(), &[]).await.succeeded();
    hook.delete().await;

    office.apply(&[("acme", json!({}))]).await;
    let refused = hook.run(office.database.url(), &[]).await;
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("restore the Secret from its backup"), "{refused:?}");
    // Without the record of migrations, the table of keys still counts.
    office.by_hand("DROP TABLE _sqlx_migrations").await;
    assert_eq!(hook.run(office.database.url(), &[]).await.status.code(), Some(1));
    assert_eq!(hook.keyring().await, None);

    let down = hook.run("postgres://opsadmin@127.0.0.1:1/none", &[]).await;
    assert_eq!(down.status.code(), Some(1), "{down:?}");
    assert!(down.stderr.contains("no keyring was created"), "{down:?}");
    assert_eq!(hook.keyring().await, None);
}

#[tokio::test]
async fn the_command_says_what_it_needs() {
    let call = async |arguments: &[&str]| Opsadmin::new().args(["keyring", "init"]).args(arguments).run().await;
    let no_database = call(&["--secret", "a/b"]).await;
    assert!(no_database.stderr.contains("give --database URL or OPSADMIN_DATABASE_URL"), "{no_database:?}");
    for place in ["b", "a/", "a/b/c", "A/b"] {
        let refused = call(&["--secret", place, "--database", "sqlite://none.db"]).await;
        assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    }
    let both = call(&["--secret", "a/b", "--keyring", "k", "--database", "sqlite://none.db"]).await;
    assert_eq!(both.status.code(), Some(2), "{both:?}");
}
