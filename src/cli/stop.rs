//! The signals that end a program that serves.

use anyhow::Result;
use tokio::signal::unix::{SignalKind, signal};

/// Returns a future that completes at the first SIGTERM or SIGINT. At the second signal, the process exits at once,
/// with 128 plus the number of the signal.
pub fn stopped() -> Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {} _ = interrupt.recv() => {} }
        // Dropping the sender completes the future.
        drop(sender);
        let code = tokio::select! { _ = terminate.recv() => 143, _ = interrupt.recv() => 130 };
        std::process::exit(code);
    });
    Ok(async move { drop(receiver.await) })
}
