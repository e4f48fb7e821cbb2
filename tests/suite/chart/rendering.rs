//! A table of values files: each is rendered, linted and accepted by the API server. Values that make no sense are
//! refused with what to change.

use serde_json::{Value, json};

use super::rendered::{deployment, objects, of_kind, values};
use crate::support::cluster::cluster;
use crate::support::helm::{Helm, chart};

const TABLE: [&str; 8] = [
    "default",
    "postgresql",
    "postgresql-parts",
    "namespaces",
    "everything",
    "service-monitor",
    "auth-server",
    "auth-server-sqlite",
];
/// Kinds of the Prometheus Operator, which the test cluster does not have.
const OF_PROMETHEUS: &str = "monitoring.coreos.com/v1";

#[tokio::test]
async fn each_values_file_is_linted_and_accepted_by_the_api_server() {
    let cluster = cluster().await;
    let helm = Helm::new().await;
    for name in TABLE {
        let file = values(name).display().to_string();
        let linted = helm.run(&["lint", &chart(), "--strict", "--values", &file]).await.succeeded();
        assert!(linted.contains("0 chart(s) failed") && !linted.contains("[WARNING]"), "{name}: {linted}");

        let namespace = cluster.namespace("chart-dry").await;
        let rendered = helm.template("ops", namespace.name(), &values(name), &[]).await.succeeded();
        assert!(!rendered.lines().any(|line| line.ends_with(' ')), "{name}: white space at the end of a line");
        // The namespaces of the values file do not exist.
        let rendered = rendered.replace("namespace: partners\n", &format!("namespace: {}\n", namespace.name()));
        let rendered = rendered.replace("namespace: staging\n", &format!("namespace: {}\n", namespace.name()));
        let known: Vec<Value> =
            objects(&rendered).into_iter().filter(|object| object["apiVersion"] != OF_PROMETHEUS).collect();
        let expected = known.len();
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": known }).to_string();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
        let arguments = [&arguments[..], &["-o", "name", "-f", "-"]].concat();
        let out = cluster.kubectl_with(namespace.name(), &arguments, &list).await;
        let accepted = out.succeeded();
        assert_eq!(accepted.lines().count(), expected, "{name}: {accepted}");
    }
}

#[tokio::test]
async fn values_that_make_no_sense_are_refused_with_what_to_change() {
    let helm = Helm::new().await;
    for (name, set, message) in [
        ("default", "replicas=2", "2 replicas cannot share an SQLite file: set replicas to 1, or set database.type"),
        ("default", "keyring.create=true", "the controller itself creates the keyring beside the database"),
        ("default", "leaderElection.mode=on", "SQLite has one replica and no election"),
        ("default", "database.type=postgresql", "set existingSecret to a Secret with the database URL"),
        ("default", "database.type=mysql", "'/database/type': value must be one of 'sqlite', 'postgresql'"),
        ("default", "podMonitor.enabled=true,serviceMonitor.enabled=true", "enable one of them"),
        ("default", "serviceAccount.create=false", "name the existing ServiceAccount"),
        ("default", "databse.type=sqlite", "additional properties 'databse' not allowed"),
        ("default", "image.pullpolicy=Always", "additional properties 'pullpolicy' not allowed"),
        ("default", "image.digest=sha256:1", "'/image/digest': 'sha256:1' does not match pattern"),
        ("default", "image.tag=a b", "'/image/tag'"),
        ("default", "controller.concurrency=0", "'/controller/concurrency': minimum: got 0, want 1"),
        ("default", "controller.deletionBrake=101", "'/controller/deletionBrake': maximum: got 101, want 100"),
        ("default", "controller.sweepInterval=5", "'/controller/sweepInterval': got number, want null or string"),
        ("default", "controller.unknownAffiliate=ignore", "'/controller/unknownAffiliate'"),
        ("default", "watchNamespaces={a_b}", "'/watchNamespaces/0'"),
        ("default", "watchNamespaces={a,a}", "'/watchNamespaces': items at 0 and 1 are equal"),
        ("default", "commonLabels.a=1", "'/commonLabels/a': got number, want string"),
        ("default", "grants.mode=maybe", "'/grants/mode'"),
        ("postgresql", "keyring.existingSecret=", "set keyring.existingSecret to a Secret with a keyring"),
        ("postgresql", "keyring.create=true", "set existingSecret, or set create to true, and not both"),
        ("postgresql", "leaderElection.mode=off", "off is for one replica"),
        ("postgresql-parts", "database.postgresql.host=u:p@h", "'/database/postgresql/host'"),
        ("postgresql-parts", "database.postgresql.tls.mode=on", "'/database/postgresql/tls/mode'"),
        ("postgresql-parts", "database.postgresql.tls.caSecret=a", "set caSecret or caConfigMap, and not both"),
        ("auth-server", "authServer.issuer=", "set it to the URL at which partners reach the auth server"),
        ("auth-server", "authServer.issuer=auth.example.com", "'/authServer/issuer'"),
        ("auth-server", "authServer.internalNetworks=null", "list the networks of your proxies and of Prometheus"),
        ("auth-server", "authServer.internalNetworks={pods}", "'/authServer/internalNetworks/0'"),
        ("auth-server", "authServer.database.existingSecret=", "a Secret with the URL of the auth server's own role"),
        ("auth-server", "authServer.database.existingSecret=opsadmin-database", "give it a role of its own"),
        ("auth-server", "database.postgresql.host=h,authServer.database.user=opsadmin", "give it a role of its own"),
        ("auth-server", "authServer.tls.internal=true", "it needs a certificate: set authServer.tls.existingSecret"),
        ("auth-server", "authServer.serviceAccount.create=false", "name the existing ServiceAccount"),
        ("auth-server", "networkPolicy.enabled=true", "choose the pods of your proxies"),
        ("auth-server", "authServer.paths.Accounts[0].paths={/a}", "additional properties 'Accounts' not allowed"),
        ("auth-server", "authServer.paths.Plans[0].paths={plans}", "'/authServer/paths/Plans/0/paths/0'"),
        ("auth-server", "authServer.tokenLifetime=5", "'/authServer/tokenLifetime': got number, want null or string"),
        ("auth-server", "authServer.service.type=ExternalName", "'/authServer/service/type'"),
        (
            "auth-server-sqlite",
            "authServer.replicas=2",
            "2 replicas cannot share an SQLite file: set authServer.replicas",
        ),
        ("auth-server-sqlite", "database.sqlite.accessModes={ReadWriteOncePod}", "use ReadWriteOnce"),
    ] {
        let refused = helm.template("ops", "ops", &values(name), &["--set", set]).await;
        assert!(!refused.status.success() && refused.stderr.contains(message), "{name} {set}: {refused:?}");
    }
}

