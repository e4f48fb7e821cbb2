//! A namespace with a policy of `opsadmin render`, and users without further rights who edit ApiAccounts there.

use serde_json::{Value, json};

use crate::support::cluster::Cluster;
use crate::support::namespace::TestNamespace;
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;

/// Returns the objects of these kinds that `opsadmin render` prints with these options, for this namespace only. Their
/// names contain the namespace, so that tests do not share a policy.
pub async fn rendered(namespace: &str, options: &[&str], kinds: &[&str]) -> String {
    let call = Opsadmin::new().args(["render", "--image", "i", "--namespace", namespace, "--watch", namespace]);
    let out = call.args(options).run().await.succeeded();
    let objects: Vec<Value> = serde_saphyr::from_multiple(&out).expect("it is YAML");
    let is_wanted = |object: &Value| kinds.contains(&object["kind"].as_str().expect("a kind"));
    let wanted: Vec<Value> = objects.into_iter().filter(is_wanted).collect();
    assert!(!wanted.is_empty(), "{out}");
    json!({ "apiVersion": "v1", "kind": "List", "items": wanted }).to_string()
}

/// Returns the manifest of an ApiAccount.
pub fn account(name: &str, spec: &Value) -> String {
    json!({ "apiVersion": "ops-admin.com/v1", "kind": "ApiAccount", "metadata": { "name": name }, "spec": spec })
        .to_string()
}

/// A namespace with the policy for grants.
pub struct Office {
    pub cluster: &'static Cluster,
    pub namespace: TestNamespace,
    policy: String,
}

impl Office {
    /// Creates a namespace in which all authenticated users may edit ApiAccounts, and installs the policy in this mode.
    pub async fn open(cluster: &'static Cluster, test_name: &str, mode: &str) -> Self {
        let namespace = cluster.namespace(test_name).await;
        let kinds = ["ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"];
        let policy = rendered(namespace.name(), &["--grants", mode], &kinds).await;
        let office = Self { cluster, namespace, policy };
        let role = ["create", "role", "edit", "--verb=*", "--resource=apiaccounts.ops-admin.com"];
        cluster.kubectl(office.namespace.name(), &role).await.succeeded();
        let binding = ["create", "rolebinding", "edit", "--role=edit", "--group=system:authenticated"];
        cluster.kubectl(office.namespace.name(), &binding).await.succeeded();
        cluster.kubectl_with("", &["apply", "-f", "-"], &office.policy).await.succeeded();
        office
    }

    /// Runs kubectl as this user.
    pub async fn kubectl(&self, user: &str, arguments: &[&str], input: &str) -> Finished {
        let user = format!("--as={user}");
        let arguments: Vec<&str> = arguments.iter().copied().chain([user.as_str()]).collect();
        self.cluster.kubectl_with(self.namespace.name(), &arguments, input).await
    }

    /// Creates an ApiAccount as this user.
    pub async fn create(&self, user: &str, name: &str, spec: &Value) -> Finished {
        self.kubectl(user, &["create", "-f", "-"], &account(name, spec)).await
    }

    /// Gives the rights that the message of a refusal names, as an administrator.
    pub async fn grant_as_advised(&self, message: &str) {
        let (_, input) = message.split_once("and the input ").expect("the message has an input for kubectl");
        self.cluster.kubectl_with("", &["create", "-f", "-"], input).await.succeeded();
    }

    /// Removes the policy.
    pub async fn close(self) {
        self.cluster.kubectl_with("", &["delete", "-f", "-"], &self.policy).await.succeeded();
    }
}
