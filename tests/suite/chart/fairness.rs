//! The controller's own share of the API server's requests: the API server counts the controller's requests for it, and
//! no request of another client.

use std::time::Duration;

use super::rendered::values;
use crate::support::cluster::cluster;
use crate::support::helm::Helm;
use crate::support::wait::eventually;

#[tokio::test]
async fn the_api_server_gives_the_controller_a_share_of_its_own() {
    let (cluster, helm) = (cluster().await, Helm::new().await);
    let namespace = cluster.namespace("fair").await;
    let here = namespace.name();
    let only = ["--set=flowSchema.enabled=true", "--show-only=templates/flowschema.yaml"];
    let rendered = helm.template("ops", here, &values("default"), &only).await.succeeded();
    cluster.kubectl_with("", &["apply", "-f", "-"], &rendered).await.succeeded();

    let own = format!("{here}-ops-opsadmin-operator");
    let lease = format!("{own}-lease");
    let leases = format!("/apis/coordination.k8s.io/v1/namespaces/{here}/leases");
    let elsewhere = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
    for (path, account, schema) in [
        ("/api/v1/secrets", "ops-opsadmin-operator", own.as_str()),
        ("/api/v1/namespaces/default/secrets", "ops-opsadmin-operator", &own),
        (&leases, "ops-opsadmin-operator", &lease),
        (elsewhere, "ops-opsadmin-operator", &own),
        ("/api/v1/secrets", "another", "service-accounts"),
    ] {
        let account = format!("--as=system:serviceaccount:{here}:{account}");
        eventually(&format!("{path} of {account} to count for {schema}"), Duration::from_secs(30), async || {
            let uid = ["get", "flowschema", schema, "-o", "jsonpath={.metadata.uid}"];
            let uid = cluster.kubectl("", &uid).await.succeeded();
            // The account has no rights. The API server counts its requests all the same.
            let asked = cluster.kubectl("", &["get", "--raw", path, &account, "--v=8"]).await;
            if asked.stderr.contains(&uid) { Ok(()) } else { Err(format!("{uid}: {}", asked.stderr)) }
        })
        .await;
    }
    cluster.kubectl_with("", &["delete", "-f", "-"], &rendered).await.succeeded();
}
