//! What the controller remembers of each resource between two reconciles: the status that it wrote last, the failures
//! in a row, what the watch showed, who requested it, and which declaration was attempted.

use super::declaration::Declaration;
use super::held::Key;
use crate::account::Requester;
use crate::api::{ApiAccount, ApiAccountStatus, is_later_version};
use crate::backoff::{Backoff, spread};
use crate::reconcile::Corrections;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a declaration that the watch has shown is used without a new read of the resource. It is shorter than the
/// time in which another controller notices that this one is gone.
pub(super) const FRESH: Duration = Duration::from_secs(10);

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The entries by resource. An entry is removed together with its resource.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<Key, Box<Entry>>>);

#[derive(Default)]
struct Entry {
    /// The status that was written last, as long as the watch has not shown it.
    written: Option<Box<WrittenStatus>>,
    failures: u32,
    /// In a box, because few resources have any.
    corrections: Option<Box<Corrections>>,
    watched: Option<WatchedDeclaration>,
    requested_by: Option<Requester>,
    attempted: Option<Declaration>,
    /// The resourceVersion that the watch showed last.
    shown: Option<Box<str>>,
    /// A hash of everything for which the watch makes the resource due.
    looked: Option<u64>,
}

/// The declaration that the watch showed last, and when.
struct WatchedDeclaration {
    declaration: Declaration,
    at: Instant,
}

struct WrittenStatus {
    uid: Option<String>,
    version: String,
    status: ApiAccountStatus,
}

impl WrittenStatus {
    /// Returns whether this status is newer than the resource of this UID and version.
    fn is_newer_than(&self, uid: Option<&str>, version: &str) -> bool {
        self.uid.as_deref() == uid && is_later_version(&self.version, version)
    }
}

