//! What the controller remembers of each resource between two reconciles: the status that it wrote last, the failures in a row,
//! what the watch showed, and which declaration was attempted.

use super::declaration::Declaration;
use crate::api::{ApiAccount, ApiAccountStatus, is_later_version};
use crate::backoff::{Backoff, spread};
use crate::reconcile::Corrections;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long what the watch has shown may be acted on without asking again whether it still holds. Less than another
/// controller takes to find that this one is gone.
pub(super) const FRESH: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Remembered per resource, forgotten with it.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<ObjectRef<ApiAccount>, Entry>>);

#[derive(Default)]
struct Entry {
    written: Option<WrittenStatus>,
    failures: u32,
    corrections: Corrections,
    watched: Option<WatchedDeclaration>,
    attempted: Option<Declaration>,
}

/// What the watch showed last, and when.
struct WatchedDeclaration {
    declaration: Declaration,
    at: Instant,
}

struct WrittenStatus {
    uid: Option<String>,
    version: String,
    status: ApiAccountStatus,
}

impl Memory {
    /// The resource's status as it is now: the watch may not have shown yet what was written last.
    pub fn status(&self, resource: &ApiAccount) -> Option<ApiAccountStatus> {
        let entries = self.entries();
        let written = entries.get(&ObjectRef::from_obj(resource)).and_then(|entry| entry.written.as_ref());
        let shown = resource.metadata.resource_version.as_deref().unwrap_or_default();
        match written {
            Some(written) if written.uid == resource.metadata.uid && is_later_version(&written.version, shown) => {
                Some(written.status.clone())
            }
            _ => resource.status.clone(),
        }
    }

    /// Takes in the resource as the API server answered after its status was written.
    pub fn status_written(&self, resource: &ApiAccount) {
        let (Some(version), Some(status)) = (&resource.metadata.resource_version, &resource.status) else {
            return;
        };
        let written =
            WrittenStatus { uid: resource.metadata.uid.clone(), version: version.clone(), status: status.clone() };
        self.entries().entry(ObjectRef::from_obj(resource)).or_default().written = Some(written);
    }

