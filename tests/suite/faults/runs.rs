//! Many runs of one test, several at a time, each with a name for its failure message.

use std::panic::resume_unwind;

use futures::StreamExt as _;
use tokio::task::{JoinError, spawn_blocking};

/// The number of failures after which to stop.
const ENOUGH: usize = 5;

/// Starts all runs, `at_once` at a time, and fails with the messages of the failed runs.
pub async fn all<R: AsyncFnOnce() + Send + 'static>(at_once: usize, of: &str, runs: Vec<(String, R)>) {
    let number = runs.len();
    let results = runs.into_iter().map(|(name, run)| async move {
        let done = spawn_blocking(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("the system gives a runtime").block_on(run());
        });
        done.await.err().map(|error| format!("{name}: {}", said(error)))
    });
    let results = futures::stream::iter(results).buffer_unordered(at_once);
    // A failing run takes long, and the first failures are sufficient.
    let failed: Vec<String> = results.filter_map(std::future::ready).take(ENOUGH).collect().await;
    assert!(failed.is_empty(), "{of}: {} or more of {number} failed:\n\n{}", failed.len(), failed.join("\n\n"));
}

/// Returns the message of a failed run.
fn said(error: JoinError) -> String {
    let panic = error.into_panic();
    match (panic.downcast_ref::<String>(), panic.downcast_ref::<&str>()) {
        (Some(text), _) => text.clone(),
        (_, Some(text)) => (*text).to_owned(),
        _ => resume_unwind(panic),
    }
}
