//! What a user of `kubectl` sees: explanations, tables, waiting, and refusals.

use serde_json::{Value, json};

use super::scene::Scene;
use crate::support::cluster::cluster;
use crate::support::run::Finished;

fn manifest(name: &str, spec: &Value) -> String {
    json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name }, "spec": spec,
    })
    .to_string()
}

async fn kubectl(scene: &Scene, arguments: &[&str]) -> Finished {
    scene.cluster.kubectl(scene.namespace.name(), arguments).await
}

async fn apply(scene: &Scene, arguments: &[&str], manifest: &str) -> Finished {
    let arguments = [&["apply", "-f", "-"], arguments].concat();
    scene.cluster.kubectl_with(scene.namespace.name(), &arguments, manifest).await
}

async fn wait_until_ready(scene: &Scene, name: &str, timeout: &str) -> Finished {
    let (account, timeout) = (format!("apiaccount/{name}"), format!("--timeout={timeout}"));
    kubectl(scene, &["wait", "--for=condition=Ready", &account, &timeout]).await
}

/// Returns the cells of the only row below the header, each with the name of its column.
fn row(table: &str) -> Vec<(String, String)> {
    let mut lines = table.lines();
    let (header, row) = (lines.next().expect("a header"), lines.next().expect("a row"));
    assert_eq!(lines.next(), None, "{table}");
    // Columns are separated by three spaces. The name of a column may contain one space.
    let names: Vec<&str> = header.split("   ").map(str::trim).filter(|name| !name.is_empty()).collect();
    let starts: Vec<usize> = names
        .iter()
        .scan(0, |from, name| {
            *from += header[*from..].find(name).expect("it came from there");
            Some(*from)
        })
        .collect();
    let ends = starts.iter().skip(1).copied().chain([row.len().max(header.len())]);
    let cells = starts.iter().zip(ends).map(|(start, end)| row.get(*start..end.min(row.len())).unwrap_or_default());
    names.iter().zip(cells).map(|(name, cell)| ((*name).to_owned(), cell.trim().to_owned())).collect()
}

/// Adds the path of every property below this one to `found`.
fn paths(at: &str, schema: &Value, found: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{at}.{name}");
        paths(&path, property, found);
        paths(&path, &property["items"], found);
        found.push(path);
    }
}

#[tokio::test]
async fn explain_describes_every_field() {
    let cluster = cluster().await;
    let crd = cluster.kubectl("default", &["get", "crd", "apiaccounts.ops-admin.com", "-o", "json"]).await;
    let crd: Value = serde_json::from_str(&crd.succeeded()).expect("kubectl prints JSON");
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    let mut fields = vec!["apiaccount".to_owned(), "apiaccount.spec".to_owned(), "apiaccount.status".to_owned()];
    paths("apiaccount.spec", &schema["spec"], &mut fields);
    paths("apiaccount.status", &schema["status"], &mut fields);
    for known in ["apiaccount.spec.allowedIPs", "apiaccount.spec.secret.keys.apiKey", "apiaccount.status.keys.state"] {
        assert!(fields.iter().any(|field| field == known), "{fields:?} lacks {known}");
    }
    for field in fields {
        let explained = cluster.kubectl("default", &["explain", &field]).await.succeeded();
        let (_, description) = explained.split_once("DESCRIPTION:").expect("it describes");
        let description = description.trim();
        assert!(!description.is_empty() && !description.starts_with("<empty>"), "{field}: {explained}");
    }
}