    /// Counts a failure, and returns the pause before the next attempt: longer each time in a row, up to `longest`, and spread
    /// by `jitter` (0 to 1).
    pub fn pause_after_failure(&self, resource: &ApiAccount, longest: Duration, jitter: f64) -> Duration {
        let mut entries = self.entries();
        let entry = entries.entry(ObjectRef::from_obj(resource)).or_default();
        let pause = Backoff::new(FIRST_PAUSE, longest).pause(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        spread(pause, jitter)
    }

    /// Starts the count of failures anew.
    pub fn succeeded(&self, resource: &ApiAccount) {
        if let Some(entry) = self.entries().get_mut(&ObjectRef::from_obj(resource)) {
            entry.failures = 0;
        }
    }

    /// Takes in that the watch shows the resource as it is here.
    pub fn watch_showed(&self, resource: &ApiAccount, now: Instant) {
        let shown = WatchedDeclaration { declaration: Declaration::of(&resource.metadata), at: now };
        self.entries().entry(ObjectRef::from_obj(resource)).or_default().watched = Some(shown);
    }

    /// Takes in that an attempt for the resource, as it is here, has ended in whichever way.
    pub fn attempt_ended(&self, resource: &ApiAccount) {
        let tried = Declaration::of(&resource.metadata);
        if let Some(entry) = self.entries().get_mut(&ObjectRef::from_obj(resource)) {
            entry.attempted = Some(tried);
        }
    }

    /// Whether any attempt for the resource has ended.
    pub fn was_attempted(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        self.entries().get(resource).is_some_and(|entry| entry.attempted.is_some())
    }

    /// Whether the watch has just shown the resource in such a state, and nothing was tried for that state yet.
    pub fn is_fresh(&self, resource: &ObjectRef<ApiAccount>, is: impl Fn(&Declaration) -> bool, now: Instant) -> bool {
        self.entries().get(resource).is_some_and(|entry| {
            let is_fresh = |shown: &WatchedDeclaration| is(&shown.declaration) && now.duration_since(shown.at) < FRESH;
            entry.watched.as_ref().is_some_and(is_fresh) && !entry.attempted.as_ref().is_some_and(is)
        })
    }

    /// What the watch showed before counts no more: somebody else may have seen something newer.
    pub fn distrust_watch(&self, resource: &ObjectRef<ApiAccount>) {
        if let Some(entry) = self.entries().get_mut(resource) {
            entry.watched = None;
        }
    }

    /// What was put back of it lately.
    pub fn corrections(&self, resource: &ApiAccount) -> Corrections {
        self.entries().get(&ObjectRef::from_obj(resource)).map(|entry| entry.corrections.clone()).unwrap_or_default()
    }

    /// Takes in that these parts were put back, and answers what was lately.
    pub fn record_corrections(&self, resource: &ApiAccount, parts: Vec<String>, now: Instant) -> Corrections {
        let mut entries = self.entries();
        let entry = entries.entry(ObjectRef::from_obj(resource)).or_default();
        entry.corrections.record(parts, now);
        entry.corrections.clone()
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, resource: &ApiAccount) {
        self.entries().remove(&ObjectRef::from_obj(resource));
    }

    /// Forgets the resources that are not there any more, also where no watch has told of the end of one.
    pub fn retain(&self, is_there: impl Fn(&ObjectRef<ApiAccount>) -> bool) {
        self.entries().retain(|resource, _| is_there(resource));
    }

    /// A panic elsewhere cannot leave the map half changed.
    fn entries(&self) -> MutexGuard<'_, HashMap<ObjectRef<ApiAccount>, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccountSpec;

    fn resource(uid: &str, version: &str, generation: i64) -> ApiAccount {
        let mut resource = ApiAccount::new("acme", ApiAccountSpec::default());
        resource.metadata.uid = Some(uid.to_owned());
        resource.metadata.resource_version = Some(version.to_owned());
        resource.status = Some(ApiAccountStatus { observed_generation: Some(generation), ..Default::default() });
        resource
    }

    #[test]
    fn what_was_written_counts_until_the_watch_shows_it_or_something_later() {
        let memory = Memory::default();
        memory.status_written(&resource("u", "10", 2));
        let generation = |shown: &ApiAccount| memory.status(shown).unwrap().observed_generation;
        assert_eq!(generation(&resource("u", "9", 1)), Some(2));
        assert_eq!(generation(&resource("u", "11", 3)), Some(3));
        assert_eq!(generation(&resource("made-again", "9", 1)), Some(1));
    }

    #[test]
    fn who_is_not_there_any_more_is_forgotten() {
        let memory = Memory::default();
        let resource = resource("u", "10", 2);
        memory.status_written(&resource);
        memory.attempt_ended(&resource);
        memory.retain(|_| true);
        assert!(memory.was_attempted(&ObjectRef::from_obj(&resource)));
        memory.retain(|kept| kept.name != "acme");
        assert!(memory.entries().is_empty());
    }

    #[test]
    fn pauses_grow_to_the_longest_and_start_anew_after_a_success() {
        let memory = Memory::default();
        let resource = resource("u", "1", 1);
        let pause =
            |minutes, random| memory.pause_after_failure(&resource, Duration::from_mins(minutes), random).as_secs();
        let pauses: Vec<_> = (0..8).map(|_| pause(1, 1.0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1, 0.0), 30);
        assert_eq!(pause(5, 1.0), 300);
        memory.succeeded(&resource);
        assert_eq!(pause(1, 1.0), 1);
    }

    #[test]
    fn only_the_first_attempt_for_what_was_just_shown_needs_no_asking() {
        let (memory, start) = (Memory::default(), Instant::now());
        let account = |generation| {
            let mut account = resource("u", "1", 1);
            account.metadata.generation = Some(generation);
            account
        };
        let reference = ObjectRef::from_obj(&account(1));
        let asks = |generation, now| {
            let wanted = Declaration::of(&account(generation).metadata);
            !memory.is_fresh(&reference, |shown| *shown == wanted, now)
        };
        assert!(asks(1, start), "it was never shown");
        memory.watch_showed(&account(1), start);
        assert!(!asks(1, start) && asks(2, start));
        assert!(!asks(1, start + FRESH.mul_f64(0.99)));
        assert!(asks(1, start + FRESH), "it waited too long in the queue");
        memory.attempt_ended(&account(1));
        memory.watch_showed(&account(1), start);
        assert!(asks(1, start), "an attempt was made before");
        memory.watch_showed(&account(2), start);
        assert!(!asks(2, start) && asks(1, start));
        memory.distrust_watch(&reference);
        assert!(asks(2, start), "somebody else was quicker");
    }
}
