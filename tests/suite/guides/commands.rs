//! Runs the commands of the guides, exactly as the guides have them.

use super::page;
use crate::controller::scene::Scene;
use crate::examples;
use crate::support::shell::Shell;

/// Returns the blocks of commands of a page, in order.
fn commands(path: &str) -> Vec<String> {
    let text = page(path);
    let blocks: Vec<_> =
        text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect();
    assert!(!blocks.is_empty(), "{path} has no commands");
    blocks
}

/// Runs all commands of a page, and returns what they printed.
async fn follow(path: &str, shell: &Shell) -> String {
    let mut printed = String::new();
    for block in commands(path) {
        let finished = shell.run(&block).await;
        assert!(finished.status.success(), "{path}:\n{block}\n{finished:?}");
        printed += &finished.stdout;
    }
    printed
}

#[tokio::test]
async fn kubectl() {
    let scene = Scene::with_controller("guide-kubectl", &[]).await;
    let mut shell = Shell::in_namespace(scene.cluster, scene.namespace.name()).await;
    shell.set("OPSADMIN_DATABASE_URL", scene.database.url());
    let printed = follow("docs/kubectl.md", &shell).await;
    assert!(printed.contains("acme-portal-opsadmin") && printed.contains("Active"), "{printed}");
    let read = |name: &str| std::fs::read_to_string(shell.path(name)).expect("it was written");
    assert!(read("acme.key").starts_with("opsa_pk_") && read("acme.secret").starts_with("opsa_sk_"));
    assert!(!printed.contains("opsa_sk_"), "{printed}");
    // Only the changes that the guide waits for are checked: two successive changes may be reconciled as one.
    for (reason, note) in [
        ("Updated", "allowedIPs"),
        ("Rotated", "the old key pair is revoked"),
        ("Updated", "enabled: true → false"),
        ("Disabled", ""),
    ] {
        scene.event_with("acme-portal", reason, note).await;
    }
}

#[tokio::test]
async fn partners() {
    let scene = Scene::with_controller("guide-partners", &["--unknown-affiliate", "register"]).await;
    let namespace = scene.namespace.name();
    let staging = examples::built(scene.cluster, "overlays/staging").await;
    let staging = staging.replace("namespace: partners-staging\n", &format!("namespace: {namespace}\n"));
    let apply = ["apply", "--server-side", "-f", "-"];
    scene.cluster.kubectl_with(namespace, &apply, &staging).await.succeeded();
    scene.ready("halden-app").await;
    let shell = Shell::in_namespace(scene.cluster, namespace).await;
    let printed = follow("docs/partners.md", &shell).await;
    assert!(printed.contains("kestrel-billing restarted") && printed.contains("Active"), "{printed}");
    assert!(printed.lines().any(|line| line.parse::<jiff::Timestamp>().is_ok()), "{printed}");
}

#[tokio::test]
async fn a_platform_team() {
    let scene = Scene::with_controller("guide-platform", &["--unknown-affiliate", "register"]).await;
    let mut shell = Shell::in_namespace(scene.cluster, scene.namespace.name()).await;
    examples::copy(&examples::platform(""), &shell.path(""));
    examples::move_to(&shell, scene.namespace.name());
    shell.set("OPSADMIN_DATABASE_URL", scene.database.url());
    shell.run("kubectl apply -k base/accounts").await.succeeded();
    for name in ["halden-app", "kestrel-billing", "linden-compare"] {
        scene.ready(name).await;
    }
    let printed = follow("docs/platform-team.md", &shell).await;
    assert!(
        printed.contains("accounts are valid") && printed.contains("3 accounts: 2 to change, 1 unchanged"),
        "{printed}"
    );
}
