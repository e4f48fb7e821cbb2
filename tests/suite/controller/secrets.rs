//! The account's Secret: it always exists, it is always correct, and the controller never changes a foreign Secret.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::json;

use super::scene::{Scene, texts};

fn foreign(name: &str) -> Secret {
    Secret {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        data: Some(BTreeMap::from([("password".to_owned(), ByteString(b"theirs".to_vec()))])),
        ..Secret::default()
    }
}

async fn patch(scene: &Scene, secret: &str, patch: serde_json::Value) -> Secret {
    let patched = scene.secrets().patch(secret, &PatchParams::default(), &Patch::Merge(patch)).await;
    patched.expect("the API server takes the patch")
}

#[tokio::test]
async fn a_secret_has_the_names_and_labels_of_the_spec() {
    let scene = Scene::with_controller("secret layout", &[]).await;
    let chosen = json!({ "secret": {
        "name": "partner", "keys": { "apiKey": "id", "secretKey": "key.txt" },
        "labels": { "team": "partners" }, "annotations": { "example.com/reload": "true" },
    } });
    scene.create("acme", chosen).await;
    let account = scene.ready("acme").await;
    assert_eq!(account.status.and_then(|status| status.secret_name).as_deref(), Some("partner"));
    let secret = scene.secrets().get("partner").await.expect("the Secret is there");
    let keys: Vec<_> = texts(&secret).into_keys().collect();
    assert_eq!(keys, ["id", "key.txt"]);
    assert_eq!(secret.metadata.labels.expect("it has labels")["team"], "partners");
    assert_eq!(secret.metadata.annotations.expect("it has annotations")["example.com/reload"], "true");
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
}

#[tokio::test]
async fn a_deleted_secret_is_restored_with_the_same_keys() {
    let scene = Scene::with_controller("secret deleted", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let before = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    scene.secrets().delete("acme-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    let uid = before.metadata.uid.clone();
    let after = scene.secret_where("acme-opsadmin", "to come back", |secret| secret.metadata.uid != uid).await;
    assert_eq!(after.data, before.data);
}

#[tokio::test]
async fn an_edited_secret_is_restored() {
    let scene = Scene::with_controller("secret edited", &[]).await;
    scene.create("acme", json!({ "secret": { "labels": { "team": "partners" } } })).await;
    let account = scene.ready("acme").await;
    let before = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    let tie = json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "name": "acme",
        "uid": account.metadata.uid, "controller": true });
    for (what, edit) in [
        ("a wrong value", json!({ "stringData": { "OPSADMIN_SECRET_KEY": "wrong" } })),
        ("a missing value", json!({ "data": { "OPSADMIN_API_KEY": null } })),
        ("a value more", json!({ "stringData": { "EXTRA": "x" } })),
        ("no data", json!({ "data": null })),
        ("an owner reference", json!({ "metadata": { "ownerReferences": [tie] } })),
        ("no label of the operator", json!({ "metadata": { "labels": { "app.kubernetes.io/managed-by": null } } })),
        ("no label for the watch", json!({ "metadata": { "labels": { "ops-admin.com/account": null } } })),
        ("no label of the user", json!({ "metadata": { "labels": { "team": null } } })),
        ("no annotations", json!({ "metadata": { "annotations": null } })),
    ] {
        patch(&scene, "acme-opsadmin", edit).await;
        scene
            .secret_where("acme-opsadmin", &format!("to be put back after {what}"), |secret| {
                secret.data == before.data
                    && secret.metadata.labels == before.metadata.labels
                    && secret.metadata.annotations == before.metadata.annotations
                    && secret.metadata.owner_references == before.metadata.owner_references
            })
            .await;
    }
    scene.event_with("acme", "SecretPutBack", "data.OPSADMIN_SECRET_KEY").await;
}

#[tokio::test]
async fn an_immutable_secret_is_restored_too() {
    let scene = Scene::with_controller("secret immutable", &[]).await;
    scene.create("acme", json!({ "secret": { "labels": { "team": "partners" } } })).await;
    scene.ready("acme").await;
    let before = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    let others = json!({ "metadata": { "labels": { "theirs": "1" }, "annotations": { "example.com/theirs": "1" } } });
    patch(&scene, "acme-opsadmin", others).await;

    patch(&scene, "acme-opsadmin", json!({ "immutable": true, "metadata": { "labels": { "team": null } } })).await;
    let put_back = scene
        .secret_where("acme-opsadmin", "to have its label again", |secret| {
            secret.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key("team"))
        })
        .await;
    assert_eq!(
        (&put_back.metadata.uid, put_back.immutable),
        (&before.metadata.uid, Some(true)),
        "nothing else is wrong"
    );

    // The data of an immutable Secret cannot be changed. So the Secret must be wrong when it becomes immutable.
    scene.secrets().delete("acme-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    scene.secret_where("acme-opsadmin", "to come back", |secret| secret.metadata.uid != before.metadata.uid).await;
    let wrong = json!({ "immutable": true, "stringData": { "OPSADMIN_SECRET_KEY": "wrong" }, "metadata": {
        "labels": { "theirs": "1" }, "annotations": { "example.com/theirs": "1" },
    } });
    let wrong = patch(&scene, "acme-opsadmin", wrong).await;
    let remade = scene
        .secret_where("acme-opsadmin", "to be right again", |secret| {
            secret.data == before.data && secret.metadata.uid != wrong.metadata.uid
        })
        .await;
    assert_eq!(remade.immutable, None);
    assert_eq!(remade.metadata.owner_references, before.metadata.owner_references);
    let labels = remade.metadata.labels.expect("it has labels");
    assert_eq!((labels["team"].as_str(), labels["theirs"].as_str()), ("partners", "1"));
    assert_eq!(remade.metadata.annotations.expect("it has annotations")["example.com/theirs"], "1");
    scene.ready("acme").await;
    let told = "restored the Secret acme-opsadmin: data.OPSADMIN_SECRET_KEY";
    scene.logged(told).await;
    assert_eq!(scene.log().matches(told).count(), 1);
}