#[tokio::test]
async fn get_shows_the_state_and_wide_shows_the_place_of_the_keys() {
    let scene = Scene::with_controller("kubectl get", &["--unknown-affiliate", "register"]).await;
    let spec = json!({ "enabled": false, "affiliate": "North", "roles": ["Customer", "PlansAndRates"] });
    scene.create("acme", spec).await;
    let status = scene.ready("acme").await.status.expect("it has a status");
    for resource in ["apiaccounts", "apiacc", "opsadmin"] {
        let mut cells = row(&kubectl(&scene, &["get", resource]).await.succeeded());
        let age = cells.pop().expect("it has columns");
        assert!(age.0 == "AGE" && age.1.ends_with('s'), "{age:?}");
        let cells: Vec<_> = cells.iter().map(|(name, cell)| (name.as_str(), cell.as_str())).collect();
        let expected = [
            ("NAME", "acme"),
            ("ENABLED", "false"),
            ("ROLES", r#"["Customer","PlansAndRates"]"#),
            ("AFFILIATE", "North"),
            ("READY", "True"),
            ("REASON", "Reconciled"),
        ];
        assert_eq!(cells, expected);
    }
    let wide = row(&kubectl(&scene, &["get", "apiaccounts", "-o", "wide"]).await.succeeded());
    let wide: Vec<_> = wide.iter().map(|(name, cell)| (name.as_str(), cell.as_str())).collect();
    let id = status.account_id.expect("it has an id");
    assert_eq!(wide[7..], [("ACCOUNT ID", id.as_str()), ("SECRET", "acme-opsadmin"), ("NEXT ROTATION", "")]);
}

#[tokio::test]
async fn describe_and_events_report_what_happened() {
    let scene = Scene::with_controller("kubectl describe", &[]).await;
    scene.create("holder", json!({ "name": "Acme" })).await;
    scene.ready("holder").await;
    scene.create("other", json!({ "name": "Acme" })).await;
    scene.condition("other", "False", "NameTaken").await;
    scene.event("holder", "Created").await;
    scene.event("other", "NameTaken").await;

    let holder = kubectl(&scene, &["describe", "apiaccount", "holder"]).await.succeeded();
    let (object, events) = holder.split_once("Events:").expect("it shows events");
    for shown in ["Conditions:", "account and Secret are as declared", "Observed Generation:", "Reconciled"] {
        assert!(object.contains(shown), "{shown}: {holder}");
    }
    for shown in ["Created", "created the account and its keys", "Secret holder-opsadmin", "opsadmin-operator"] {
        assert!(events.contains(shown), "{shown}: {holder}");
    }
    let other = kubectl(&scene, &["describe", "apiaccount", "other"]).await.succeeded();
    for shown in ["Stalled", "NameTaken", "holder has the account name", "Warning"] {
        assert!(other.contains(shown), "{shown}: {other}");
    }
    let events = kubectl(&scene, &["events", "--for", "apiaccount/other"]).await.succeeded();
    assert!(events.contains("NameTaken") && events.contains("Warning"), "{events}");
    assert!(!events.contains("Created"), "{events}");
}

#[tokio::test]
async fn every_change_has_its_own_event() {
    let scene = Scene::with_controller("events", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    for description in ["first", "second", "third"] {
        scene.change("acme", json!({ "description": description })).await;
        scene.ready("acme").await;
    }
    scene.event_with("acme", "Updated", r#""second" → "third""#).await;
    let events = kubectl(&scene, &["events", "--for", "apiaccount/acme"]).await.succeeded();
    for change in [r#""" → "first""#, r#""first" → "second""#, r#""second" → "third""#] {
        assert!(events.contains(change), "{change}: {events}");
    }
}

#[tokio::test]
async fn wait_returns_for_the_newest_spec_and_not_before() {
    let mut scene = Scene::with_controller("kubectl wait", &[]).await;
    apply(&scene, &[], &manifest("acme", &json!({}))).await.succeeded();
    wait_until_ready(&scene, "acme", "60s").await.succeeded();

    scene.stop().await;
    apply(&scene, &[], &manifest("acme", &json!({ "enabled": false }))).await.succeeded();
    let early = wait_until_ready(&scene, "acme", "1s").await;
    assert!(!early.status.success() && early.stderr.contains("timed out"), "{early:?}");
    scene.start(&[]);
    wait_until_ready(&scene, "acme", "60s").await.succeeded();
    // After `kubectl wait` returns, the database has the change at once.
    let enabled: bool =
        sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&scene.sql().await).await.expect("one account");
    assert!(!enabled);
}

#[tokio::test]
async fn delete_returns_when_the_account_no_longer_authenticates() {
    let scene = Scene::with_controller("kubectl delete", &[]).await;
    let sql = scene.sql().await;
    apply(&scene, &[], &manifest("acme", &json!({}))).await.succeeded();
    wait_until_ready(&scene, "acme", "60s").await.succeeded();
    let enabled = async || -> bool {
        sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&sql).await.expect("one account")
    };
    assert!(enabled().await);
    kubectl(&scene, &["delete", "apiaccount", "acme", "--timeout=60s"]).await.succeeded();
    assert!(!enabled().await);
}

#[tokio::test]
async fn a_manifest_that_is_applied_again_changes_nothing() {
    let scene = Scene::with_controller("kubectl apply", &[]).await;
    let acme = manifest("acme", &json!({ "roles": ["Customer"], "allowedIPs": ["203.0.113.7"] }));
    let said = apply(&scene, &[], &acme).await.succeeded();
    assert_eq!(said.trim(), "apiaccount.ops-admin.com/acme created");
    scene.ready("acme").await;
    let said = apply(&scene, &[], &acme).await.succeeded();
    assert_eq!(said.trim(), "apiaccount.ops-admin.com/acme unchanged");
    let diff = scene.cluster.kubectl_with(scene.namespace.name(), &["diff", "-f", "-"], &acme).await;
    assert_eq!(diff.succeeded(), "");
}

#[tokio::test]
async fn a_list_has_one_field_manager_and_another_gets_a_conflict() {
    let scene = Scene::set("server-side apply").await;
    let as_manager = async |manager: &str, extra: &[&str], role: &str, ip: &str| {
        let acme = manifest("acme", &json!({ "roles": [role], "allowedIPs": [ip] }));
        let manager = format!("--field-manager={manager}");
        apply(&scene, &[&["--server-side", &manager], extra].concat(), &acme).await
    };
    let lists = async || {
        let spec = scene.accounts().get("acme").await.expect("it is there").spec;
        (spec.roles, spec.allowed_ips.unwrap_or_default())
    };
    let list = |entry: &str| vec![entry.to_owned()];
    as_manager("security", &[], "Customer", "203.0.113.7").await.succeeded();
    let refused = as_manager("partners", &[], "PlansAndRates", "10.0.0.0/8").await;
    assert!(!refused.status.success(), "{refused:?}");
    for said in [r#"conflicts with "security""#, ".spec.roles", ".spec.allowedIPs"] {
        assert!(refused.stderr.contains(said), "{said}: {refused:?}");
    }
    assert_eq!(lists().await, (list("Customer"), list("203.0.113.7")));
    as_manager("partners", &["--force-conflicts"], "PlansAndRates", "10.0.0.0/8").await.succeeded();
    assert_eq!(lists().await, (list("PlansAndRates"), list("10.0.0.0/8")));
}

#[tokio::test]
async fn a_mistyped_field_is_refused() {
    let scene = Scene::set("kubectl typo").await;
    for (spec, field) in [
        (json!({ "alowedIPs": ["203.0.113.7"] }), "spec.alowedIPs"),
        (json!({ "secret": { "keys": { "apikey": "K" } } }), "spec.secret.keys.apikey"),
    ] {
        let refused = apply(&scene, &[], &manifest("acme", &spec)).await;
        assert!(!refused.status.success(), "{refused:?}");
        assert!(refused.stderr.contains(&format!("unknown field \"{field}\"")), "{refused:?}");
    }
    assert_eq!(scene.accounts().get_opt("acme").await.expect("an answer"), None);
}

/// The API server's server-side apply treats an empty map that is applied again as removed. So it refuses a `spec: {}`
/// the second time: <https://github.com/kubernetes/kubernetes/issues/135841>. The guide describes what to write
/// instead.
#[tokio::test]
async fn an_account_with_default_values_can_be_applied_again() {
    let scene = Scene::set("server-side defaults").await;
    let acme = manifest("acme", &json!({ "enabled": true }));
    for _ in 0..3 {
        let said = apply(&scene, &["--server-side"], &acme).await.succeeded();
        assert_eq!(said.trim(), "apiaccount.ops-admin.com/acme serverside-applied");
    }
}
