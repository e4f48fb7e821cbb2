//! Traces of OpenTelemetry: each reconcile of a resource, from the event of its watch to its status, with its calls to
//! the API server and to the account database.
//!
//! `exporter.rs` sends them to a collector, if the environment names one. Without the crate's feature `traces`,
//! `disabled.rs` takes its place and nothing is recorded.

#[cfg(feature = "traces")]
mod exporter;
#[cfg(feature = "traces")]
mod recorder;
#[cfg(feature = "traces")]
use recorder as backend;

#[cfg(not(feature = "traces"))]
#[path = "disabled.rs"]
mod backend;

#[cfg(feature = "traces")]
pub use exporter::{Traces, start};

#[cfg(not(feature = "traces"))]
pub use backend::{Traces, start};

use super::calls::{DatabaseCall, Verb};
use crate::kube_error::reason;
use http::Response;
use std::time::Duration;

/// What is reconciled.
#[derive(Debug, Clone, Copy)]
pub struct Reconcile<'a> {
    /// The namespace of the resource.
    pub namespace: &'a str,
    /// The name of the resource.
    pub name: &'a str,
    /// The generation of the resource.
    pub generation: Option<i64>,
    /// How long ago the watch showed this generation, if this is its first attempt.
    pub waited: Duration,
}

/// A call to another system.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "traces"), expect(dead_code, reason = "only the recorder reads it"))]
pub(super) enum Call<'a> {
    /// A request to the API server.
    Kubernetes {
        /// What it does.
        verb: Verb,
        /// The path of its URL.
        path: &'a str,
    },
    /// A call to the account database.
    Database(DatabaseCall),
}

/// How a call or an attempt ended.
#[derive(Debug, Default)]
pub struct Ending {
    /// The status code of the API server's answer.
    pub status: Option<u16>,
    /// The reason, if it failed. It has no secret key.
    pub failure: Option<String>,
}

/// Does this attempt as a trace of its own. All calls inside it belong to the trace, and its log lines have the
/// trace's ID.
pub async fn reconcile<T>(
    resource: Reconcile<'_>,
    attempt: impl Future<Output = T>,
    ending: impl FnOnce(&T) -> Ending,
) -> T {
    backend::reconcile(resource, attempt, ending).await
}

/// Sends this request to the API server as a part of the present trace. Outside a trace, nothing is recorded.
///
/// # Errors
/// Those of the request.
pub async fn request<B>(
    verb: Verb,
    path: &str,
    answer: impl Future<Output = Result<Response<B>, kube::Error>>,
) -> Result<Response<B>, kube::Error> {
    let ending = |answer: &Result<Response<B>, kube::Error>| match answer {
        Ok(response) => {
            let status = response.status();
            let failure = (status.is_client_error() || status.is_server_error()).then(|| status.to_string());
            Ending { status: Some(status.as_u16()), failure }
        }
        Err(error) => Ending { status: None, failure: Some(reason(error)) },
    };
    call(Call::Kubernetes { verb, path }, answer, ending).await
}

/// Does this call as a part of the present trace. Outside a trace, nothing is recorded.
pub(super) async fn call<T>(call: Call<'_>, answer: impl Future<Output = T>, ending: impl FnOnce(&T) -> Ending) -> T {
    backend::call(call, answer, ending).await
}
