//! The rights that `opsadmin render --aggregated-roles` adds to the cluster's own roles.

use super::office::rendered;
use crate::controller::scene::SOON;
use crate::support::cluster::Cluster;
use crate::support::wait::eventually;

#[tokio::test]
async fn view_and_edit_get_rights_to_accounts_but_none_to_grant_and_view_none_to_secrets() {
    // On the shared cluster, the rights would also change what users in other tests may do.
    let cluster = Cluster::of_its_own().await;
    cluster.install_definitions().await;
    let namespace = cluster.namespace("aggregated").await;
    let manifests = rendered(namespace.name(), &["--aggregated-roles"], &["ClusterRole"]).await;
    cluster.kubectl_with("", &["apply", "-f", "-"], &manifests).await.succeeded();
    for role in ["view", "edit", "admin"] {
        let (role_option, user) = (format!("--clusterrole={role}"), format!("--user={role}"));
        let binding = ["create", "rolebinding", role, &role_option, &user];
        cluster.kubectl(namespace.name(), &binding).await.succeeded();
    }
    let may = async |user: &str, verb: &str, resource: &str| {
        let user = format!("--as={user}");
        let arguments: Vec<&str> = ["auth", "can-i", verb].into_iter().chain(resource.split(' ')).collect();
        let asked = cluster.kubectl(namespace.name(), &[&arguments[..], &[&user]].concat()).await;
        asked.stdout.trim() == "yes"
    };
    for (user, verb) in
        [("view", "watch"), ("edit", "watch"), ("admin", "watch"), ("edit", "patch"), ("admin", "delete")]
    {
        eventually(&format!("{user} to be allowed to {verb}"), SOON, async || {
            if may(user, verb, "apiaccounts.ops-admin.com").await { Ok(()) } else { Err("no") }
        })
        .await;
    }
    for verb in ["create", "update", "patch", "delete"] {
        assert!(!may("view", verb, "apiaccounts.ops-admin.com").await, "{verb}");
    }
    for user in ["view", "edit", "admin"] {
        assert!(!may(user, "grant", "apiroles.ops-admin.com/Customer").await, "{user}");
        assert!(!may(user, "patch", "apiaccounts.ops-admin.com --subresource=status").await, "{user}");
    }
    assert!(!may("view", "get", "secrets").await);
}
