//! The Lease on the cluster: read, create, replace and watch. Fields, labels and annotations that others set are kept.

use super::election::{Record, Timing};
use crate::api::MANAGER;
use crate::kube_error::reason;
use futures::stream::{BoxStream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{ApiResource, DynamicObject, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The number of seconds after which the API server ends a watch of the Lease.
const WATCH_SECONDS: u32 = 60;

/// The name of the Lease and the identity of this candidate.
#[derive(Debug, Clone)]
pub struct LeaseSettings {
    /// The namespace of the Lease.
    pub namespace: String,
    /// The name of the Lease.
    pub name: String,
    /// The identity of this process. No other process has the same one.
    pub identity: String,
}

/// How a claim of the Lease ended.
pub(super) enum Claimed {
    /// The API server stored it.
    Stored(Record),
    /// The Lease has changed, exists, or does not exist any more.
    Overtaken,
}

/// The Lease, as it was last seen.
pub(super) struct LeaseClient {
    api: Api<DynamicObject>,
    settings: LeaseSettings,
    duration: Duration,
    last: Option<DynamicObject>,
}

impl LeaseClient {
    /// Creates a client that has not read the Lease.
    pub fn new(client: Client, settings: LeaseSettings, timing: &Timing) -> Self {
        let api = Api::namespaced_with(client, &settings.namespace, &ApiResource::erase::<Lease>(&()));
        Self { api, settings, duration: timing.lease, last: None }
    }

    /// Reads the Lease; `None`: it does not exist.
    ///
    /// # Errors
    /// The reason as text, with what to do.
    pub async fn get(&mut self) -> Result<Option<Record>, String> {
        self.last = self.api.get_opt(&self.settings.name).await.map_err(|error| explain(&error))?;
        Ok(self.last.as_ref().map(record))
    }

    /// Creates the Lease with this candidate as the holder.
    ///
    /// # Errors
    /// The reason as text, with what to do.
    pub async fn create(&mut self, now: Timestamp) -> Result<Claimed, String> {
        let mut lease = DynamicObject::new(&self.settings.name, &ApiResource::erase::<Lease>(&()));
        lease.data = json!({ "spec": self.claim(None, now) });
        let created = self.api.create(&as_manager(), &lease).await;
        self.stored(created)
    }

    /// Replaces the Lease that was last seen, with this candidate as the holder.
    ///
    /// # Errors
    /// The reason as text, with what to do.
    pub async fn replace(&mut self, now: Timestamp) -> Result<Claimed, String> {
        let Some(mut lease) = self.last.clone() else { return Ok(Claimed::Overtaken) };
        let spec = self.claim(lease.data["spec"].as_object(), now);
        self.put(&mut lease, spec).await
    }

    /// Gives the Lease up, so that another candidate can take it at once. Does nothing if another one holds it.
    ///
    /// # Errors
    /// The reason as text, with what to do.
    pub async fn release(&mut self, now: Timestamp) -> Result<Claimed, String> {
        let Some(mut lease) = self.last.clone() else { return Ok(Claimed::Overtaken) };
        if lease.data["spec"]["holderIdentity"] != self.settings.identity.as_str() {
            return Ok(Claimed::Overtaken);
        }
        let mut spec = lease.data["spec"].as_object().cloned().unwrap_or_default();
        spec.insert("holderIdentity".to_owned(), json!(""));
        spec.insert("leaseDurationSeconds".to_owned(), json!(1));
        spec.insert("renewTime".to_owned(), json!(micro(now)));
        spec.insert("acquireTime".to_owned(), json!(micro(now)));
        self.put(&mut lease, spec).await
    }

    async fn put(&mut self, lease: &mut DynamicObject, spec: Map<String, Value>) -> Result<Claimed, String> {
        lease.data["spec"] = Value::Object(spec);
        let replaced = self.api.replace(&self.settings.name, &as_manager(), lease).await;
        self.stored(replaced)
    }

    fn stored(&mut self, answer: Result<DynamicObject, kube::Error>) -> Result<Claimed, String> {
        match answer {
            Ok(lease) => {
                let stored = record(&lease);
                self.last = Some(lease);
                Ok(Claimed::Stored(stored))
            }
            Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => {
                Ok(Claimed::Overtaken)
            }
            // A namespace that does not exist gives the same code for a Lease that is to be created.
            Err(kube::Error::Api(status)) if status.is_not_found() && self.last.is_some() => {
                self.last = None;
                Ok(Claimed::Overtaken)
            }
            Err(error) => Err(explain(&error)),
        }
    }

    /// Returns the spec of a claim: the present spec with the fields that a holder sets.
    fn claim(&self, present: Option<&Map<String, Value>>, now: Timestamp) -> Map<String, Value> {
        let mut spec = present.cloned().unwrap_or_default();
        let is_mine = spec.get("holderIdentity").is_some_and(|holder| *holder == self.settings.identity.as_str());
        if !is_mine {
            let before = spec.get("leaseTransitions").and_then(Value::as_i64);
            let transitions = if present.is_some() { before.unwrap_or_default().saturating_add(1) } else { 0 };
            spec.insert("leaseTransitions".to_owned(), json!(transitions));
            spec.insert("acquireTime".to_owned(), json!(micro(now)));
        }
        spec.insert("holderIdentity".to_owned(), json!(self.settings.identity));
        spec.insert("leaseDurationSeconds".to_owned(), json!(self.duration.as_secs()));
        spec.insert("renewTime".to_owned(), json!(micro(now)));
        spec
    }

    /// Watches the Lease from the version that was last seen. The stream ends when the watch does. Each item is the
    /// Lease; `None`: it was deleted.
    pub async fn watch(&self) -> Option<BoxStream<'static, Option<DynamicObject>>> {
        let version = self.last.as_ref().and_then(|lease| lease.metadata.resource_version.clone());
        let name = format!("metadata.name={}", self.settings.name);
        let params = WatchParams::default().fields(&name).timeout(WATCH_SECONDS).disable_bookmarks();
        match self.api.watch(&params, version.as_deref().unwrap_or("0")).await {
            Ok(events) => Some(
                events
                    .map(|event| match event {
                        Ok(WatchEvent::Added(lease) | WatchEvent::Modified(lease)) => Some(Some(lease)),
                        Ok(WatchEvent::Deleted(_)) => Some(None),
                        Ok(WatchEvent::Bookmark(_) | WatchEvent::Error(_)) | Err(_) => None,
                    })
                    .take_while(|event| std::future::ready(event.is_some()))
                    .filter_map(std::future::ready)
                    .boxed(),
            ),
            Err(error) => {
                tracing::debug!("the Lease cannot be watched, so it is read every few seconds: {}", reason(&error));
                None
            }
        }
    }

    /// Takes the Lease of a watch event as the last one seen.
    pub fn watched(&mut self, lease: Option<DynamicObject>) -> Option<Record> {
        self.last = lease;
        self.last.as_ref().map(record)
    }
}

/// Returns the reason of a failed call, with what to do.
fn explain(error: &kube::Error) -> String {
    let advice = match error {
        kube::Error::Api(status) if status.code == 403 => {
            "; give the controller the Role for Leases in deploy/rbac.yaml, or choose --leader-election off"
        }
        kube::Error::Api(status) if status.code == 404 => "; does --lease-namespace exist?",
        _ => "",
    };
    format!("{}{advice}", reason(error))
}

fn record(lease: &DynamicObject) -> Record {
    let spec = &lease.data["spec"];
    let text = |field: &str| spec[field].as_str().unwrap_or_default().to_owned();
    let seconds = spec["leaseDurationSeconds"].as_u64().filter(|seconds| *seconds > 0);
    Record {
        holder: text("holderIdentity"),
        duration: seconds.map_or(Timing::DEFAULT.lease, Duration::from_secs),
        times: [text("acquireTime"), text("renewTime")],
    }
}

/// The form of a `MicroTime`.
fn micro(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

fn as_manager() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}
