//! The partners' programs of `examples/platform`, and the rules in `docs/partners.md` for their authors.

use std::time::{Duration, Instant};

use futures::FutureExt as _;
use futures::future::join_all;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::scene::{Pair, Place, Scene, container, identity, name, until};
use crate::support::wait::eventually;
use crate::world::{once, repository};

/// The deadline for the kubelet to update the files of a mounted Secret. With default settings it takes up to a minute
/// and a half, and more on a busy machine.
const FILES_CHANGE_WITHIN: Duration = Duration::from_mins(2);
/// The deadline for the same update after a change of the pod. It is much less than the minute between the kubelet's
/// own refreshes.
const FILES_CHANGE_AT_ONCE_WITHIN: Duration = Duration::from_secs(20);

const FILES: Place = Place { secret: "halden-app-opsadmin", api_key: "api-key", secret_key: "secret-key" };
const VARIABLES: Place =
    Place { secret: "kestrel-billing-opsadmin", api_key: "OPSADMIN_API_KEY", secret_key: "OPSADMIN_SECRET_KEY" };

/// Returns the example's staging environment.
async fn staging() -> &'static Scene {
    static STAGING: OnceCell<Option<Scene>> = OnceCell::const_new();
    once(&STAGING, set_staging().boxed_local()).await
}

