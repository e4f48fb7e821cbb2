//! Many deletions at once: the brake, and orphans.

use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use sqlx::PgPool;

use super::metrics::create;
use super::scene::{SOON, Scene};
use crate::support::proxy::{Call, Fault, Proxy};
use crate::support::wait::eventually;

async fn enabled(sql: &PgPool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM accounts WHERE enabled").fetch_one(sql).await.expect("a count")
}

/// Waits until this many resources are left, each with a deletion that the brake holds. Returns their names.
pub async fn held(scene: &Scene, count: usize) -> Vec<String> {
    eventually(&format!("{count} deletions to be held"), SOON, async || {
        let accounts = scene.accounts().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        let is_held = |account: &opsadmin_operator::api::ApiAccount| {
            let conditions = account.status.iter().flat_map(|status| &status.conditions);
            conditions.into_iter().any(|c| c.type_ == "Ready" && c.reason == "DeletionHeld")
        };
        let held: Vec<_> = accounts.iter().filter(|account| is_held(account)).collect();
        if held.len() == count && accounts.items.len() == count {
            Ok(held.iter().map(|account| account.metadata.name.clone().expect("it has a name")).collect())
        } else {
            Err(format!("{} held of {}\n{}", held.len(), accounts.items.len(), scene.log()))
        }
    })
    .await
}

