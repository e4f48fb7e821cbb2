//! Lists the objects of one kind, and watches them from the first page of the list on.
//!
//! In place of the `watcher` of kube, which begins to watch when it has read the last page. In a large cluster that takes
//! seconds, in which no change is seen. The API server answers all pages of a list from the version that the first page
//! gives (<https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks>), so a
//! watch from this version shows each change that the pages do not contain.

mod changes;
#[cfg(test)]
mod tests;

use super::watch_errors::has_expired;
use changes::{Change, Changes};
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use kube::api::{ListParams, ObjectList};
use kube::runtime::watcher::{Error, Event, Result};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use std::collections::HashSet;
use std::fmt::Debug;

/// The number of objects in a page of a list. For each page, the API server goes through the whole rest of the list, so
/// small pages of a long list are slow. A page is in memory as text and as objects.
const LIST_PAGE: u32 = 800;

/// Returns the events of the objects with these labels, without end.
///
/// Between [`Event::Init`] and [`Event::InitDone`], an [`Event::InitApply`] shows an object as it is in the list, or as it
/// was changed meanwhile, and an [`Event::Delete`] shows an object that was deleted meanwhile. What the list does not
/// contain any more has no event.
///
/// After an error, the next event comes from another attempt. The caller waits between the attempts.
pub(super) fn list_watch<K>(api: Api<K>, labels: Option<&str>) -> impl Stream<Item = Result<Event<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let source = Source { api, labels: labels.map(str::to_owned) };
    stream::unfold((source, State::Unlisted), async |(source, state)| {
        let (event, state) = source.next(state).await;
        let state = if event.as_ref().is_err_and(needs_new_list) { State::Unlisted } else { state };
        Some((event, (source, state)))
    })
}

/// Returns whether nothing can follow the error but a new list.
fn needs_new_list(error: &Error) -> bool {
    matches!(error, Error::InitialListFailed(_) | Error::NoResourceVersion) || has_expired(error)
}

/// Where the objects are.
struct Source<K> {
    api: Api<K>,
    labels: Option<String>,
}

/// How far the list and the watch are.
enum State<K> {
    /// There is no list, or the API server does not have its version any more.
    Unlisted,
    /// The first page of a list is next.
    Beginning,
    Listing(Listing<K>),
    Watching(Changes<K>),
}

/// A list whose first page has been read.
struct Listing<K> {
    /// The objects of the list that are still to come.
    objects: BoxStream<'static, kube::Result<K>>,
    /// The changes since the version of the list.
    changes: Changes<K>,
    /// The objects that were changed since. The list contains old versions of them.
    changed: HashSet<Place>,
}

/// A namespace and a name.
type Place = (Option<String>, Option<String>);

impl<K> Source<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Returns the next event and the state after it.
    async fn next(&self, state: State<K>) -> (Result<Event<K>>, State<K>) {
        match state {
            State::Unlisted => (Ok(Event::Init), State::Beginning),
            State::Beginning => match self.begin().await {
                Ok(listing) => listing.next().await,
                Err(error) => (Err(error), State::Unlisted),
            },
            State::Listing(listing) => listing.next().await,
            State::Watching(mut changes) => {
                let event = changes.next().await.map(|change| match change {
                    Change::Applied(object) => Event::Apply(object),
                    Change::Deleted(object) => Event::Delete(object),
                });
                (event, State::Watching(changes))
            }
        }
    }

    /// Reads the first page.
    async fn begin(&self) -> Result<Listing<K>> {
        let params =
            ListParams { label_selector: self.labels.clone(), limit: Some(LIST_PAGE), ..ListParams::default() };
        let first = self.api.list(&params).await.map_err(Error::InitialListFailed)?;
        let version = first.metadata.resource_version.clone().filter(|version| !version.is_empty());
        let version = version.ok_or(Error::NoResourceVersion)?;
        Ok(Listing {
            changes: Changes::since(version, self.api.clone(), self.labels.clone()),
            objects: objects(first, self.api.clone(), params).boxed(),
            changed: HashSet::new(),
        })
    }
}

/// Returns the objects of a list whose first page is `first`. A page is read when the objects before it are used.
fn objects<K>(first: ObjectList<K>, api: Api<K>, params: ListParams) -> impl Stream<Item = kube::Result<K>>
where
    K: Clone + Debug + DeserializeOwned,
{
    let later = stream::try_unfold(token_after(&first), move |token| {
        let (api, params) = (api.clone(), params.clone());
        async move {
            let Some(token) = token else { return Ok(None) };
            let page = api.list(&params.continue_token(&token)).await?;
            let next = token_after(&page);
            Ok::<_, kube::Error>(Some((of_page(page), next)))
        }
    });
    of_page(first).chain(later.try_flatten())
}

/// Returns what asks for the next page.
fn token_after<K: Clone>(page: &ObjectList<K>) -> Option<String> {
    page.metadata.continue_.clone().filter(|token| !token.is_empty())
}

fn of_page<K: Clone>(page: ObjectList<K>) -> impl Stream<Item = kube::Result<K>> {
    stream::iter(page.items.into_iter().map(Ok))
}

impl<K> Listing<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    async fn next(mut self) -> (Result<Event<K>>, State<K>) {
        loop {
            let event = tokio::select! {
                change = self.changes.next() => change.map(|change| self.show(change)),
                object = self.objects.next() => match object {
                    Some(Ok(object)) if self.changed.contains(&place(&object)) => continue,
                    Some(Ok(object)) => Ok(Event::InitApply(object)),
                    Some(Err(error)) => Err(Error::InitialListFailed(error)),
                    None => return (Ok(Event::InitDone), State::Watching(self.changes)),
                },
            };
            return (event, State::Listing(self));
        }
    }

    /// Returns the event of a change that is newer than the list.
    fn show(&mut self, change: Change<K>) -> Event<K> {
        let (Change::Applied(object) | Change::Deleted(object)) = &change;
        self.changed.insert(place(object));
        match change {
            Change::Applied(object) => Event::InitApply(object),
            Change::Deleted(object) => Event::Delete(object),
        }
    }
}

fn place(object: &impl Resource) -> Place {
    (object.meta().namespace.clone(), object.meta().name.clone())
}
