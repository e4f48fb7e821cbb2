//! The commands of OpsAdmin staff beside a running controller. The controller follows them, and does nothing twice.

use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};
use std::time::Instant;

use super::deletions::held;
use super::drift::NEVER;
use super::scene::{SOON, Scene, texts};
use crate::cli::documented::{documented, fields};
use crate::support::opsadmin::Opsadmin;
use crate::support::postgres::postgres;
use crate::support::run::Finished;
use crate::support::wait::eventually;

/// Creates a call as a user of `kubectl` does: for a namespace of a cluster.
fn call(scene: &Scene, command: &str, arguments: &[&str]) -> Opsadmin {
    let call = Opsadmin::new().args([command, "-n", scene.namespace.name(), "--kubeconfig"]);
    call.args([scene.cluster.kubeconfig()]).args(arguments)
}

async fn run(scene: &Scene, command: &str, arguments: &[&str]) -> Finished {
    call(scene, command, arguments).env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await
}

async fn json_of(scene: &Scene, command: &str, arguments: &[&str]) -> Value {
    let said = run(scene, command, &[arguments, &["-o", "json"]].concat()).await.succeeded();
    serde_json::from_str(&said).expect("it is JSON")
}

#[tokio::test]
async fn commands_of_staff_take_effect_at_once_and_nothing_is_done_twice() {
    let scene = Scene::with_controller("staff", &NEVER).await;
    scene.create("acme", json!({ "name": "Acme portal", "rotation": { "trigger": "one" } })).await;
    scene.ready("acme").await;

    run(&scene, "suspend", &["acme", "--reason", "unpaid", "--actor", "maria"]).await.succeeded();
    let suspended = scene.condition("acme", "False", "Suspended").await;
    let conditions = suspended.status.expect("it has a status").conditions;
    assert!(conditions.iter().any(|condition| condition.message.contains("unpaid")), "{conditions:?}");
    assert_eq!(run(&scene, "check", &["acme"]).await.status.code(), Some(3));
    run(&scene, "resume", &["acme", "--actor", "maria"]).await.succeeded();
    scene.ready("acme").await;

    let keys = scene.data("acme-opsadmin").await;
    let rotate = call(&scene, "rotate", &["acme", "--actor", "maria", "--keyring"]).args([&scene.keyring]);
    let said = rotate.env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await.succeeded();
    let asked = Instant::now();
    let place = format!(
        "The Secret acme-opsadmin of the ApiAccount {}/acme is written by the controller",
        scene.namespace.name()
    );
    assert!(said.contains(&place), "{said}");
    let is_new = |secret: &_| texts(secret)["OPSADMIN_SECRET_KEY"] != keys["OPSADMIN_SECRET_KEY"];
    scene.secret_where("acme-opsadmin", "to have the new keys", is_new).await;
    eprintln!("the Secret had the new keys {:?} after the command", asked.elapsed());

    let account = json_of(&scene, "get", &["acme"]).await;
    assert_eq!(account["name"], "Acme portal");
    assert_eq!(account["keys"][0]["apiKey"], scene.data("acme-opsadmin").await["OPSADMIN_API_KEY"]);
    scene.change("acme", json!({ "description": "looked at again" })).await;
    scene.ready("acme").await;
    let again = json_of(&scene, "get", &["acme"]).await;
    assert_eq!(
        (&again["keys"], again["keys"].as_array().map(Vec::len)),
        (&account["keys"], Some(2)),
        "not rotated again"
    );

    let list = json_of(&scene, "get", &[]).await;
    assert_eq!((&list["accounts"][0]["id"], list["accounts"].as_array().map(Vec::len)), (&account["id"], Some(1)));
    let history = json_of(&scene, "history", &["acme"]).await;
    let told: Vec<_> = history["entries"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| (entry["actor"].as_str().expect("somebody"), entry["action"].as_str().expect("something")))
        .collect();
    let staff = ["suspended", "resumed", "rotated"].map(|action| ("cli:maria", action));
    assert_eq!(told, [&[("controller", "created")][..], &staff, &[("controller", "updated")]].concat());

    scene.annotate("acme", json!({ "ops-admin.com/paused": "true" })).await;
    scene.condition("acme", "Unknown", "Paused").await;
    let rotate = call(&scene, "rotate", &["acme", "--keyring"]).args([&scene.keyring]);
    let said = rotate.env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await.succeeded();
    assert!(said.contains("acme is NOT written, since it is paused"), "{said}");
}

