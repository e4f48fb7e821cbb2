//! The number of resources in work, for what gives way to them.

use tokio::sync::watch;

/// Counts the resources that are being reconciled.
#[derive(Default)]
pub(super) struct InWork(watch::Sender<usize>);

/// A resource in work, until this is dropped.
pub(super) struct OneInWork<'a>(&'a InWork);

impl InWork {
    /// Counts a resource until the returned value is dropped.
    pub fn begin(&self) -> OneInWork<'_> {
        self.0.send_modify(|count| *count += 1);
        OneInWork(self)
    }

    /// Waits until no resource is in work.
    pub async fn none(&self) {
        // The sender is in `self`, so the channel is never closed.
        drop(self.0.subscribe().wait_for(|count| *count == 0).await);
    }
}

impl Drop for OneInWork<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}
