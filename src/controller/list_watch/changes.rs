//! The changes since one version of the cluster, over one watch after another.

use super::super::body_timeout::WATCH_SECONDS;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use kube::api::{WatchEvent, WatchParams};
use kube::runtime::watcher::{Error, Result};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::fmt::Debug;

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
        let watch = Watch { api, params, version, events: None };
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
    /// What the API server sends, if a watch is open.
    events: Option<BoxStream<'static, kube::Result<WatchEvent<K>>>>,
}

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(&mut self) -> Result<Change<K>> {
        loop {
            let Some(events) = &mut self.events else {
                let events = self.api.watch(&self.params, &self.version).await.map_err(Error::WatchStartFailed)?;
                self.events = Some(events.boxed());
                continue;
            };
            // A watch is still open after an object that cannot be read, and goes on with the next one.
            match events.next().await.transpose().map_err(Error::WatchFailed)? {
                Some(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                    self.know(object.meta().resource_version.as_deref())?;
                    return Ok(Change::Applied(object));
                }
                Some(WatchEvent::Deleted(object)) => {
                    self.know(object.meta().resource_version.as_deref())?;
                    return Ok(Change::Deleted(object));
                }
                Some(WatchEvent::Bookmark(bookmark)) => self.version = bookmark.metadata.resource_version,
                Some(WatchEvent::Error(status)) => return Err(Error::WatchError(status)),
                None => self.events = None,
            }
        }
    }

    fn know(&mut self, version: Option<&str>) -> Result<()> {
        let version = version.filter(|version| !version.is_empty()).ok_or(Error::NoResourceVersion)?;
        version.clone_into(&mut self.version);
        Ok(())
    }
}
