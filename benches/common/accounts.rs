//! The accounts of the benchmarks, as a platform team would declare them, and the creation of many objects.

use std::fmt::Debug;

use futures::stream::{self, StreamExt as _};
use kube::Api;
use kube::api::PostParams;
use opsadmin_operator::api::ApiAccount;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

/// How many objects are created at a time.
const AT_A_TIME: usize = 16;

/// Creates these objects.
pub async fn create<K: Clone + Debug + DeserializeOwned + Serialize>(api: &Api<K>, objects: impl Iterator<Item = K>) {
    stream::iter(objects)
        .for_each_concurrent(AT_A_TIME, async |object| {
            let created = api.create(&PostParams::default(), &object).await;
            created.unwrap_or_else(|error| panic!("creating {object:?}: {error}"));
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
