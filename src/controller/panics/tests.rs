//! Tests of a controller that panics while it reconciles one resource.

use super::*;
use crate::account::{ClusterId, UnassignedPolicy};
use crate::api::{ApiAccountSpec, FINALIZER};
use crate::controller::brake::Brake;
use crate::controller::connect::{Connection, Ready, StartupAccounts};
use crate::controller::creation::ClusterCreationGuard;
use crate::controller::events::Events;
use crate::controller::held::Key;
use crate::controller::leader::Leadership;
use crate::controller::pickup::Pickups;
use crate::controller::queues::{Queue, Queues};
use crate::controller::reconcile::reconcile;
use crate::controller::scope::Scope;
use crate::controller::versions::Versions;
use crate::controller::waiting::Waiting;
use crate::database::{AccountDatabase, Keyring, UnknownAffiliate, open};
use crate::reconcile::{AlwaysCurrent, Environment, RandomnessError, Reconciler};
use crate::secrets::cluster::Cluster;
use crate::telemetry::Telemetry;
use http::{Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;
use tokio::sync::{Semaphore, watch};
use zeroize::Zeroizing;

/// A clock that answers with this function.
struct Clock(fn() -> Timestamp);

impl Environment for Clock {
    fn now(&self) -> Timestamp {
        self.0()
    }

    fn fill(&self, _: &mut [u8]) -> Result<(), RandomnessError> {
        Ok(())
    }

    fn jitter(&self) -> f64 {
        0.5
    }
}

fn resource() -> ApiAccount {
    let mut resource = ApiAccount::new("acme", ApiAccountSpec::default());
    resource.metadata.namespace = Some("ns".to_owned());
    resource.metadata.uid = Some("u".to_owned());
    resource.metadata.generation = Some(1);
    resource.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    resource
}

/// An API server that accepts every request and records it.
fn client(calls: &Arc<Mutex<Vec<String>>>) -> Client {
    let calls = Arc::clone(calls);
    let service = tower::service_fn(move |request: Request<Body>| {
        let calls = Arc::clone(&calls);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            calls.lock().unwrap().push(format!(
                "{} {} {}",
                head.method,
                head.uri.path(),
                String::from_utf8_lossy(&body)
            ));
            Ok::<_, Infallible>(Response::new(Body::from(serde_json::to_vec(&resource()).unwrap())))
        }
    });
    Client::new(service, "ns")
}

#[tokio::test]
async fn a_panic_over_one_resource_is_said_on_it_and_ends_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let database = open(&format!("sqlite://{}", folder.path().join("accounts.db").display())).unwrap();
    database.migrate().await.unwrap();
    let calls = Arc::default();
    let client = client(&calls);
    let (memory, stores, cluster) = (Arc::default(), Arc::default(), ClusterId::parse("here").unwrap());
    let accounts = Arc::clone(&database) as Arc<dyn AccountDatabase>;
    let creations = ClusterCreationGuard::new(20, &cluster, &accounts, &stores, 1);
    let reconciler = Reconciler {
        database,
        creations: Arc::clone(&creations) as _,
        unassigned: UnassignedPolicy::Refuse,
        secrets: Arc::new(Cluster::new(client.clone(), Scope::secret_caches(&Scope::each(&[])))),
        keyring: Keyring::from_random(Zeroizing::new([7; 32])).into(),
        unknown_affiliate: UnknownAffiliate::Refuse,
        actor: "controller".to_owned(),
        environment: Arc::new(Clock(|| panic!("a bug"))),
        declarations: Arc::new(AlwaysCurrent),
    };
    let ready = Connection::Ready(Arc::new(Ready { reconciler, startup_accounts: StartupAccounts::default() }));
    let (_connection, connection) = watch::channel(ready);
    let (telemetry, _pulse) = Telemetry::new();
    let (events, _publisher) = Events::new(client.clone(), Arc::default(), Arc::clone(&telemetry.metrics));
    let queues = Queue::each(Scope::each(&[]));
    let context = Arc::new(Context {
        least_interval: crate::account::Period::NONE,
        client,
        cluster,
        connection,
        reached: Arc::default(),
        leadership: Leadership::unelected(),
        freeze: crate::controller::Freeze::Off,
        leads_since: OnceLock::from(Instant::now()),
        events,
        refusals: crate::controller::refusal_limit::RefusalLimit::default(),
        memory,
        pickups: Pickups::default(),
        creations,
        versions: Versions::default(),
        last_uses: crate::controller::last_uses::LastUses::default(),
        revocations: crate::controller::revocations::Revocations::default(),
        brake: Brake::new(20),
        waiting: Waiting::new(Queues::of(&queues)),
        stores,
        scopes: 1,
        slots: Semaphore::new(1),
        in_work: Arc::default(),
        environment: Arc::new(Clock(|| Timestamp::UNIX_EPOCH)),
        metrics: Arc::clone(&telemetry.metrics),
    });
    for times in 1..3 {
        assert!(reconcile(&Key::of_resource(&resource()), Arc::new(resource()), Arc::clone(&context)).await.is_ok());
        let counted = format!(r#"opsadmin_reconciles_total{{result="failed",reason="InternalError"}} {times}"#);
        assert!(telemetry.metrics.text().unwrap().contains(&counted));
    }
    let calls = calls.lock().unwrap();
    let told = |call: &String| {
        call.starts_with("PATCH /apis/ops-admin.com/v1/namespaces/ns/apiaccounts/acme/status")
            && call.contains("InternalError")
            && !call.contains("a bug\"")
    };
    assert!(calls.iter().any(told), "{calls:?}");
}
