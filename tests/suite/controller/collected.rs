//! The cluster's garbage collector, and other clients that delete Secrets. An account that still works keeps its Secret
//! however its resource is deleted. A deleted account leaves no Secret behind.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use opsadmin_operator::api::ApiAccount;
use serde_json::json;

use super::deletions::held;
use super::metrics::create;
use super::scene::{SOON, Scene, texts};
use crate::support::wait::eventually;

/// Requests a foreground deletion, as `kubectl delete --cascade=foreground` does, and Argo CD by default.
fn foreground() -> DeleteParams {
    DeleteParams::foreground()
}

/// Waits until the garbage collector has finished a foreground deletion.
async fn wait_until_collected(scene: &Scene, name: &str) {
    eventually(&format!("the garbage collector to be done with {name}"), SOON, async || {
        let account = scene.accounts().get_opt(name).await.map_err(|error| error.to_string())?;
        let finalizers = account.and_then(|account| account.metadata.finalizers).unwrap_or_default();
        if finalizers.iter().any(|finalizer| finalizer == "foregroundDeletion") {
            return Err(format!("{finalizers:?}"));
        }
        Ok(())
    })
    .await;
}

/// Gives a Secret the owner reference that earlier versions wrote. Gives its resource a status that marks the Secret as
/// verified.
async fn add_old_owner_reference(scene: &Scene, account: &ApiAccount) -> Secret {
    let name = account.metadata.name.as_deref().expect("it has a name");
    let reference = json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "name": name,
        "uid": account.metadata.uid, "controller": true });
    let patch = Patch::Merge(json!({ "metadata": { "ownerReferences": [reference] } }));
    let tied = scene.secrets().patch(&format!("{name}-opsadmin"), &PatchParams::default(), &patch).await;
    let tied = tied.expect("the API server takes the reference");
    let verified = Patch::Merge(json!({ "status": { "secretResourceVersion": tied.metadata.resource_version } }));
    let verified = scene.accounts().patch_status(name, &PatchParams::default(), &verified).await;
    verified.expect("the API server takes the status");
    tied
}