#[tokio::test]
async fn foreign_metadata_stays_and_metadata_dropped_from_the_spec_is_removed() {
    let scene = Scene::with_controller("secret metadata", &[]).await;
    scene.create("acme", json!({ "secret": { "labels": { "team": "partners" }, "annotations": { "a": "1" } } })).await;
    scene.ready("acme").await;
    patch(
        &scene,
        "acme-opsadmin",
        json!({ "metadata": { "labels": { "theirs": "1" }, "annotations": { "theirs": "1" } } }),
    )
    .await;
    scene
        .change(
            "acme",
            json!({ "secret": { "labels": { "team": null, "tier": "gold" }, "annotations": { "a": null } } }),
        )
        .await;
    scene.ready("acme").await;
    let secret = scene.secrets().get("acme-opsadmin").await.expect("the Secret is there");
    let labels = secret.metadata.labels.expect("it has labels");
    let annotations = secret.metadata.annotations.expect("it has annotations");
    assert!(!labels.contains_key("team") && !annotations.contains_key("a"), "{labels:?} {annotations:?}");
    assert_eq!((labels["tier"].as_str(), labels["theirs"].as_str()), ("gold", "1"));
    assert_eq!(annotations["theirs"], "1");
}

#[tokio::test]
async fn a_foreign_secret_of_the_same_name_is_not_touched() {
    let scene = Scene::with_controller("secret conflict", &[]).await;
    let theirs = scene.secrets().create(&PostParams::default(), &foreign("acme-opsadmin")).await.expect("it is made");
    scene.create("acme", json!({})).await;
    let account = scene.condition("acme", "False", "SecretConflict").await;
    let conditions = account.status.expect("it has a status").conditions;
    let message = &conditions[0].message;
    assert!(message.contains("acme-opsadmin") && message.contains("not made by opsadmin-operator"), "{message}");
    assert!(conditions.iter().any(|c| c.type_ == "Stalled" && c.status == "True"), "{conditions:?}");
    scene.event("acme", "SecretConflict").await;
    let left = scene.secrets().get("acme-opsadmin").await.expect("it is there");
    assert_eq!(left.metadata.resource_version, theirs.metadata.resource_version);

    scene.secrets().delete("acme-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    scene.ready("acme").await;
    assert!(scene.data("acme-opsadmin").await.contains_key("OPSADMIN_SECRET_KEY"));
}

#[tokio::test]
async fn two_accounts_do_not_share_a_secret() {
    let scene = Scene::with_controller("secret shared", &[]).await;
    scene.create("first", json!({ "secret": { "name": "shared" } })).await;
    scene.ready("first").await;
    let keys = scene.data("shared").await;
    scene.create("second", json!({ "secret": { "name": "shared" } })).await;
    let second = scene.condition("second", "False", "SecretConflict").await;
    let message = &second.status.expect("it has a status").conditions[0].message;
    assert!(message.contains("it belongs to the ApiAccount ") && message.contains("/first;"), "{message}");
    assert_eq!(scene.data("shared").await, keys);

    scene.change("second", json!({ "secret": { "name": "its-own" } })).await;
    scene.ready("second").await;
    assert_ne!(scene.data("its-own").await, keys);
    assert_eq!(scene.data("shared").await, keys);
}

#[tokio::test]
async fn a_secret_moves_to_another_name_and_other_data_keys() {
    let scene = Scene::with_controller("secret moved", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.change("acme", json!({ "secret": { "name": "moved", "keys": { "apiKey": "a", "secretKey": "s" } } })).await;
    scene.ready("acme").await;
    let moved = scene.data("moved").await;
    assert_eq!((&moved["a"], &moved["s"]), (&keys["OPSADMIN_API_KEY"], &keys["OPSADMIN_SECRET_KEY"]));
    assert_eq!(moved.len(), 2);
    scene.no_secret("acme-opsadmin").await;

    scene.change("acme", json!({ "secret": { "keys": { "apiKey": "s", "secretKey": "a" } } })).await;
    scene.ready("acme").await;
    let swapped = scene.data("moved").await;
    assert_eq!((&swapped["a"], &swapped["s"]), (&moved["s"], &moved["a"]));
}

#[tokio::test]
async fn a_move_to_a_foreign_secret_leaves_the_old_secret_in_place() {
    let scene = Scene::with_controller("secret move refused", &[]).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    let keys = scene.data("acme-opsadmin").await;
    scene.secrets().create(&PostParams::default(), &foreign("taken")).await.expect("it is made");
    scene.change("acme", json!({ "secret": { "name": "taken" } })).await;
    scene.condition("acme", "False", "SecretConflict").await;
    assert_eq!(scene.data("acme-opsadmin").await, keys, "the partner can go on");
    assert_eq!(scene.data("taken").await["password"], "theirs");
}
