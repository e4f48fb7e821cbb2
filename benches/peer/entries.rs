//! The operators that are compared, each with its defaults and with the settings that make it fastest.

use std::time::Duration;

use kube::api::{ApiResource, DynamicObject};
use kube::core::GroupVersionKind;
use opsadmin_operator::api::FINALIZER;

use super::accounts;
use super::provider_sql::{API_VERSION, ProviderSql, role};
use super::support::opsadmin::RunningController;
use super::support::process::Supervised;
use super::support::wait::eventually;
use super::world::World;

const SOON: Duration = Duration::from_secs(30);

/// The policy by which the API server puts the finalizer on a new ApiAccount.
const FINALIZER_POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/finalizer-policy.yaml");

/// One operator with its settings.
pub struct Entry {
    pub operator: Operator,
    /// Whether it has the settings that make it fastest.
    pub is_tuned: bool,
    /// These settings, for people.
    pub settings: &'static str,
    /// The namespace of its objects.
    pub namespace: &'static str,
    /// The query for the number of its objects in the database.
    pub stored: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Opsadmin,
    ProviderSql,
}

/// In the order in which they are measured.
pub const ENTRIES: [Entry; 4] = [
    Entry {
        operator: Operator::Opsadmin,
        is_tuned: false,
        settings: "defaults",
        namespace: "ours",
        stored: "SELECT count(*) FROM accounts WHERE owner_namespace = 'ours'",
    },
    Entry {
        operator: Operator::ProviderSql,
        is_tuned: false,
        settings: "defaults",
        namespace: "theirs",
        stored: "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'theirs-%'",
    },
    Entry {
        operator: Operator::Opsadmin,
        is_tuned: true,
        settings: "the finalizer policy",
        namespace: "ours-tuned",
        stored: "SELECT count(*) FROM accounts WHERE owner_namespace = 'ours-tuned'",
    },
    Entry {
        operator: Operator::ProviderSql,
        is_tuned: true,
        settings: "`--max-reconcile-rate 100`, Roles that declare every field",
        namespace: "theirs-tuned",
        stored: "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'theirs-tuned-%'",
    },
];

impl Entry {
    /// The kind of its objects.
    pub fn kind(&self) -> ApiResource {
        let (api_version, kind) = match self.operator {
            Operator::Opsadmin => ("ops-admin.com/v1", "ApiAccount"),
            Operator::ProviderSql => (API_VERSION, "Role"),
        };
        let (group, version) = api_version.split_once('/').expect("it has a group");
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }

    /// One of its objects.
    pub fn object(&self, number: usize) -> DynamicObject {
        match self.operator {
            Operator::Opsadmin => {
                let account = serde_json::to_value(accounts::account(self.namespace, number));
                serde_json::from_value(account.expect("it is JSON")).expect("it is an object")
            }
            Operator::ProviderSql => role(self.namespace, number, self.is_tuned),
        }
    }

    /// Prepares the cluster and starts the operator.
    pub async fn start(&self, world: &World, provider_sql: &ProviderSql) -> Running {
        match self.operator {
            Operator::Opsadmin => {
                if self.is_tuned {
                    self.install_finalizer_policy(world).await;
                }
                // Otherwise it would hold the deletions at the end, because no one deletes a fifth of all accounts at once.
                Running::Opsadmin(world.controller(self.namespace, &["--deletion-brake", "100"]))
            }
            Operator::ProviderSql => {
                ProviderSql::configure(world, self.namespace).await;
                let arguments: &[&str] = if self.is_tuned { &["--max-reconcile-rate", "100"] } else { &[] };
                Running::ProviderSql(provider_sql.start(world, arguments))
            }
        }
    }

    async fn install_finalizer_policy(&self, world: &World) {
        world.cluster().kubectl("", &["create", "-f", FINALIZER_POLICY]).await.succeeded();
        let probe = serde_json::to_string(&self.object(0)).expect("it is JSON");
        let create = ["create", "--dry-run=server", "-o", "jsonpath={.metadata.finalizers[*]}", "-f", "-"];
        eventually("the policy to be in force", SOON, async || {
            let seen = world.cluster().kubectl_with(self.namespace, &create, &probe).await;
            if seen.stdout == FINALIZER { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
}

impl Operator {
    /// The name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opsadmin => "opsadmin",
            Self::ProviderSql => "provider-sql",
        }
    }

    /// The name of its process.
    pub fn process(self) -> &'static str {
        match self {
            Self::Opsadmin => "opsadmin",
            Self::ProviderSql => "provider",
        }
    }
}

/// A running operator. It is killed when this value is dropped.
pub enum Running {
    Opsadmin(RunningController),
    ProviderSql(Supervised),
}

impl Running {
    /// All its output so far.
    pub fn log(&self) -> String {
        match self {
            Self::Opsadmin(controller) => controller.log(),
            Self::ProviderSql(process) => process.log(),
        }
    }

    /// Ends it as Kubernetes does.
    pub async fn end(self) {
        match self {
            Self::Opsadmin(controller) => {
                let (code, log) = controller.terminate(SOON).await;
                assert_eq!(code, 0, "{log}");
            }
            Self::ProviderSql(mut process) => {
                process.signal("TERM");
                let code = process.wait(SOON).await;
                assert_eq!(code, 0, "{}", process.tail());
            }
        }
    }
}
