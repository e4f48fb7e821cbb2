//! What happens to an operator in production while accounts are created: an upgrade, a rollback, the leader's death, a
//! restart of the database, an uninstallation. No account is lost or created twice, and no key changes.

use std::fs;
use std::process::Command;

use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::load::{Keys, create, settled, while_accounts_are_created};
use crate::release::{Installation, Release};
use crate::scene::{Scene, identity, is_ready, name};
use crate::support::run::run;
use crate::support::wait::eventually;
use crate::world::{SOON, once};

/// A second release beside the one that serves the partners.
const DISTURBED: Installation = Installation {
    name: "disturbed",
    namespace: "disturbed-system",
    watched: &["disturbed"],
    has_definition: false,
    has_auth_server: false,
};

/// Returns the namespace of the disturbed release, with at least one account. One test at a time has it.
async fn disturbed() -> MutexGuard<'static, Scene> {
    static SCENE: OnceCell<Option<Mutex<Scene>>> = OnceCell::const_new();
    let make = async {
        let release: &'static Release = Box::leak(Box::new(Release::create(&DISTURBED).await));
        let scene = Scene { release, namespace: DISTURBED.watched[0] };
        create(&release.accounts(scene.namespace), "first").await;
        Mutex::new(scene)
    };
    once(&SCENE, make.boxed_local()).await.lock().await
}

/// Checks that each account still has its keys, in a Secret that was not written again.
fn assert_unchanged(before: &Keys, after: &Keys) {
    for (account, keys) in before {
        assert!(after.get(account) == Some(keys), "the Secret of {account} has changed");
    }
}

/// Upgrades to an image with another tag, and rolls back. The hook leaves the keyring alone.
pub async fn an_upgrade_and_a_rollback_under_load_change_no_key() {
    let scene = disturbed().await;
    let release = scene.release;
    let (before, keyring) = (settled(&scene).await, release.keyring_secret().await);
    assert_eq!(images(release).await, "0.1.0 0.1.0");

    while_accounts_are_created(&scene, "upgrade", async {
        release.upgrade(&["--set=image.tag=next"]).await;
        assert_eq!(images(release).await, "next next");
    })
    .await;
    let between = settled(&scene).await;
    assert_unchanged(&before, &between);
    while_accounts_are_created(&scene, "rollback", async {
        release.roll_back().await;
        assert_eq!(images(release).await, "0.1.0 0.1.0");
    })
    .await;
    assert_unchanged(&between, &settled(&scene).await);
    assert!(release.keyring_secret().await == keyring, "the keyring was written");
}

/// Returns the tags of the images of the operator's pods.
async fn images(release: &Release) -> String {
    let tag = |pod: Pod| {
        let image = pod.spec.and_then(|spec| spec.containers[0].image.clone()).expect("it has an image");
        image.rsplit_once(':').map(|(_, tag)| tag.to_owned()).expect("the image has a tag")
    };
    release.pods().await.into_iter().map(tag).collect::<Vec<_>>().join(" ")
}

/// The leader's process is killed, and then the pod of the next leader. Neither has time to release the Lease.
pub async fn the_leaders_death_under_load_loses_and_doubles_nothing() {
    let scene = disturbed().await;
    let before = settled(&scene).await;
    while_accounts_are_created(&scene, "death", async {
        let leader = scene.release.leader().await;
        kill(&leader).await;
        let next = another_leads(&scene, &leader).await;
        // The process would end in order if only the pod were deleted.
        kill(&next).await;
        let delete = ["delete", "pod", pod_of(&next), "--grace-period=0", "--force"];
        scene.release.world.cluster.kubectl(DISTURBED.namespace, &delete).await.succeeded();
        another_leads(&scene, &next).await;
    })
    .await;
    assert_unchanged(&before, &settled(&scene).await);
    scene.release.rolled_out().await;
}

/// Waits until a process with another identity leads, and returns its identity.
async fn another_leads(scene: &Scene, former: &str) -> String {
    eventually("another leader", SOON, async || {
        let leader = scene.release.leader().await;
        if leader.is_empty() || leader == former { Err(scene.release.log().await) } else { Ok(leader) }
    })
    .await
}

/// Returns the name of the pod in the identity of a leader.
fn pod_of(leader: &str) -> &str {
    leader.rsplit_once('_').expect("an identity has two parts").0
}

/// Kills the program in a leader's pod. The node is this machine, so its processes are here.
async fn kill(leader: &str) {
    let variable = format!("POD_NAME={}", pod_of(leader));
    let is_leader = |process: &str| {
        // Other processes may end meanwhile.
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
    };
    let processes = fs::read_dir("/proc").expect("it can be listed").flatten();
    let mut processes = processes.filter_map(|process| process.file_name().into_string().ok());
    let process = processes.find(|process| is_leader(process)).expect("the leader runs on this machine");
    let mut kill = Command::new("kill");
    kill.args(["-KILL", &process]);
    run(kill, "", SOON).await.succeeded();
}

/// The operator's pods wait for the database, and are not restarted.
pub async fn a_restart_of_the_database_under_load_restarts_no_pod_of_the_operator() {
    let scene = disturbed().await;
    let release = scene.release;
    let before = settled(&scene).await;
    let pods = release.pods().await;
    while_accounts_are_created(&scene, "restart", release.database.restart(release.world, DISTURBED.namespace)).await;
    assert_unchanged(&before, &settled(&scene).await);
    for pod in &pods {
        let same = release.pods().await.into_iter().find(|other| name(other) == name(pod));
        assert_eq!(same.as_ref().map(identity), Some(identity(pod)), "{}", release.log().await);
    }
}

/// Accounts work on without an operator, and the next installation continues with the same keyring and keys.
pub async fn uninstalled_and_installed_again_it_has_the_same_keys() {
    let scene = disturbed().await;
    let release = scene.release;
    let (before, keyring) = (settled(&scene).await, release.keyring_secret().await);

    release.uninstall().await;
    let left = ["get", "all,roles,rolebindings,networkpolicies,pdb", "--ignore-not-found", "-o", "name"];
    let left = [&left[..], &["-l", "app.kubernetes.io/instance=disturbed"]].concat();
    for namespace in [DISTURBED.namespace, scene.namespace] {
        assert_eq!(release.world.cluster.kubectl(namespace, &left).await.succeeded(), "", "{namespace}");
    }
    let (pair, _) = &before["first"];
    assert!(scene.logs_in(&pair.api_key).await, "an account needs no operator to work");
    let accounts = release.accounts(scene.namespace);
    create(&accounts, "waiting").await;

    release.install().await;
    let after = settled(&scene).await;
    assert!(is_ready(&accounts.get("waiting").await.expect("it was created")));
    assert_eq!(after.len(), before.len() + 1);
    assert_unchanged(&before, &after);
    assert_eq!(scene.in_database("first").await, *pair, "the keyring opens the keys in the database");
    assert!(release.keyring_secret().await == keyring, "the keyring was written");
}
