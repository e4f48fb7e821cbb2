//! What the controller remembers of each resource between two looks: the status it wrote last, how often it failed, and what
//! was looked at.

use super::declared::Declaration;
use crate::api::{ApiAccount, ApiAccountStatus, is_later_version};
use crate::reconcile::Corrections;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// Remembered per resource, forgotten with it.
#[derive(Default)]
pub(super) struct Memory(Mutex<HashMap<ObjectRef<ApiAccount>, Entry>>);

#[derive(Default)]
struct Entry {
    written: Option<Written>,
    failures: u32,
    looked: Option<Declaration>,
    corrections: Corrections,
}

struct Written {
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
    pub fn wrote(&self, resource: &ApiAccount) {
        let (Some(version), Some(status)) = (&resource.metadata.resource_version, &resource.status) else {
            return;
        };
        let written = Written { uid: resource.metadata.uid.clone(), version: version.clone(), status: status.clone() };
        self.entries().entry(ObjectRef::from_obj(resource)).or_default().written = Some(written);
    }

    /// How long to wait before the next try: longer each time in a row, up to `longest`, and never the same for two
    /// resources that failed together. `random` is evenly spread over 0 to 1.
    pub fn pause_after_failure(&self, resource: &ApiAccount, longest: Duration, random: f64) -> Duration {
        let mut entries = self.entries();
        let entry = entries.entry(ObjectRef::from_obj(resource)).or_default();
        let doubled = FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(entry.failures.min(16)));
        entry.failures += 1;
        doubled.min(longest).mul_f64(0.5 + random / 2.0)
    }

    /// Starts the count of failures anew.
    pub fn succeeded(&self, resource: &ApiAccount) {
        if let Some(entry) = self.entries().get_mut(&ObjectRef::from_obj(resource)) {
            entry.failures = 0;
        }
    }

    /// The state of the resource that was looked at last, if any was.
    pub fn looked(&self, resource: &ObjectRef<ApiAccount>) -> Option<Declaration> {
        self.entries().get(resource)?.looked.clone()
    }

    /// Takes in that the resource, as it is here, was looked at.
    pub fn looks(&self, resource: &ApiAccount) {
        let looked = Declaration::of(&resource.metadata);
        self.entries().entry(ObjectRef::from_obj(resource)).or_default().looked = Some(looked);
    }

    /// What was put back of it lately.
    pub fn corrections(&self, resource: &ApiAccount) -> Corrections {
        self.entries().get(&ObjectRef::from_obj(resource)).map(|entry| entry.corrections.clone()).unwrap_or_default()
    }

    /// Takes in that these parts were put back, and answers what was lately.
    pub fn corrected(&self, resource: &ApiAccount, parts: Vec<String>, now: Instant) -> Corrections {
        let mut entries = self.entries();
        let entry = entries.entry(ObjectRef::from_obj(resource)).or_default();
        entry.corrections.note(parts, now);
        entry.corrections.clone()
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, resource: &ApiAccount) {
        self.entries().remove(&ObjectRef::from_obj(resource));
    }

    /// Forgets the resources that are not there any more, also where no watch has told of the end of one.
    pub fn keep(&self, is_there: impl Fn(&ObjectRef<ApiAccount>) -> bool) {
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
        memory.wrote(&resource("u", "10", 2));
        let generation = |shown: &ApiAccount| memory.status(shown).unwrap().observed_generation;
        assert_eq!(generation(&resource("u", "9", 1)), Some(2));
        assert_eq!(generation(&resource("u", "11", 3)), Some(3));
        assert_eq!(generation(&resource("made-again", "9", 1)), Some(1));
    }

    #[test]
    fn who_is_not_there_any_more_is_forgotten() {
        let memory = Memory::default();
        let resource = resource("u", "10", 2);
        memory.wrote(&resource);
        memory.looks(&resource);
        memory.keep(|_| true);
        assert!(memory.looked(&ObjectRef::from_obj(&resource)).is_some());
        memory.keep(|kept| kept.name != "acme");
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
}
