//! `opsadmin render`: a real API server accepts its output, and a restricted namespace accepts its pod.

use serde_json::{Value, json};

use crate::support::cluster::{Cluster, cluster};
use crate::support::namespace::TestNamespace;
use crate::support::opsadmin::Opsadmin;

async fn render(namespace: &TestNamespace, extra: &[&str]) -> String {
    let call = Opsadmin::new().args(["render", "--image", "registry.example.com/opsadmin:1", "--namespace"]);
    call.args([namespace.name()]).args(extra).run().await.succeeded()
}

/// Returns the objects that the API server would create from these manifests, by a dry run.
async fn dry_run(cluster: &Cluster, manifests: &str) -> Vec<Value> {
    let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-o", "json", "-f", "-"];
    let out = cluster.kubectl_with("", &arguments, manifests).await.succeeded();
    let list: Value = serde_json::from_str(&out).expect("kubectl prints JSON");
    list["items"].as_array().expect("a list").clone()
}

fn kinds(objects: &[Value]) -> Vec<&str> {
    objects.iter().map(|object| object["kind"].as_str().expect("a kind")).collect()
}

fn deployment(objects: &[Value]) -> &Value {
    objects.iter().find(|object| object["kind"] == "Deployment").expect("a Deployment")
}

#[tokio::test]
async fn the_api_server_accepts_the_output_and_a_restricted_namespace_its_pod() {
    let cluster = cluster().await;
    let namespace = TestNamespace::create(cluster.kubeconfig(), "render").await;
    let objects = dry_run(cluster, &render(&namespace, &[]).await).await;
    let expected = [
        "CustomResourceDefinition",
        "Namespace",
        "ServiceAccount",
        "ClusterRole",
        "ClusterRoleBinding",
        "Role",
        "RoleBinding",
        "Deployment",
    ];
    assert_eq!(kinds(&objects), expected);

    let strict = "pod-security.kubernetes.io/enforce=restricted";
    cluster.kubectl("", &["label", "namespace", namespace.name(), strict]).await.succeeded();
    cluster.kubectl(namespace.name(), &["create", "serviceaccount", "opsadmin-operator"]).await.succeeded();
    let spec = &deployment(&objects)["spec"]["template"]["spec"];
    let pod = |spec: &Value| {
        json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "p" }, "spec": spec }).to_string()
    };
    let create = ["create", "--dry-run=server", "-f", "-"];
    cluster.kubectl_with(namespace.name(), &create, &pod(spec)).await.succeeded();
    let mut lax = spec.clone();
    lax["securityContext"]["runAsNonRoot"] = false.into();
    let refused = cluster.kubectl_with(namespace.name(), &create, &pod(&lax)).await;
    assert!(refused.stderr.contains("violates PodSecurity"), "the namespace is strict: {refused:?}");
}

#[tokio::test]
async fn a_controller_of_some_namespaces_gets_rights_only_in_them() {
    let cluster = cluster().await;
    let namespace = TestNamespace::create(cluster.kubeconfig(), "render-some").await;
    let watched = TestNamespace::create(cluster.kubeconfig(), "render-watched").await;
    let extra = ["--watch", watched.name(), "--watch", namespace.name(), "--controller-arg=--sweep-interval=1m"];
    let objects = dry_run(cluster, &render(&namespace, &extra).await).await;
    assert!(!kinds(&objects).contains(&"ClusterRole"), "{:?}", kinds(&objects));
    let roles = objects.iter().filter(|object| object["kind"] == "Role");
    let mut places: Vec<&str> =
        roles.map(|role| role["metadata"]["namespace"].as_str().expect("a namespace")).collect();
    places.sort_unstable();
    let mut expected = ["kube-system", watched.name(), namespace.name(), namespace.name()];
    expected.sort_unstable();
    assert_eq!(places, expected);

    let container = &deployment(&objects)["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/opsadmin:1");
    let arguments: Vec<&str> =
        container["args"].as_array().expect("a list").iter().map(|text| text.as_str().expect("a text")).collect();
    let watch = |namespace: &TestNamespace| format!("--namespace={}", namespace.name());
    assert_eq!(
        arguments,
        [
            "controller",
            "--log-filter-file=/etc/opsadmin-log/filter",
            "--log-format=json",
            &watch(&watched),
            &watch(&namespace),
            "--sweep-interval=1m"
        ]
    );
    // The program accepts each of these arguments.
    Opsadmin::new().args(arguments).args(["--help"]).run().await.succeeded();
}