#[tokio::test]
async fn the_values_arrive_in_the_pod() {
    let helm = Helm::new().await;
    let pod = async |name: &str| {
        let all = objects(&helm.template("ops", "ops", &values(name), &[]).await.succeeded());
        deployment(&all, "controller")["spec"].clone()
    };
    let variable = |spec: &Value, name: &str| {
        let all = spec["template"]["spec"]["containers"][0]["env"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|variable| variable["name"] == name).map_or(Value::Null, |found| found["value"].clone())
    };

    let small = pod("default").await;
    assert_eq!((&small["replicas"], &small["strategy"]["type"]), (&json!(1), &json!("Recreate")));
    assert_eq!(variable(&small, "OPSADMIN_DATABASE_URL"), "sqlite:///var/lib/opsadmin/opsadmin.db");
    assert_eq!(small["template"]["spec"]["securityContext"]["fsGroupChangePolicy"], "OnRootMismatch");

    let large = pod("postgresql").await;
    assert_eq!((&large["replicas"], &large["strategy"]["type"]), (&json!(2), &json!("RollingUpdate")));
    assert_eq!(variable(&large, "OPSADMIN_LEASE_NAME"), "ops-opsadmin-operator");

    let parts = pod("postgresql-parts").await;
    assert_eq!(
        variable(&parts, "OPSADMIN_DATABASE_URL"),
        "postgres://ops%20admin%2F1@db.example.com:5432/accounts?sslmode=verify-full\
         &sslrootcert=/etc/opsadmin-database-ca/ca.crt"
    );
    assert_eq!(variable(&parts, "OPSADMIN_LEASE_NAME"), "opsadmin");
    assert_eq!(variable(&parts, "OPSADMIN_LEADER_ELECTION"), "on");
    let image = &parts["template"]["spec"]["containers"][0]["image"];
    assert!(image.as_str().is_some_and(|image| image.contains("opsadmin-operator@sha256:0123")), "{image}");

    let everything = pod("everything").await;
    let arguments = everything["template"]["spec"]["containers"][0]["args"].as_array().expect("a list").clone();
    let mut call = crate::support::opsadmin::Opsadmin::new();
    call = call.args(arguments.iter().map(|argument| argument.as_str().expect("a text")));
    // The program knows each option and accepts its value.
    call.args(["--help"]).run().await.succeeded();
    for option in ["--concurrency=8", "--journal-retention=365d", "--creation-brake=15", "--least-rotation-interval=1h"]
    {
        assert!(arguments.contains(&json!(option)), "{option}: {arguments:?}");
    }
}

#[tokio::test]
async fn chosen_namespaces_get_nothing_cluster_wide_and_no_name_is_used_twice() {
    let helm = Helm::new().await;
    let rendered =
        async |namespace: &str| objects(&helm.template("ops", namespace, &values("namespaces"), &[]).await.succeeded());
    let name = |object: &Value| {
        let metadata = &object["metadata"];
        format!("{} {}/{}", object["kind"], metadata["namespace"], metadata["name"])
    };
    let (one, other) = (rendered("one").await, rendered("two").await);
    for object in &one {
        assert!(object["metadata"]["namespace"].is_string(), "{} is cluster-wide", name(object));
        assert!(!other.iter().any(|there| name(there) == name(object)), "two releases share {}", name(object));
    }
    let places: Vec<&Value> = of_kind(&one, "Role").iter().map(|role| &role["metadata"]["namespace"]).collect();
    assert_eq!(places, ["partners", "staging", "one"], "no Role in kube-system, since the values have a cluster id");
}
