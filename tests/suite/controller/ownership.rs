//! The owner of an account, and what takes precedence over its resource: adopted, observed, paused, suspended, purged
//! accounts.

use kube::api::{DeleteParams, ListParams, PostParams};
use opsadmin_operator::api::ApiAccount;
use serde_json::json;

use super::scene::{SOON, Scene, texts};
use crate::support::opsadmin::Opsadmin;
use crate::support::process::Folder;
use crate::support::wait::eventually;

fn message(account: &ApiAccount) -> String {
    account.status.as_ref().expect("it has a status").conditions[0].message.clone()
}

/// Removes the owner of the only account in the database.
async fn remove_owner(scene: &Scene) {
    let statement = "UPDATE accounts SET owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL";
    sqlx::query(statement).execute(&scene.sql().await).await.expect("the account is nobody's");
}

/// Allows the scene's namespace to adopt an account, as OpsAdmin staff do.
async fn allow_adoption(scene: &Scene, arguments: &[&str]) {
    let call = Opsadmin::new().args(["allow-adoption", "--to", scene.namespace.name(), "--actor", "maria"]);
    call.args(arguments).env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await.succeeded();
}

/// Moves accounts from `apply` to a controller and back. The controller uses the cluster id of `apply`, and every
/// account keeps its keys.
#[tokio::test]
async fn accounts_of_apply_move_to_a_controller_and_back_with_their_keys() {
    let mut scene = Scene::set("apply to controller").await;
    let folder = Folder::new("moving");
    let manifest = format!(
        "apiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata: {{ name: acme, namespace: {} }}\n\
         spec: {{ roles: [Customer], deletionPolicy: Retain }}\n",
        scene.namespace.name()
    );
    let (url, keyring) = (scene.database.url().to_owned(), scene.keyring.clone());
    let apply = async |extra: &[&str]| {
        let call = Opsadmin::new().args(["apply", "-f", "-", "--database", &url, "--keyring"]);
        let call = call.args([&keyring]).args(["--secrets"]).args([folder.path().join("secrets")]);
        call.args(extra).stdin(manifest.clone()).run().await.succeeded()
    };
    apply(&[]).await;
    let file = folder.path().join("secrets").join(format!("{}.acme-opsadmin.yaml", scene.namespace.name()));
    let written = std::fs::read_to_string(&file).expect("the Secret's manifest is there");
    let written = texts(&serde_saphyr::from_str(&written).expect("it is a Secret"));
    let sql = scene.sql().await;
    let states = async || -> Vec<(String, bool)> {
        sqlx::query_as("SELECT owner_cluster, enabled FROM accounts").fetch_all(&sql).await.expect("an answer")
    };

    // With its own cluster id, the controller reports that another cluster owns the account, and what to do.
    scene.start(&[]);
    scene.cluster.kubectl_with(scene.namespace.name(), &["apply", "-f", "-"], &manifest).await.succeeded();
    let refused = scene.condition("acme", "False", "OwnedElsewhere").await;
    let message = &refused.status.expect("it has a status").conditions[0].message;
    assert!(message.contains("run the controller with the --cluster-id that `apply` had"), "{message}");
    scene.stop().await;

    scene.start(&["--cluster-id", "local"]);
    scene.ready("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, written);
    assert_eq!(states().await, [("local".to_owned(), true)]);

    // For the way back, the controller is stopped before its resources are deleted.
    scene.stop().await;
    let out = apply(&["--cluster-id", "local"]).await;
    assert_eq!(out, "1 account: nothing to change\n");
    assert_eq!(states().await, [("local".to_owned(), true)]);
    scene.strip_finalizers("acme").await;
}

#[tokio::test]
async fn an_unowned_account_is_adopted_only_on_request() {
    let mut scene = Scene::with_controller("adoption", &[]).await;
    scene.create("old", json!({ "name": "Acme", "roles": ["Customer"] })).await;
    let id = scene.ready("old").await.status.and_then(|status| status.account_id);
    let keys = scene.data("old-opsadmin").await;
    scene.stop().await;
    remove_owner(&scene).await;
    scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await.expect("they go");
    scene.strip_finalizers("old").await;
    scene.start(&[]);

    let wants = json!({ "name": "acme", "roles": ["PlansAndRates"], "rotation": { "trigger": "as ever" } });
    scene.create("new", wants).await;
    let refused = scene.condition("new", "False", "AdoptionRequired").await;
    let said = message(&refused);
    assert!(
        said.contains("roles: [Customer] → [PlansAndRates]") && said.contains("adoptionPolicy: IfUnowned"),
        "{said}"
    );

    scene.change("new", json!({ "adoptionPolicy": "IfUnowned" })).await;
    let refused = scene.condition("new", "False", "AdoptionRequired").await;
    assert!(message(&refused).contains("it was imported for no namespace"), "{}", message(&refused));
    allow_adoption(&scene, &["acme", "--kubeconfig", &scene.cluster.kubeconfig().display().to_string()]).await;
    let adopted = scene.ready("new").await;
    assert_eq!(adopted.status.and_then(|status| status.account_id), id);
    assert_eq!(scene.data("new-opsadmin").await, keys, "with the keys it had");
    scene.event("new", "Adopted").await;
    let roles: Vec<String> =
        sqlx::query_scalar("SELECT role FROM account_roles").fetch_all(&scene.sql().await).await.expect("an answer");
    assert_eq!(roles, ["PlansAndRates"]);
}

#[tokio::test]
async fn an_account_of_another_cluster_is_not_adopted_until_that_cluster_releases_it() {
    let mut scene = Scene::set("two clusters").await;
    scene.start(&["--cluster-id", "old"]);
    scene.create("acme", json!({ "deletionPolicy": "Retain" })).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.stop().await;

    // For the database, this is the same resource on another cluster.
    scene.start(&["--cluster-id", "new"]);
    let wants = json!({ "name": "acme", "adoptionPolicy": "IfUnowned", "secret": { "name": "moved" } });
    scene.create("moved", wants.clone()).await;
    let refused = scene.condition("moved", "False", "OwnedElsewhere").await;
    assert!(message(&refused).contains("of the cluster old"), "{}", message(&refused));
    // The old cluster could adopt the account again, because it is in the same namespace.
    scene.delete("moved").await;
    scene.stop().await;

    scene.start(&["--cluster-id", "old"]);
    scene.delete("acme").await;
    scene.stop().await;
    scene.start(&["--cluster-id", "new"]);
    scene.create("moved", wants).await;
    let refused = scene.condition("moved", "False", "AdoptionRequired").await;
    assert!(message(&refused).contains("of the cluster old, which had it"), "{}", message(&refused));
    allow_adoption(&scene, &["acme", "--cluster-id", "new"]).await;
    scene.ready("moved").await;
    assert_eq!(scene.data("moved").await, keys, "moved with its keys");
}

#[tokio::test]
async fn a_rebuilt_cluster_owns_its_accounts_only_with_its_old_id() {
    let mut scene = Scene::set("rebuilt").await;
    scene.start(&["--cluster-id", "old"]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.stop().await;

    scene.start(&["--cluster-id", "new"]);
    scene.condition("acme", "False", "OwnedElsewhere").await;
    scene.delete("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys, "it belongs to the account of the old id");
    let still: (bool, Option<i64>) = sqlx::query_as("SELECT enabled, deleted_at FROM accounts")
        .fetch_one(&scene.sql().await)
        .await
        .expect("it is there");
    assert_eq!(still, (true, None));
    scene.stop().await;

    scene.start(&["--cluster-id", "old"]);
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys);
}

#[tokio::test]
async fn drift_of_an_observed_account_is_reported_and_not_corrected() {
    let scene = Scene::with_controller("observe", &[]).await;
    let sql = scene.sql().await;
    scene.create("absent", json!({ "managementPolicy": "Observe" })).await;
    let absent = scene.condition("absent", "False", "Drifted").await;
    assert!(absent.metadata.finalizers.is_none());
    let drift = absent.status.expect("it has a status").drift;
    assert_eq!((drift[0].field.as_str(), drift[0].actual.as_str()), ("account", "absent"));
    assert_eq!(scene.secrets().get_opt("absent-opsadmin").await.expect("an answer"), None);

    let theirs = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "taken-opsadmin" } });
    let theirs = serde_json::from_value(theirs).expect("it is a Secret");
    scene.secrets().create(&PostParams::default(), &theirs).await.expect("the API server takes the Secret");
    scene.create("taken", json!({ "managementPolicy": "Observe" })).await;
    let taken = scene.condition("taken", "False", "Drifted").await.status.expect("it has a status").drift;
    assert_eq!((taken[1].field.as_str(), taken[1].actual.as_str()), ("secret", "it was not made by opsadmin-operator"));

    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.change("acme", json!({ "managementPolicy": "Observe", "roles": ["Customer"], "enabled": false })).await;
    let drifted = scene.condition("acme", "False", "Drifted").await;
    let drift = drifted.status.expect("it has a status").drift;
    let drift: Vec<_> = drift.iter().map(|d| (d.field.as_str(), d.declared.as_str(), d.actual.as_str())).collect();
    assert_eq!(drift, [("enabled", "false", "true"), ("roles", "[Customer]", "[]")]);
    let enabled: bool = sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&sql).await.expect("one account");
    assert!(enabled, "nothing was changed");

    scene.change("acme", json!({ "managementPolicy": "Enforce" })).await;
    let enforced = scene.ready("acme").await;
    assert_eq!(enforced.status.expect("it has a status").drift, []);

    // The deletion of an observed resource does not end the account's access either.
    scene.change("acme", json!({ "managementPolicy": "Observe", "enabled": true })).await;
    scene.condition("acme", "False", "Drifted").await;
    let enable = "UPDATE accounts SET enabled = TRUE";
    sqlx::query(enable).execute(&sql).await.expect("it is enabled");
    scene.delete("acme").await;
    let left: (bool, Option<i64>) =
        sqlx::query_as("SELECT enabled, deleted_at FROM accounts").fetch_one(&sql).await.expect("one account");
    assert_eq!(left, (true, None));
}