#[tokio::test]
async fn a_planner_gets_rights_only_in_the_named_namespaces() {
    let cluster = cluster().await;
    let namespace = TestNamespace::create(cluster.kubeconfig(), "render-plans").await;
    let planned = TestNamespace::create(cluster.kubeconfig(), "render-planned").await;
    let names = ["render", "--plan-rights", planned.name(), "--plan-rights", namespace.name()];
    for (extra, to_secrets) in [(&[][..], 2), (&["--without-secrets"][..], 0)] {
        let call = Opsadmin::new().args(names).args(["--namespace", namespace.name()]).args(extra);
        let objects = dry_run(cluster, &call.run().await.succeeded()).await;
        let rights = |resource: &str| {
            let rules = objects.iter().filter_map(|object| object["rules"].as_array()).flatten();
            rules.filter(|rule| rule["resources"][0] == resource).count()
        };
        assert_eq!((rights("apiaccounts"), rights("namespaces"), rights("secrets")), (2, 1, to_secrets), "{extra:?}");
        let bindings = objects.iter().filter(|object| object["kind"] == "RoleBinding").count();
        assert_eq!(bindings, 3 + to_secrets, "{extra:?}");
        let others = objects
            .iter()
            .filter(|object| !["Role", "RoleBinding"].contains(&object["kind"].as_str().expect("a kind")));
        assert_eq!(others.map(|object| &object["kind"]).collect::<Vec<_>>(), ["ServiceAccount"]);
    }
}

#[tokio::test]
async fn the_named_namespaces_are_used_even_if_the_files_contain_the_same_names() {
    let render = |extra: [&'static str; 6]| Opsadmin::new().args(["render"]).args(extra).run();
    let out = render(["--plan-rights", "opsadmin-system", "--plan-rights", "mine", "--namespace", "partners"]).await;
    let objects: Vec<Value> = serde_saphyr::from_multiple(&out.succeeded()).expect("it is YAML");
    let place = |object: &Value| object["metadata"]["namespace"].as_str().expect("a namespace").to_owned();
    let roles = objects.iter().filter(|object| object["kind"] == "Role").map(place).collect::<Vec<_>>();
    assert_eq!(roles, ["kube-system", "opsadmin-system", "opsadmin-system", "mine", "mine"]);
    let subjects = objects.iter().filter_map(|object| object["subjects"].as_array()).flatten();
    assert!(subjects.map(|subject| &subject["namespace"]).all(|namespace| namespace == "partners"), "{objects:?}");

    let out = render(["--image", "opsadmin-system/i", "--watch", "opsadmin-system", "--namespace", "mine"]).await;
    let out = out.succeeded();
    assert!(out.contains("image: \"opsadmin-system/i\"") && out.contains("--namespace=opsadmin-system\""), "{out}");
    assert!(out.contains("  namespace: opsadmin-system\n") && out.contains("  namespace: mine\n"), "{out}");
}

#[tokio::test]
async fn what_could_break_out_of_the_manifests_is_refused_or_quoted() {
    let call = |extra: [&'static str; 2]| Opsadmin::new().args(["render", "--image", "i"]).args(extra).run();
    for extra in [["--namespace", "a\nb"], ["--watch", "A"], ["--image", "a b"]] {
        assert!(!call(extra).await.status.success(), "{extra:?}");
    }
    let out = call(["--controller-arg", "\"]\nkind: Secret"]).await.succeeded();
    assert!(out.contains("        - \"\\\"]\\nkind: Secret\"\n"), "{out}");
}