impl Memory {
    /// Returns the present status of the resource. If the watch has not yet shown the status that was last written, the
    /// written status is returned.
    pub fn status(&self, resource: &ApiAccount) -> Option<ApiAccountStatus> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method itself is not general enough to compile"
        )]
        self.with_status(resource, |status| status.cloned())
    }

    /// Calls `read` with the status that [`Self::status`] returns, without a copy.
    pub fn with_status<T>(&self, resource: &ApiAccount, read: impl FnOnce(Option<&ApiAccountStatus>) -> T) -> T {
        let entries = self.entries();
        let written = entries.get(&Key::of_resource(resource)).and_then(|entry| entry.written.as_ref());
        match written {
            Some(written) if written.is_newer_than(resource.metadata.uid.as_deref(), version(resource)) => {
                read(Some(&written.status))
            }
            _ => read(resource.status.as_ref()),
        }
    }

    /// Returns `read` of each status that was written and that the watch has not shown yet.
    pub fn written_and_not_shown<T>(&self, read: impl Fn(&ApiAccountStatus) -> T) -> HashMap<Key, T> {
        let entries = self.entries();
        let written = entries.iter().filter_map(|(key, entry)| Some((key, entry.written.as_ref()?)));
        written.map(|(key, written)| (key.clone(), read(&written.status))).collect()
    }

    /// Records the answer of the API server to a write of the status.
    pub fn status_written(&self, resource: &ApiAccount) {
        let (Some(version), Some(status)) = (&resource.metadata.resource_version, &resource.status) else {
            return;
        };
        let written =
            WrittenStatus { uid: resource.metadata.uid.clone(), version: version.clone(), status: status.clone() };
        let mut entries = self.entries();
        let entry = entries.entry(Key::of_resource(resource)).or_default();
        // The watch may show a write before the API server answers it.
        let is_shown = entry.shown.as_deref().is_some_and(|shown| !is_later_version(version, shown));
        entry.written = (!is_shown).then(|| Box::new(written));
    }

    /// Counts a failure, and returns the pause before the next attempt. The pause grows with each failure in a row, up
    /// to `longest`, and is spread by `jitter` (0 to 1).
    pub fn pause_after_failure(&self, resource: &ApiAccount, longest: Duration, jitter: f64) -> Duration {
        let mut entries = self.entries();
        let entry = entries.entry(Key::of_resource(resource)).or_default();
        let pause = Backoff::new(FIRST_PAUSE, longest).pause(entry.failures);
        entry.failures = entry.failures.saturating_add(1);
        spread(pause, jitter)
    }

    /// Resets the count of failures.
    pub fn succeeded(&self, resource: &ApiAccount) {
        if let Some(entry) = self.entries().get_mut(&Key::of_resource(resource)) {
            entry.failures = 0;
        }
    }

    /// Records the declaration of the resource at `key` as the watch shows it. Discards the status that was written, once the
    /// watch shows it or a later one.
    pub fn watch_showed(&self, key: &Key, resource: &ApiAccount, now: Instant) {
        let shown = WatchedDeclaration { declaration: Declaration::of(&resource.metadata), at: now };
        let (uid, version) = (resource.metadata.uid.as_deref(), version(resource));
        let mut entries = self.entries();
        let entry = entries.entry(key.clone()).or_default();
        entry.watched = Some(shown);
        entry.written.take_if(|written| !written.is_newer_than(uid, version));
        entry.shown = Some(version.into());
    }

    /// Records a hash of everything for which the watch makes the resource due, and returns whether it is another one
    /// than before.
    pub fn looks_different(&self, resource: &ApiAccount, hash: Option<u64>) -> bool {
        let mut hasher = DefaultHasher::new();
        (&resource.metadata.uid, hash).hash(&mut hasher);
        let uid_and_hash = Some(hasher.finish());
        let mut entries = self.entries();
        let entry = entries.entry(Key::of_resource(resource)).or_default();
        std::mem::replace(&mut entry.looked, uid_and_hash) != uid_and_hash
    }

    /// Records who requested what the watch is about to show.
    pub fn requested(&self, key: &Key, by: Option<Requester>) {
        self.entries().entry(key.clone()).or_default().requested_by = by;
    }

    /// Returns who requested what the watch showed last, if it is known.
    ///
    /// It may be newer than a resource that is being reconciled. Before each change, the declaration is confirmed, so a
    /// change of an older declaration is never attributed to it.
    pub fn requested_by(&self, resource: &ApiAccount) -> Option<Requester> {
        self.entries().get(&Key::of_resource(resource))?.requested_by.clone()
    }

    /// Records that an attempt for this declaration has ended, with any result.
    pub fn attempt_ended(&self, resource: &ApiAccount) {
        let attempted = Declaration::of(&resource.metadata);
        if let Some(entry) = self.entries().get_mut(&Key::of_resource(resource)) {
            entry.attempted = Some(attempted);
        }
    }

    /// Returns whether any attempt for the resource has ended.
    pub fn was_attempted(&self, resource: &ObjectRef<ApiAccount>) -> bool {
        self.entries().get(&Key::of(resource)).is_some_and(|entry| entry.attempted.is_some())
    }

    /// Returns whether the watch has shown a declaration that fulfils `is` within the last [`FRESH`], unless the last
    /// attempt that ended was for such a declaration.
    pub fn is_fresh(&self, resource: &ObjectRef<ApiAccount>, is: impl Fn(&Declaration) -> bool, now: Instant) -> bool {
        self.entries().get(&Key::of(resource)).is_some_and(|entry| {
            let is_fresh = |shown: &WatchedDeclaration| is(&shown.declaration) && now.duration_since(shown.at) < FRESH;
            entry.watched.as_ref().is_some_and(is_fresh) && !entry.attempted.as_ref().is_some_and(is)
        })
    }

    /// Discards the declaration that the watch showed last, because another controller may have seen a newer one.
    pub fn distrust_watch(&self, resource: &ObjectRef<ApiAccount>) {
        if let Some(entry) = self.entries().get_mut(&Key::of(resource)) {
            entry.watched = None;
        }
    }

    /// Discards the declarations that the watch has shown so far, because another controller led meanwhile.
    pub fn distrust_watches(&self) {
        for entry in self.entries().values_mut() {
            entry.watched = None;
        }
    }

    /// Returns the recent corrections of the resource's account and Secret.
    pub fn corrections(&self, resource: &ApiAccount) -> Corrections {
        self.entries()
            .get(&Key::of_resource(resource))
            .and_then(|entry| entry.corrections.as_deref().cloned())
            .unwrap_or_default()
    }

    /// Records that these parts were corrected, and returns the recent corrections.
    pub fn record_corrections(&self, resource: &ApiAccount, parts: Vec<String>, now: Instant) -> Corrections {
        let mut entries = self.entries();
        let entry = entries.entry(Key::of_resource(resource)).or_default();
        let mut corrections = entry.corrections.take().map(|corrections| *corrections).unwrap_or_default();
        corrections.record(parts, now);
        let has_any = corrections != Corrections::default();
        entry.corrections = has_any.then(|| Box::new(corrections.clone()));
        corrections
    }

    /// Removes a resource that is gone.
    pub fn forget(&self, resource: &ApiAccount) {
        self.entries().remove(&Key::of_resource(resource));
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown.
    pub fn retain(&self, is_there: impl Fn(&Key) -> bool) {
        self.entries().retain(|resource, _| is_there(resource));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Box<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn version(resource: &ApiAccount) -> &str {
    resource.metadata.resource_version.as_deref().unwrap_or_default()
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

    fn key() -> Key {
        Key::of_resource(&resource("u", "1", 1))
    }

    #[test]
    fn the_written_status_is_used_until_the_watch_shows_it_or_a_later_one() {
        let memory = Memory::default();
        memory.status_written(&resource("u", "10", 2));
        let generation = |shown: &ApiAccount| memory.status(shown).unwrap().observed_generation;
        assert_eq!(generation(&resource("u", "9", 1)), Some(2));
        assert_eq!(generation(&resource("u", "11", 3)), Some(3));
        assert_eq!(generation(&resource("made-again", "9", 1)), Some(1));
    }

    #[test]
    fn a_resource_looks_different_after_a_change_or_when_it_is_another_one() {
        let memory = Memory::default();
        let looks = |uid: &str, hash| memory.looks_different(&resource(uid, "1", 1), Some(hash));
        assert!(looks("u", 1) && !looks("u", 1) && looks("u", 2) && looks("u", 1));
        assert!(looks("made-again", 1) && !looks("made-again", 1));
        memory.forget(&resource("made-again", "2", 1));
        assert!(looks("made-again", 1));
    }

    #[test]
    fn a_status_is_held_once_the_watch_shows_it() {
        let (memory, now) = (Memory::default(), Instant::now());
        let is_held = || memory.entries().values().any(|entry| entry.written.is_some());
        memory.watch_showed(&key(), &resource("u", "9", 1), now);
        memory.status_written(&resource("u", "10", 2));
        memory.watch_showed(&key(), &resource("u", "9", 1), now);
        assert!(is_held(), "the watch is behind");
        memory.watch_showed(&key(), &resource("u", "10", 2), now);
        assert!(!is_held());
        memory.watch_showed(&key(), &resource("u", "12", 2), now);
        memory.status_written(&resource("u", "12", 2));
        assert!(!is_held(), "the watch was quicker than the answer");
        memory.status_written(&resource("u", "13", 3));
        memory.watch_showed(&key(), &resource("made-again", "11", 1), now);
        assert!(!is_held(), "the resource is another one");
    }

    #[test]
    fn a_deleted_resource_is_removed() {
        let memory = Memory::default();
        let resource = resource("u", "10", 2);
        memory.status_written(&resource);
        memory.attempt_ended(&resource);
        memory.retain(|_| true);
        assert!(memory.was_attempted(&ObjectRef::from_obj(&resource)));
        memory.retain(|kept| kept.parts().1 != "acme");
        assert!(memory.entries().is_empty());
    }

    #[test]
    fn pauses_grow_to_the_longest_and_are_reset_by_a_success() {
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
    fn only_the_first_attempt_for_a_fresh_declaration_needs_no_read() {
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
        memory.watch_showed(&key(), &account(1), start);
        assert!(!asks(1, start) && asks(2, start));
        assert!(!asks(1, start + FRESH.mul_f64(0.99)));
        assert!(asks(1, start + FRESH), "it waited too long in the queue");
        memory.attempt_ended(&account(1));
        memory.watch_showed(&key(), &account(1), start);
        assert!(asks(1, start), "an attempt was made before");
        memory.watch_showed(&key(), &account(2), start);
        assert!(!asks(2, start) && asks(1, start));
        memory.distrust_watch(&reference);
        assert!(asks(2, start), "somebody else was quicker");
    }
}
