//! The resources in work: for what gives way to them, and for changes of their Secrets that the watch shows meanwhile.
//!
//! The watch may show a Secret that a reconcile writes before the reconcile has the answer to its write. Whether
//! somebody else changed the Secret is known at the end of the reconcile.

use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

type Resource = ObjectRef<ApiAccount>;

/// The resources that are being reconciled.
#[derive(Default)]
pub(super) struct InWork {
    count: watch::Sender<usize>,
    /// The changes of each one's Secrets that the watch showed since it is in work.
    changes: Mutex<HashMap<Resource, Vec<SecretChange>>>,
}

/// A resource in work, until this is dropped.
pub(super) struct OneInWork<'a> {
    all: &'a InWork,
    resource: Resource,
}

/// A change of a Secret, as the watch shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SecretChange {
    /// It has this resourceVersion.
    At(String),
    /// It is gone.
    Gone,
}

impl InWork {
    /// Adds a resource until the returned value is dropped.
    pub fn begin(&self, resource: Resource) -> OneInWork<'_> {
        self.changes().insert(resource.clone(), Vec::new());
        self.count.send_modify(|count| *count += 1);
        OneInWork { all: self, resource }
    }

    /// Waits until no resource is in work.
    pub async fn none(&self) {
        // The sender is in `self`, so the channel is never closed.
        drop(self.count.subscribe().wait_for(|count| *count == 0).await);
    }

    /// Leaves a change of a Secret to the reconcile of a resource in work. Returns false if it is not in work.
    pub fn leave(&self, resource: &Resource, change: SecretChange) -> bool {
        self.changes().get_mut(resource).map(|changes| changes.push(change)).is_some()
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn changes(&self) -> MutexGuard<'_, HashMap<Resource, Vec<SecretChange>>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OneInWork<'_> {
    /// Ends the work. Returns whether the watch showed any other change of a Secret than to the version `verified`, which
    /// the reconcile has written or compared.
    pub fn end(self, verified: Option<&str>) -> bool {
        let is_other = |change: &SecretChange| match change {
            SecretChange::At(version) => verified != Some(version.as_str()),
            SecretChange::Gone => true,
        };
        self.all.changes().remove(&self.resource).iter().flatten().any(is_other)
    }
}

impl Drop for OneInWork<'_> {
    fn drop(&mut self) {
        self.all.changes().remove(&self.resource);
        self.all.count.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn acme() -> Resource {
        ObjectRef::new("acme").within("ns")
    }

    fn at(version: &str) -> SecretChange {
        SecretChange::At(version.to_owned())
    }

    #[test]
    fn only_a_change_by_somebody_else_is_left_at_the_end() {
        let all = InWork::default();
        let ends = |changes: &[SecretChange], verified| {
            let work = all.begin(acme());
            assert!(changes.iter().all(|change| all.leave(&acme(), change.clone())));
            work.end(verified)
        };
        assert!(!ends(&[], Some("7")));
        assert!(!ends(&[at("7")], Some("7")), "it is the one that was just written");
        assert!(ends(&[at("7"), at("8")], Some("7")));
        assert!(ends(&[at("6"), at("7")], Some("7")), "it may be another Secret");
        assert!(ends(&[at("7"), SecretChange::Gone], Some("7")));
        assert!(ends(&[at("7")], None));
    }

    #[test]
    fn a_resource_that_is_not_in_work_takes_no_change() {
        let all = InWork::default();
        assert!(!all.leave(&acme(), at("7")));
        drop(all.begin(acme()));
        assert!(!all.leave(&acme(), at("7")));
        all.begin(acme()).end(None);
        assert!(!all.leave(&acme(), at("7")) && all.changes().is_empty());
    }
}
