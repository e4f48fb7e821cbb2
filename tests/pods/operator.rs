//! The operator as a pod.

use crate::world::world;

/// `deploy/` as it stands, in a restricted namespace.
pub async fn runs_as_its_manifests_say_and_is_replaced_without_a_key_changing() {
    let world = world().await;
    let said = world.cluster.kubectl("", &["get", "pods", "-A", "-o", "wide"]).await;
    println!("{}", said.stdout);
    println!("{}", world.operator_log().await);
}