#[tokio::test]
async fn an_account_with_a_held_deletion_keeps_its_secret_in_a_foreground_deletion() {
    let scene = Scene::with_controller("held in the foreground", &[]).await;
    create(&scene, 8).await;
    let keys = scene.data("a0-opsadmin").await.into_keys().collect::<Vec<_>>();
    let deleted = scene.accounts().delete_collection(&foreground(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let names = held(&scene, 3).await;
    let mut secrets = Vec::new();
    for name in &names {
        wait_until_collected(&scene, name).await;
        let secret = scene.data(&format!("{name}-opsadmin")).await;
        assert_eq!(secret.keys().cloned().collect::<Vec<_>>(), keys, "{name}");
        secrets.push(secret);
    }
    let left = scene.secrets().list(&ListParams::default()).await.expect("a list").items.len();
    assert_eq!(left, 3, "those of the five that went are gone");

    // The account works. So the controller restores its Secret after a change by another client, as always.
    let [first, second, _] = [0, 1, 2].map(|number| format!("{}-opsadmin", names[number]));
    scene.secrets().delete(&first, &DeleteParams::default()).await.expect("it is deleted");
    scene.secret_where(&first, "to come back", |secret| texts(secret) == secrets[0]).await;
    let edit = Patch::Merge(json!({ "stringData": { "OPSADMIN_SECRET_KEY": "wrong" } }));
    scene.secrets().patch(&second, &PatchParams::default(), &edit).await.expect("it is edited");
    scene.secret_where(&second, "to be put back", |secret| texts(secret) == secrets[1]).await;
    held(&scene, 3).await;

    scene.annotate(&names[0], json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    eventually("the confirmed one to be gone", SOON, async || {
        match scene.accounts().get_opt(&names[0]).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(account) => Err(format!("{account:?}\n{}", scene.log())),
        }
    })
    .await;
    assert_eq!(scene.secrets().get_opt(&first).await.expect("an answer"), None, "gone with its resource");
}

#[tokio::test]
async fn a_retained_account_keeps_its_secret_if_the_controller_was_down() {
    let mut scene = Scene::with_controller("retained in the foreground", &[]).await;
    for name in ["acme", "earlier"] {
        scene.create(name, json!({ "deletionPolicy": "Retain" })).await;
        scene.ready(name).await;
    }
    let keys = [scene.data("acme-opsadmin").await, scene.data("earlier-opsadmin").await];
    let earlier = scene.ready("earlier").await;
    scene.stop().await;
    add_old_owner_reference(&scene, &earlier).await;
    for name in ["acme", "earlier"] {
        scene.accounts().delete(name, &foreground()).await.expect("the API server takes the deletion");
        wait_until_collected(&scene, name).await;
    }
    assert_eq!(scene.data("acme-opsadmin").await, keys[0]);
    // No controller had removed the owner reference of the earlier version. So the garbage collector deleted this
    // Secret.
    scene.no_secret("earlier-opsadmin").await;
    scene.start(&[]);
    for (name, keys) in ["acme", "earlier"].iter().zip(&keys) {
        eventually(&format!("{name} to be gone"), SOON, async || {
            match scene.accounts().get_opt(name).await.map_err(|error| error.to_string())? {
                None => Ok(()),
                Some(account) => Err(format!("{account:?}\n{}", scene.log())),
            }
        })
        .await;
        assert_eq!(scene.data(&format!("{name}-opsadmin")).await, *keys, "{name}");
    }
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE enabled AND retained_at IS NOT NULL")
        .fetch_one(&scene.sql().await)
        .await
        .expect("a count");
    assert_eq!(kept, 2);
}

#[tokio::test]
async fn the_owner_reference_of_an_earlier_version_is_removed_once() {
    let mut scene = Scene::with_controller("upgraded", &[]).await;
    scene.create("acme", json!({})).await;
    scene.create("paused", json!({})).await;
    scene.ready("paused").await;
    let account = scene.ready("acme").await;
    scene.annotate("paused", json!({ "ops-admin.com/paused": "true" })).await;
    let paused = scene.condition("paused", "Unknown", "Paused").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.stop().await;
    add_old_owner_reference(&scene, &account).await;
    let left = add_old_owner_reference(&scene, &paused).await;
    scene.start(&[]);
    let is_free = |secret: &Secret| secret.metadata.owner_references.is_none();
    let free = scene.secret_where("acme-opsadmin", "to have no owner reference", is_free).await;
    assert_eq!(texts(&free), keys);
    scene.ready("acme").await;
    scene.stop().await;
    scene.start(&[]);
    // The controller reconciles this account after those in the first list.
    scene.create("last", json!({})).await;
    scene.ready("last").await;
    let versions = async |name: &str| scene.secrets().get(name).await.expect("it is there").metadata.resource_version;
    assert_eq!(versions("acme-opsadmin").await, free.metadata.resource_version, "written once");
    assert_eq!(versions("paused-opsadmin").await, left.metadata.resource_version, "nothing is done while it is paused");
}

#[tokio::test]
async fn the_secret_of_an_orphan_is_deleted_only_when_its_account_is_disabled() {
    let mut scene = Scene::with_controller("secret of an orphan", &[]).await;
    for name in ["kept", "lost", "half-gone", "retained"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let keys = scene.data("lost-opsadmin").await;
    scene.stop().await;
    for name in ["lost", "half-gone", "retained"] {
        scene.strip_finalizers(name).await;
        scene.accounts().delete(name, &foreground()).await.expect("the API server takes the deletion");
        wait_until_collected(&scene, name).await;
    }
    scene.start(&["--sweep-interval", "1s", "--orphan-grace", "1h"]);
    // The first state is what a controller leaves that was killed between the database and the Secret. The second state
    // is a retained account.
    let sql = scene.sql().await;
    for statement in [
        "UPDATE accounts SET enabled = FALSE, deleted_at = updated_at WHERE name = 'half-gone'",
        "UPDATE accounts SET retained_at = updated_at WHERE name = 'retained'",
    ] {
        sqlx::query(statement).execute(&sql).await.expect("it is updated");
    }
    scene.no_secret("half-gone-opsadmin").await;
    assert_eq!(scene.data("lost-opsadmin").await, keys);
    scene.stop().await;
    scene.start(&["--sweep-interval", "1s", "--orphan-grace", "1s"]);
    scene.no_secret("lost-opsadmin").await;
    let enabled: Vec<String> = sqlx::query_scalar("SELECT name FROM accounts WHERE enabled ORDER BY name")
        .fetch_all(&sql)
        .await
        .expect("an answer");
    assert_eq!(enabled, ["kept", "retained"]);
    for name in ["kept-opsadmin", "retained-opsadmin"] {
        assert!(scene.data(name).await.contains_key("OPSADMIN_SECRET_KEY"), "{name}");
    }
}

#[tokio::test]
async fn a_deleted_namespace_waits_only_for_held_deletions() {
    let mut scene = Scene::set("namespace of held ones").await;
    let other = scene.cluster.namespace("namespace that ends").await;
    let name = other.name().to_owned();
    let own = std::mem::replace(&mut scene.namespace, other);
    scene.start(&[]);
    create(&scene, 6).await;
    let namespaces: Api<Namespace> = Api::all(scene.client.clone());
    namespaces.delete(&name, &DeleteParams::default()).await.expect("the API server takes the deletion");
    let names = held(&scene, 1).await;
    // The namespace deletion removed the Secret, and the Secret cannot be created again. No user could correct this.
    scene.no_secret(&format!("{}-opsadmin", names[0])).await;
    scene.annotate(&names[0], json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    eventually("the namespace to be gone", SOON, async || {
        match namespaces.get_opt(&name).await.map_err(|error| error.to_string())? {
            None => Ok(()),
            Some(namespace) => Err(format!("{namespace:?}\n{}", scene.log())),
        }
    })
    .await;
    let log = scene.stop().await;
    assert!(!log.contains("cannot be kept in sync"), "{log}");
    drop(own);
}