#[tokio::test]
async fn too_many_deletions_are_held_until_a_user_confirms_them() {
    let mut scene = Scene::with_controller("brake", &[]).await;
    let sql = scene.sql().await;
    for number in 0..8 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..8 {
        scene.ready(&format!("a{number}")).await;
    }
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let names = held(&scene, 3).await;
    assert_eq!(enabled(&sql).await, 3, "five may always go; who is held goes on working");
    let note = scene.event(&names[0], "DeletionHeld").await;
    assert!(note.contains("ops-admin.com/confirm-deletion=true"), "{note}");

    // Neither a restart nor time releases them.
    scene.stop().await;
    scene.start(&["--sweep-interval", "1s"]);
    scene.create("bystander", json!({})).await;
    scene.ready("bystander").await;
    assert_eq!(enabled(&sql).await, 4);

    for name in &names {
        scene.annotate(name, json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    }
    eventually("the confirmed ones to go", SOON, async || match enabled(&sql).await {
        1 => Ok(()),
        left => Err(format!("{left} left\n{}", scene.log())),
    })
    .await;
    scene.ready("bystander").await;
}

#[tokio::test]
async fn the_brake_knows_the_number_of_accounts_right_after_a_start() {
    let mut scene = Scene::with_controller("brake at start", &[]).await;
    create(&scene, 35).await;
    scene.stop().await;
    for number in 0..7 {
        let deleted = scene.accounts().delete(&format!("a{number}"), &DeleteParams::default()).await;
        deleted.expect("the API server takes the deletion");
    }
    scene.start(&[]);
    eventually("a fifth to go", SOON, async || {
        let left = scene.accounts().list(&ListParams::default()).await.map_err(|error| error.to_string())?.items.len();
        if left == 28 { Ok(()) } else { Err(format!("{left} left\n{}", scene.log())) }
    })
    .await;
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    held(&scene, 28).await;
}

#[tokio::test]
async fn recent_deletions_still_count_after_a_restart() {
    let mut scene = Scene::with_controller("window", &[]).await;
    let sql = scene.sql().await;
    create(&scene, 9).await;
    for name in ["a0", "a1", "a2", "a3", "a4"] {
        scene.delete(name).await;
    }
    scene.stop().await;
    scene.start(&[]);
    for name in ["a5", "a6"] {
        scene.accounts().delete(name, &DeleteParams::default()).await.expect("the API server takes the deletion");
        scene.event(name, "DeletionHeld").await;
    }
    assert_eq!(enabled(&sql).await, 4, "five may always go within ten minutes, whoever counts them");

    // Confirmed deletions do not count, and neither do old ones.
    for name in ["a5", "a6"] {
        scene.annotate(name, json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    }
    eventually("the confirmed ones to go", SOON, async || match enabled(&sql).await {
        2 => Ok(()),
        left => Err(format!("{left} left\n{}", scene.log())),
    })
    .await;
    scene.stop().await;
    let ago = "UPDATE accounts SET deleted_at = deleted_at - 600000000 WHERE deleted_at IS NOT NULL AND NOT deletion_confirmed";
    sqlx::query(ago).execute(&sql).await.expect("the database takes it");
    scene.start(&[]);
    scene.delete("a7").await;
    assert_eq!(enabled(&sql).await, 1);
}

#[tokio::test]
async fn a_held_deletion_stays_held_after_its_finalizer_is_removed() {
    let mut scene = Scene::with_controller("held and stripped", &[]).await;
    let sql = scene.sql().await;
    for number in 0..8 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..8 {
        scene.ready(&format!("a{number}")).await;
    }
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let names = held(&scene, 3).await;
    // Ten minutes pass, so the number of deletions alone holds no deletion any more.
    scene.stop().await;
    let ago = "UPDATE accounts SET deleted_at = deleted_at - 600000000 WHERE deleted_at IS NOT NULL";
    sqlx::query(ago).execute(&sql).await.expect("the database takes it");
    scene.start(&["--sweep-interval", "1s", "--orphan-grace", "1s"]);
    scene.create("bystander", json!({})).await;
    scene.ready("bystander").await;
    scene.annotate(&names[0], json!({ "ops-admin.com/confirm-deletion": "true" })).await;
    scene.delete(&names[0]).await;
    for name in &names[1..] {
        scene.strip_finalizers(name).await;
    }
    eventually("those that are held to be told of", SOON, async || {
        let log = scene.log();
        if log.matches("the ApiAccount of the account no longer exists, and the account is held").count() == 2 {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_eq!(enabled(&sql).await, 3, "and the one that has its resource");

    // They hold no other deletion, and a user can release them.
    scene.delete("bystander").await;
    scene.create(&names[1], json!({})).await;
    scene.ready(&names[1]).await;
    scene.delete(&names[1]).await;
    assert_eq!(enabled(&sql).await, 1);
}

#[tokio::test]
async fn after_a_restart_deletions_held_in_another_namespace_still_count() {
    let mut scene = Scene::set("held in one namespace").await;
    let other = scene.cluster.namespace("deleted in another").await;
    let namespaces = [scene.namespace.name().to_owned(), other.name().to_owned()];
    let namespaces: Vec<&str> = namespaces.iter().map(String::as_str).collect();
    scene.start_as(scene.cluster.kubeconfig(), &namespaces, &[]);
    for number in 0..6 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..6 {
        scene.ready(&format!("a{number}")).await;
    }
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    held(&scene, 1).await;
    let full = std::mem::replace(&mut scene.namespace, other);
    scene.create("lone", json!({})).await;
    scene.ready("lone").await;
    scene.stop().await;
    scene.accounts().delete("lone", &DeleteParams::default()).await.expect("the API server takes the deletion");

    let proxy = Proxy::new(scene.cluster.kubeconfig(), scene.database.url()).await;
    let hidden = full.name().to_owned();
    let is_hidden = move |call: &Call| call.what == "LIST apiaccounts" && call.name == hidden;
    proxy.trace.meet_all(is_hidden, Fault::refuse(403, "Forbidden"));
    scene.start_as(proxy.kubeconfig(), &namespaces, &[]);
    eventually("the deletion to wait", SOON, async || {
        let log = scene.log();
        if log.contains("waits until every namespace has been listed") { Ok(()) } else { Err(log) }
    })
    .await;
    scene.create("bystander", json!({})).await;
    scene.ready("bystander").await;
    proxy.trace.heal();
    scene.event("lone", "DeletionHeld").await;
    assert_eq!(enabled(&scene.sql().await).await, 3, "{}", scene.log());
}

#[tokio::test]
async fn an_orphan_is_reported_and_disabled_after_the_grace_period() {
    let arguments = ["--sweep-interval", "1s", "--orphan-grace", "3s"];
    let mut scene = Scene::with_controller("orphan", &arguments).await;
    let sql = scene.sql().await;
    for name in ["kept", "lost", "returned"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    let keys = scene.data("returned-opsadmin").await;
    scene.stop().await;
    for name in ["lost", "returned"] {
        scene.strip_finalizers(name).await;
        scene.accounts().delete(name, &DeleteParams::default()).await.expect("it goes at once");
    }
    scene.start(&arguments);
    eventually("the orphans to be told of", SOON, async || {
        let log = scene.log();
        let told = log.matches("the ApiAccount of the account no longer exists; the account will be disabled").count();
        if told == 2 { Ok(()) } else { Err(log) }
    })
    .await;
    assert_eq!(enabled(&sql).await, 3, "told first");
    scene.create("returned", json!({})).await;
    scene.ready("returned").await;
    eventually("the one without its resource to be disabled", SOON, async || {
        let names: Vec<String> = sqlx::query_scalar("SELECT name FROM accounts WHERE enabled ORDER BY name")
            .fetch_all(&sql)
            .await
            .map_err(|error| error.to_string())?;
        if names == ["kept", "returned"] { Ok(()) } else { Err(format!("{names:?}\n{}", scene.log())) }
    })
    .await;
    assert_eq!(scene.data("returned-opsadmin").await, keys);
}

#[tokio::test]
async fn too_many_orphans_are_held() {
    let arguments = ["--sweep-interval", "1s", "--orphan-grace", "1s"];
    let mut scene = Scene::with_controller("many orphans", &arguments).await;
    let sql = scene.sql().await;
    for number in 0..9 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..9 {
        scene.ready(&format!("a{number}")).await;
    }
    scene.stop().await;
    // This is the state after a restore of the cluster from a backup that contains only the last account.
    for number in 0..8 {
        let name = format!("a{number}");
        scene.strip_finalizers(&name).await;
        scene.accounts().delete(&name, &DeleteParams::default()).await.expect("it goes at once");
    }
    scene.start(&arguments);
    eventually("those that are held to be told of", SOON, async || {
        let log = scene.log();
        if log.matches("the ApiAccount of the account no longer exists, and the account is held").count() == 3 {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_eq!(enabled(&sql).await, 4, "five may always go, and one has its resource");
    scene.create("bystander", json!({})).await;
    scene.ready("bystander").await;
    scene.accounts().delete("bystander", &DeleteParams::default()).await.expect("the API server takes it");
    scene.event("bystander", "DeletionHeld").await;
    assert_eq!(enabled(&sql).await, 5, "nothing goes while any are held");
}

#[tokio::test]
async fn accounts_stay_enabled_if_no_resource_exists_at_all() {
    let mut scene = Scene::with_controller("none at all", &[]).await;
    let sql = scene.sql().await;
    for name in ["one", "two"] {
        scene.create(name, json!({})).await;
        scene.ready(name).await;
    }
    scene.stop().await;
    for name in ["one", "two"] {
        scene.strip_finalizers(name).await;
        scene.accounts().delete(name, &DeleteParams::default()).await.expect("it goes at once");
    }
    scene.start(&["--sweep-interval", "1s", "--orphan-grace", "1s"]);
    eventually("the controller to say that it does nothing", SOON, async || {
        let log = scene.log();
        if log.contains("not a single ApiAccount; the controller disables no account") { Ok(()) } else { Err(log) }
    })
    .await;
    // The new account proves that at least two more sweeps are done.
    scene.create("three", json!({})).await;
    scene.ready("three").await;
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM accounts WHERE enabled AND name <> 'three'")
        .fetch_one(&sql)
        .await
        .expect("a count");
    assert_eq!(left, 2);
}
