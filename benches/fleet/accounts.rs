//! The accounts of the benchmark, as a platform team would declare them.

use futures::stream::{self, StreamExt as _};
use kube::api::PostParams;
use kube::{Api, Client};
use opsadmin_operator::api::ApiAccount;
use serde_json::json;

/// How many accounts are created at a time.
const AT_A_TIME: usize = 16;

/// Creates this number of ApiAccounts in the namespace.
pub async fn create(client: Client, namespace: &str, count: usize) {
    let api: Api<ApiAccount> = Api::namespaced(client, namespace);
    stream::iter(0..count)
        .for_each_concurrent(AT_A_TIME, |number| {
            let api = &api;
            async move {
                let created = api.create(&PostParams::default(), &account(namespace, number)).await;
                created.unwrap_or_else(|error| panic!("creating account {number}: {error}"));
            }
        })
        .await;
}

/// An account with two roles and two networks.
pub fn account(namespace: &str, number: usize) -> ApiAccount {
    let network = number % 256;
    serde_json::from_value(json!({
        "apiVersion": "ops-admin.com/v1",
        "kind": "ApiAccount",
        "metadata": {"name": format!("partner-{number}"), "namespace": namespace},
        "spec": {
            "description": format!("Partner {number}, who reads plans and enrolls customers"),
            "roles": ["Customer", "PlansAndRates"],
            "allowedIPs": ["203.0.113.7/32", format!("198.51.{network}.0/24")],
            "rotation": {"interval": "720h", "overlap": "24h"},
        },
    }))
    .expect("it is an ApiAccount")
}
