//! The changes since one version of the cluster, over one watch after another.

use super::super::body_timeout::WATCH_SECONDS;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::watcher::{Error, Result};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::io;
use std::time::{Duration, Instant};

/// A watch that ends within this time and has sent nothing counts as failed, so that there is a pause before the next one.
const USELESS_WITHIN: Duration = Duration::from_secs(1);

/// A change of one object.
pub(super) enum Change<K> {
    /// It was created or changed. This is its new version.
    Applied(K),
    /// It was deleted. This is its last version.
    Deleted(K),
}

/// The changes of objects, without end. The API server ends a watch every few minutes. The next one continues where it
/// ended.
pub(super) struct Changes<K>(BoxStream<'static, Result<Change<K>>>);

impl<K> Changes<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Returns the changes since this version. The watch begins when the first change is waited for.
    pub fn since(version: String, api: Api<K>, labels: Option<String>) -> Self {
        let params = WatchParams { label_selector: labels, timeout: Some(WATCH_SECONDS), ..WatchParams::default() };
        let watch = Watch { api, params, version, open: None };
        Self(stream::unfold(watch, async |mut watch| Some((watch.next().await, watch))).boxed())
    }

    /// Waits for the next change. No change is lost if the caller stops waiting.
    ///
    /// # Errors
    /// The watch failed. The next call tries again, with the changes since the last one.
    pub async fn next(&mut self) -> Result<Change<K>> {
        #[expect(clippy::expect_used, reason = "the stream has no end: each step of it returns Some")]
        self.0.next().await.expect("the changes have no end")
    }
}

struct Watch<K> {
    api: Api<K>,
    params: WatchParams,
    /// The changes up to this version are known.
    version: String,
    /// The watch that is open.
    open: Option<Open<K>>,
}

struct Open<K> {
    events: BoxStream<'static, kube::Result<WatchEvent<K>>>,
    since: Instant,
    /// Whether it has sent something.
    is_used: bool,
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Result<Change<K>> {
        loop {
            let Some(open) = &mut self.open else {
                let events = self.api.watch(&self.params, &self.version).await.map_err(Error::WatchStartFailed)?;
                self.open = Some(Open { events: events.boxed(), since: Instant::now(), is_used: false });
                continue;
            };
            let Some(event) = open.events.next().await else {
                let is_useless = !open.is_used && open.since.elapsed() < USELESS_WITHIN;
                self.open = None;
                if is_useless {
                    return Err(Error::WatchFailed(kube::Error::ReadEvents(ended_at_once())));
                }
                continue;
            };
            open.is_used = true;
            // After an object that cannot be read, the watch is still open and goes on with the next object.
            match event.map_err(Error::WatchFailed)? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    self.know(object.meta().resource_version.as_deref())?;
                    return Ok(Change::Applied(object));
                }
                WatchEvent::Deleted(object) => {
                    self.know(object.meta().resource_version.as_deref())?;
                    return Ok(Change::Deleted(object));
                }
                WatchEvent::Bookmark(bookmark) => self.version = bookmark.metadata.resource_version,
                WatchEvent::Error(status) => return Err(Error::WatchError(status)),
            }
        }
    }

    /// Records that the changes up to this version are known.
    fn know(&mut self, version: Option<&str>) -> Result<()> {
        let version = version.filter(|version| !version.is_empty()).ok_or(Error::NoResourceVersion)?;
        version.clone_into(&mut self.version);
        Ok(())
    }
}

fn ended_at_once() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the API server ends the watch at once")
}