/// Applies the Deployments first: their pods must wait for the Secrets.
async fn set_staging() -> Scene {
    let scene = Scene::set("partners-staging").await;
    scene.apply_example("overlays/staging/partners").await;
    scene.waits("halden-app", r#"secret "halden-app-opsadmin" not found"#).await;
    scene.waits("kestrel-billing", r#"secret "kestrel-billing-opsadmin" not found"#).await;

    scene.release.opsadmin(&["affiliates", "add", "Linden"]).run().await.succeeded();
    scene.apply_example("overlays/staging/accounts").await;
    for account in ["halden-app", "kestrel-billing", "linden-compare", "sandbox"] {
        scene.ready(account).await;
    }
    for deployment in ["halden-app", "kestrel-billing"] {
        scene.release.world.rolled_out(scene.namespace, deployment).await;
    }
    scene.kubectl(&["get", "networkpolicy", "ops-admin-api-clients"]).await.succeeded();
    scene
}

/// Creates a pod like those of the Deployment, with an additional `subPath` mount of one file.
async fn add_pod_with_a_sub_path(scene: &Scene) {
    let deployment = scene.kubectl(&["get", "deployment", "halden-app", "-o", "json"]).await.succeeded();
    let deployment: Value = serde_json::from_str(&deployment).expect("kubectl prints JSON");
    let mut spec = deployment["spec"]["template"]["spec"].clone();
    let mounts = spec["containers"][0]["volumeMounts"].as_array_mut().expect("it mounts the Secret");
    mounts.push(json!({ "name": "opsadmin", "mountPath": "/fixed/api-key", "subPath": "api-key", "readOnly": true }));
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": "sub-path" }, "spec": spec });
    scene.apply(&pod.to_string()).await;
    scene.kubectl(&["wait", "--for=condition=Ready", "pod/sub-path", "--timeout=50s"]).await.succeeded();
}

/// The files change without a restart, both at the same time, but not under a `subPath`. After a leak, an annotation of
/// the pod makes the files change at once.
pub async fn keys_as_files_change_while_the_program_runs() {
    let scene = staging().await;
    let before = scene.in_secret(FILES).await;
    assert_eq!(before, scene.in_database("Halden app").await);
    let pods = scene.pods("halden-app").await;
    assert_eq!(pods.len(), 2);
    for pod in &pods {
        let script = r#"cat "$OPSADMIN_API_KEY_FILE"; echo; cat "$OPSADMIN_SECRET_KEY_FILE""#;
        let read = scene.exec(name(pod), script).await.succeeded();
        assert_eq!(read, format!("{}\n{}", before.api_key, before.secret_key));
    }
    add_pod_with_a_sub_path(scene).await;

    scene.release.opsadmin_with_keyring(&["rotate", "Halden app"]).run().await.succeeded();
    let after = scene.rotated(FILES, &before).await;
    assert_eq!(after, scene.in_database("Halden app").await);
    let names = pods.iter().map(name).chain(["sub-path"]);
    join_all(names.map(|pod| files_change(scene, pod, &before, &after))).await;
    let fixed = scene.exec("sub-path", "cat /fixed/api-key").await.succeeded();
    assert_eq!(fixed, before.api_key, "a file by itself stays as it was");
    assert!(scene.logs_in(&before.api_key).await, "it still works");

    // The kubelet has just refreshed these pods. Its next own refresh would be a minute later.
    scene.release.opsadmin_with_keyring(&["rotate", "Halden app", "--overlap", "0s", "--yes"]).run().await.succeeded();
    assert!(!scene.logs_in(&after.api_key).await, "refused from the moment that the command returns");
    let last = scene.rotated(FILES, &after).await;
    let mut times = 0;
    eventually("the files to change because of an annotation", FILES_CHANGE_AT_ONCE_WITHIN, async || {
        // Annotates repeatedly, because the kubelet may see the change of the pod before the change of the Secret.
        times += 1;
        let annotation = format!("reload={times}");
        let pods_of = ["annotate", "pods", "-l", "app.kubernetes.io/name=halden-app", "--overwrite", &annotation];
        scene.kubectl(&pods_of).await.succeeded();
        for pod in &pods {
            let seen = scene.in_files(name(pod), "/etc/opsadmin", FILES).await?;
            if seen != last {
                return Err(format!("{seen:?} is not {last:?}"));
            }
        }
        Ok(())
    })
    .await;

    let same = scene.pods("halden-app").await;
    let identities = |pods: &[Pod]| pods.iter().map(|pod| format!("{:?}", identity(pod))).collect::<Vec<_>>();
    assert_eq!(identities(&same), identities(&pods), "nothing was restarted");
    scene.kubectl(&["delete", "pod", "sub-path"]).await.succeeded();
}

/// Waits until the files of a pod contain the new key pair. Until then they must contain the old one, and never a
/// mixture.
async fn files_change(scene: &Scene, pod: &str, before: &Pair, after: &Pair) {
    let began = Instant::now();
    eventually(&format!("the files of {pod} to change"), FILES_CHANGE_WITHIN, async || {
        let seen = scene.in_files(pod, "/etc/opsadmin", FILES).await?;
        assert!(seen == *before || seen == *after, "{seen:?} is neither {before:?} nor {after:?}");
        if seen == *after { Ok(()) } else { Err("they have the old pair".to_owned()) }
    })
    .await;
    println!("the files of {pod} changed {:.0} s after the Secret", began.elapsed().as_secs_f64());
}

/// The old key pair works until the overlap ends.
pub async fn keys_as_variables_change_with_a_restart_within_the_overlap() {
    let scene = staging().await;
    let before = scene.in_secret(VARIABLES).await;
    assert_eq!(before, scene.in_database("Kestrel billing").await);
    let old = scene.pods("kestrel-billing").await.remove(0);
    assert_eq!(scene.in_variables(name(&old)).await, before);

    let annotation = "ops-admin.com/rotate=now";
    scene.kubectl(&["annotate", "apiaccount", "kestrel-billing", "--overwrite", annotation]).await.succeeded();
    let after = scene.rotated(VARIABLES, &before).await;
    assert_eq!(after, scene.in_database("Kestrel billing").await);
    let states = eventually("the status to tell of both pairs", Duration::from_secs(30), async || {
        let keys = scene.ready("kestrel-billing").await.status.map(|status| status.keys).unwrap_or_default();
        if keys.len() == 2 { Ok(keys) } else { Err(format!("{keys:?}")) }
    })
    .await;
    for key in &states {
        let is_old = key.api_key == before.api_key;
        assert_eq!(key.state, if is_old { "Retiring" } else { "Active" }, "{states:?}");
        let left = key.expires.as_ref().map(until);
        assert_eq!(left.is_some_and(|left| left > Duration::from_hours(95)), is_old, "{left:?}");
    }

    let same = scene.pods("kestrel-billing").await.remove(0);
    assert_eq!(identity(&same), identity(&old));
    assert_eq!(scene.in_variables(name(&old)).await, before, "a running program keeps what it was given");
    assert!(scene.logs_in(&before.api_key).await, "which works on");

    scene.kubectl(&["rollout", "restart", "deployment", "kestrel-billing"]).await.succeeded();
    scene.release.world.rolled_out(scene.namespace, "kestrel-billing").await;
    let new = scene.pods("kestrel-billing").await.remove(0);
    assert_ne!(name(&new), name(&old));
    assert_eq!(scene.in_variables(name(&new)).await, after);
    assert!(scene.logs_in(&after.api_key).await);
}

/// A suspension does not remove the keys from a pod, but they are refused. After a deletion, the next pod waits until
/// the account is declared again. The account then has the same keys.
pub async fn a_suspended_and_a_deleted_account_no_longer_serve_a_pod() {
    let scene = Scene::set("leaving").await;
    let account = json!({
        "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": "halden-app" },
        "spec": { "name": "Leaving", "roles": ["Customer"],
                  "secret": { "keys": { "apiKey": FILES.api_key, "secretKey": FILES.secret_key } } },
    })
    .to_string();
    scene.apply(&account).await;
    scene.ready("halden-app").await;
    let pair = scene.in_secret(FILES).await;
    let deployment = repository("examples/platform/base/partners/halden-app.yaml").display().to_string();
    scene.kubectl(&["apply", "--server-side", "-f", &deployment]).await.succeeded();
    scene.release.world.rolled_out(scene.namespace, "halden-app").await;
    let pods = scene.pods("halden-app").await;
    let in_files = async || scene.in_files(name(&pods[0]), "/etc/opsadmin", FILES).await;
    assert_eq!(in_files().await.as_ref(), Ok(&pair));

    scene.release.opsadmin(&["suspend", "Leaving", "--reason", "a test"]).run().await.succeeded();
    assert!(!scene.logs_in(&pair.api_key).await, "refused from the moment that the command returns");
    assert_eq!(in_files().await.as_ref(), Ok(&pair));
    scene.release.opsadmin(&["resume", "Leaving"]).run().await.succeeded();
    assert!(scene.logs_in(&pair.api_key).await);
    scene.ready("halden-app").await;

    scene.kubectl(&["delete", "apiaccount", "halden-app"]).await.succeeded();
    assert!(!scene.logs_in(&pair.api_key).await, "refused from the moment that the command returns");
    eventually("the Secret to be gone", Duration::from_mins(1), async || {
        let secret = scene.kubectl(&["get", "secret", FILES.secret, "--ignore-not-found", "-o", "name"]).await;
        if secret.stdout.is_empty() { Ok(()) } else { Err(secret.stdout) }
    })
    .await;
    scene.kubectl(&["delete", "pod", "--all"]).await.succeeded();
    scene.waits("halden-app", r#"secret "halden-app-opsadmin" not found"#).await;

    scene.apply(&account).await;
    scene.release.world.rolled_out(scene.namespace, "halden-app").await;
    let pods = scene.pods("halden-app").await;
    assert!(pods.iter().all(|pod| container(pod).is_some_and(|container| container.ready)));
    assert_eq!(scene.in_files(name(&pods[0]), "/etc/opsadmin", FILES).await.as_ref(), Ok(&pair), "the keys it had");
    assert!(scene.logs_in(&pair.api_key).await);
}