#[tokio::test]
async fn a_paused_account_is_not_changed_until_its_deletion() {
    let scene = Scene::with_controller("paused", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.annotate("acme", json!({ "ops-admin.com/paused": "true" })).await;
    scene.condition("acme", "Unknown", "Paused").await;
    scene.change("acme", json!({ "enabled": false })).await;
    scene.condition("acme", "Unknown", "Paused").await;
    let enabled = async || -> bool {
        sqlx::query_scalar("SELECT enabled FROM accounts").fetch_one(&sql).await.expect("one account")
    };
    assert!(enabled().await);
    scene.annotate("acme", json!({ "ops-admin.com/paused": null })).await;
    scene.ready("acme").await;
    assert!(!enabled().await);

    scene.change("acme", json!({ "enabled": true })).await;
    scene.ready("acme").await;
    scene.annotate("acme", json!({ "ops-admin.com/paused": "true" })).await;
    scene.condition("acme", "Unknown", "Paused").await;
    scene.delete("acme").await;
    assert!(!enabled().await);
}

#[tokio::test]
async fn a_suspension_is_shown_and_never_cleared() {
    let mut scene = Scene::with_controller("suspended", &[]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let suspend = "UPDATE accounts SET suspended_at = 1790000000000000, suspended_reason = 'unpaid invoices'";
    sqlx::query(suspend).execute(&sql).await.expect("it is suspended");
    scene.change("acme", json!({ "description": "changed" })).await;
    let suspended = scene.condition("acme", "False", "Suspended").await;
    assert!(message(&suspended).contains("unpaid invoices"), "{}", message(&suspended));
    let (at, description): (Option<i64>, String) =
        sqlx::query_as("SELECT suspended_at, description FROM accounts").fetch_one(&sql).await.expect("one account");
    assert_eq!((at, description.as_str()), (Some(1_790_000_000_000_000), "changed"), "the rest is as declared");
    scene.stop().await;
    scene.start(&[]);

    let resume = "UPDATE accounts SET suspended_at = NULL, suspended_reason = NULL";
    sqlx::query(resume).execute(&sql).await.expect("it is resumed");
    scene.change("acme", json!({ "description": "again" })).await;
    scene.ready("acme").await;
}

#[tokio::test]
async fn deleted_accounts_are_purged_after_their_retention() {
    let mut scene =
        Scene::with_controller("purged", &["--deleted-account-retention", "1s", "--sweep-interval", "1s"]).await;
    let sql = scene.sql().await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.delete("acme").await;
    eventually("the account to be purged", SOON, async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts").fetch_one(&sql).await.expect("a count");
        if left == 0 { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    let actions: Vec<String> =
        sqlx::query_scalar("SELECT action FROM account_journal ORDER BY id").fetch_all(&sql).await.expect("a journal");
    assert_eq!(actions, ["created", "deleted", "purged"]);
    scene.stop().await;
}

#[tokio::test]
async fn a_deleted_account_with_a_new_resource_is_not_purged_even_if_refused_or_paused() {
    let mut scene = Scene::with_controller("back and refused", &[]).await;
    let sql = scene.sql().await;
    for name in ["gone", "paused", "refused"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let mut keys = Vec::new();
    for name in ["paused", "refused", "gone"] {
        keys.push(scene.data(&format!("{name}-opsadmin")).await);
        scene.delete(name).await;
        scene.no_secret(&format!("{name}-opsadmin")).await;
    }
    scene.stop().await;
    scene.create("paused", json!({})).await;
    scene.annotate("paused", json!({ "ops-admin.com/paused": "true" })).await;
    scene.create("refused", json!({ "affiliate": "Nowhere" })).await;

    // This account was deleted last. So when it is purged, the retention of the others is over too.
    scene.start(&["--deleted-account-retention", "1s", "--sweep-interval", "1s"]);
    eventually("the account without a resource to be purged", SOON, async || {
        let left: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE name = 'gone'")
            .fetch_one(&sql)
            .await
            .expect("a count");
        if left == 0 { Ok(()) } else { Err(scene.log()) }
    })
    .await;
    scene.annotate("paused", json!({ "ops-admin.com/paused": null })).await;
    scene.change("refused", json!({ "affiliate": null })).await;
    for (name, keys) in ["paused", "refused"].iter().zip(keys) {
        scene.ready(name).await;
        assert_eq!(scene.data(&format!("{name}-opsadmin")).await, keys, "{name}");
    }
    scene.stop().await;
}
