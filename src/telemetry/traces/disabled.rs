//! Traces of a program that was built without the feature `traces`.

use super::{Call, Ending, Reconcile};
use std::env;
use std::future::Ready;

/// There are no traces.
#[derive(Debug)]
pub enum Traces {}

/// Warns if the environment asks for traces.
///
/// # Errors
/// Never.
pub fn start() -> anyhow::Result<Option<Traces>> {
    if env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
        || env::var_os("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some()
    {
        tracing::warn!("no traces are sent, because this program was built without the feature traces");
    }
    Ok(None)
}

impl Traces {
    /// Is never called.
    pub fn stop(self) -> Ready<()> {
        match self {}
    }
}

pub(super) async fn reconcile<T>(
    _: Reconcile<'_>,
    attempt: impl Future<Output = T>,
    _: impl FnOnce(&T) -> Ending,
) -> T {
    attempt.await
}

pub(super) async fn call<T>(_: Call<'_>, answer: impl Future<Output = T>, _: impl FnOnce(&T) -> Ending) -> T {
    answer.await
}