#[tokio::test]
async fn staff_are_warned_before_a_revocation_if_the_secret_will_not_get_the_new_keys() {
    let mut scene = Scene::with_controller("staff refused", &NEVER).await;
    scene.create("acme", json!({})).await;
    scene.ready("acme").await;
    scene.create("other", json!({})).await;
    scene.ready("other").await;
    scene.change("acme", json!({ "secret": { "name": "other-opsadmin" } })).await;
    scene.condition("acme", "False", "SecretConflict").await;
    let asked = revoke(&scene, &[]).await;
    let warning = "its Secret is NOT written with it, since its condition is SecretConflict: ";
    assert!(asked.stderr.contains(warning) && !asked.status.success(), "{asked:?}");
    let said: Value = serde_json::from_str(&revoke(&scene, &["--yes", "-o", "json"]).await.succeeded()).expect("JSON");
    let held = said["waiting"]["held"].as_str().expect("it is held");
    assert!(held.starts_with("its condition is SecretConflict: "), "{said}");
    assert_eq!(said["rotated"]["revoked"].as_array().map(Vec::len), Some(1), "{said}");

    scene.stop().await;
    scene.accounts().delete("acme", &DeleteParams::default()).await.expect("the API server takes the deletion");
    let going = revoke(&scene, &[]).await;
    let warning = "its Secret is NOT written with it, since its ApiAccount is being deleted: ";
    assert!(going.stderr.contains(warning) && !going.status.success(), "{going:?}");
    scene.strip_finalizers("acme").await;
    let gone = revoke(&scene, &[]).await;
    let warning = "its Secret is NOT written with it, since the cluster has no such ApiAccount: ";
    assert!(gone.stderr.contains(warning) && !gone.status.success(), "{gone:?}");
}

/// Rotates the keys of acme without an overlap, as after a leak.
async fn revoke(scene: &Scene, more: &[&str]) -> Finished {
    let call = call(scene, "rotate", &["acme", "--overlap", "0s", "--keyring"]).args([&scene.keyring]);
    call.args(more).env("OPSADMIN_DATABASE_URL", scene.database.url()).run().await
}

#[tokio::test]
async fn an_account_of_another_cluster_is_not_taken_for_one_of_the_kubeconfigs() {
    let mut scene = Scene::with_controller("elsewhere", &NEVER).await;
    scene.create("acme", json!({ "name": "Acme portal" })).await;
    scene.ready("acme").await;
    scene.stop().await;
    let moved = "UPDATE accounts SET owner_cluster = 'elsewhere'";
    postgres().await.execute(scene.database.name(), moved).await;
    let path = format!("{}/acme", scene.namespace.name());
    let refused = run(&scene, "suspend", &["acme", "--reason", "unpaid"]).await;
    let said = "; add --cluster-id ID for an account of another cluster: Acme portal of the ApiAccount elsewhere/";
    assert!(refused.stderr.contains(said) && !refused.status.success(), "{refused:?}");
    assert!(refused.stderr.contains(&format!("no account of the ApiAccount {path} of the cluster ")), "{refused:?}");
    // What it says is done.
    run(&scene, "suspend", &["acme", "--reason", "unpaid", "--cluster-id", "elsewhere"]).await.succeeded();
}

#[tokio::test]
async fn held_deletions_continue_after_they_are_released() {
    let scene = Scene::with_controller("release", &[]).await;
    for number in 0..8 {
        scene.create(&format!("a{number}"), json!({})).await;
    }
    for number in 0..8 {
        scene.ready(&format!("a{number}")).await;
    }
    let release = async |arguments: &[&str]| call(&scene, "release", arguments).run().await;
    let none = release(&["--all"]).await;
    let nowhere = format!("nothing is held in the namespace {}; -A looks in all\n", scene.namespace.name());
    assert!(none.stderr.contains(&nowhere) && none.status.success(), "{none:?}");
    let deleted = scene.accounts().delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    deleted.expect("the API server takes the deletion");
    let names = held(&scene, 3).await;

    let listed = release(&[]).await.succeeded();
    assert!(names.iter().all(|name| listed.contains(&format!("   {name}   "))), "{listed}");
    let unasked = release(&["--all"]).await;
    assert!(
        unasked.stderr.contains("to go on without the question, give --yes") && !unasked.status.success(),
        "{unasked:?}"
    );
    let wrong = release(&["nobody", &names[0], "--yes"]).await;
    assert!(wrong.stderr.contains("nobody is not held; nothing was released"), "{wrong:?}");
    assert_eq!(held(&scene, 3).await, names, "all of it is still held");

    let mistyped = release(&[&format!("{}x", names[1]), "--yes"]).await;
    assert!(mistyped.stderr.contains("x is not held; nothing was released"), "{mistyped:?}");
    let path = format!("{}/{}", scene.namespace.name(), names[1]);
    let mistyped = release(&[&format!("{path}x"), "--yes"]).await;
    assert!(mistyped.stderr.contains(&format!("{path}x is not held, and {}", scene.namespace.name())), "{mistyped:?}");
    let one = release(&[&path, "--yes"]).await.succeeded();
    assert!(one.ends_with(&format!("released {}/{}\n", scene.namespace.name(), names[1])), "{one}");
    assert_eq!(held(&scene, 2).await, [names[0].clone(), names[2].clone()]);
    let rest = release(&["--all", "--yes", "-o", "json"]).await.succeeded();
    let rest: Value = serde_json::from_str(&rest).expect("it is JSON");
    assert_eq!(fields(&rest, &[]), documented("release"));
    assert_eq!((&rest["held"][1]["name"], &rest["held"][1]["released"]), (&json!(names[2]), &json!(true)));
    eventually("all of them to go", SOON, async || {
        let left = scene.accounts().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if left.items.is_empty() { Ok(()) } else { Err(format!("{} left\n{}", left.items.len(), scene.log())) }
    })
    .await;
}
