//! Remembers the version of each account that was last reconciled, so that a change by another program or user can be
//! told from an echo of our own commit.

use super::held::Key;
use super::resources::resource;
use crate::account::{Owner, Version};
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Resource = ObjectRef<ApiAccount>;

/// The versions by resource. An entry is removed together with its resource.
#[derive(Default)]
pub(super) struct Versions(Mutex<State>);

#[derive(Default)]
struct State {
    entries: HashMap<Key, Entry>,
    /// The number of comparisons with all accounts so far.
    comparison: u32,
}

#[derive(Default)]
struct Entry {
    reconciled: Option<Reconciled>,
    /// The changes reported since the present reconcile of the resource began; `None` while the resource is not being
    /// reconciled. In a box, because only a few resources are in work at a time.
    notified: Option<Box<Notified>>,
    /// The last comparison in which the account was found.
    found_in: u32,
}

struct Reconciled {
    version: Version,
    at: Instant,
}

/// The changes of an account reported during its reconcile. They are compared at the end of the reconcile, because the
/// database may report our own commit before it answers the commit.
#[derive(Default)]
struct Notified {
    latest: Option<Version>,
    gone: bool,
}

impl Versions {
    /// Records that a reconcile of the resource begins.
    pub fn begin(&self, resource: &Key) {
        self.state().entries.entry(resource.clone()).or_default().notified = Some(Box::default());
    }

    /// Records the version with which a reconcile ended, and returns whether the account has changed again since.
    /// Without a version, no later change of the account causes a reconcile of the resource.
    pub fn reconciled(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut state = self.state();
        let entry = state.entries.entry(Key::of(resource)).or_default();
        let notified = entry.notified.take().unwrap_or_default();
        entry.reconciled = version.map(|version| Reconciled { version, at: Instant::now() });
        version.is_some() && (notified.gone || notified.latest > version)
    }

    /// Records that a reconcile of the resource ended, with any result.
    pub fn end(&self, resource: &Resource) {
        if let Some(entry) = self.state().entries.get_mut(&Key::of(resource)) {
            entry.notified = None;
        }
    }

    /// Records the new version of an account (`None`: the account is gone), and returns whether its resource must be
    /// reconciled.
    pub fn account_changed(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut state = self.state();
        match state.entries.get_mut(&Key::of(resource)) {
            Some(Entry { notified: Some(notified), .. }) => {
                notified.latest = notified.latest.max(version);
                notified.gone |= version.is_none();
                false
            }
            // A report of an older version is late. If a user sets a version back by hand, the sweep finds that.
            Some(Entry { reconciled: Some(reconciled), .. }) => {
                version.is_none_or(|version| version > reconciled.version)
            }
            _ => false,
        }
    }

    /// Returns the resources among these whose account has another version than the one that was last reconciled.
    /// `found` are versions that were read after `asked`.
    pub fn changed_among(&self, found: &[(Owner, Version)], asked: Instant) -> Vec<Resource> {
        let mut state = self.state();
        let State { entries, comparison } = &mut *state;
        let is_changed = |(owner, version): &&(Owner, Version)| {
            entries.get_mut(&Key::from(owner)).is_some_and(|entry| {
                entry.found_in = *comparison;
                entry.differs(Some(*version), asked)
            })
        };
        found.iter().filter(is_changed).map(|(owner, _)| resource(owner)).collect()
    }

    /// Begins a comparison with all accounts. [`Self::changed_among`] is called for each page of them, and
    /// [`Self::not_found`] at the end.
    pub fn begin_comparison(&self) {
        let mut state = self.state();
        state.comparison = state.comparison.wrapping_add(1);
    }

    /// Returns the resources whose account was reconciled, and was not found since the comparison began, after `asked`.
    pub fn not_found(&self, asked: Instant) -> Vec<Resource> {
        let mut state = self.state();
        let State { entries, comparison } = &mut *state;
        let lost = entries.iter_mut().filter(|(_, entry)| entry.found_in != *comparison);
        let lost = lost.filter_map(|(key, entry)| entry.differs(None, asked).then(|| key.reference()));
        lost.collect()
    }

    /// Returns every resource whose account was reconciled. For a database that may have lost commits: an equal version
    /// then proves nothing. A resource that is being reconciled is reconciled again afterwards.
    pub fn doubted(&self) -> Vec<Resource> {
        let mut doubted = Vec::new();
        for (key, entry) in &mut self.state().entries {
            match entry {
                Entry { notified: Some(notified), .. } => notified.gone = true,
                Entry { reconciled: Some(_), .. } => doubted.push(key.reference()),
                Entry { .. } => {}
            }
        }
        doubted
    }

    /// Returns whether no account is known.
    pub fn is_empty(&self) -> bool {
        self.state().entries.values().all(|entry| entry.reconciled.is_none())
    }

    /// Removes a resource that is gone.
    pub fn forget(&self, resource: &Resource) {
        self.state().entries.remove(&Key::of(resource));
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown. A resource that
    /// is being reconciled is kept until the reconcile has ended.
    pub fn retain(&self, is_there: impl Fn(&Key) -> bool) {
        self.state().entries.retain(|resource, entry| entry.notified.is_some() || is_there(resource));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// Returns whether the account has another version than the one that was last reconciled. `version` was read after
    /// `asked`; `None`: the account was not there.
    fn differs(&mut self, version: Option<Version>, asked: Instant) -> bool {
        match self {
            Self { notified: Some(notified), .. } => {
                notified.latest = notified.latest.max(version);
                false
            }
            // An account that was reconciled after `asked` may be newer than what was read.
            Self { reconciled: Some(reconciled), .. } => reconciled.at < asked && version != Some(reconciled.version),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::ClusterId;

    fn resource(name: &str) -> Resource {
        ObjectRef::new(name).within("ns")
    }

    /// Compares with all accounts, in pages of two.
    fn compared(versions: &Versions, accounts: &[(&str, i64)], asked: Instant) -> Vec<Resource> {
        versions.begin_comparison();
        let found: Vec<_> = accounts.iter().map(|(name, version)| (owner(name), Version(*version))).collect();
        let changed = found.chunks(2).flat_map(|page| versions.changed_among(page, asked));
        let mut changed: Vec<_> = changed.collect();
        changed.extend(versions.not_found(asked));
        changed.sort_by(|a, b| a.name.cmp(&b.name));
        changed
    }

    fn owner(name: &str) -> Owner {
        Owner { cluster: ClusterId::parse("here").unwrap(), namespace: "ns".to_owned(), name: name.to_owned() }
    }

    /// Returns a resource that was reconciled at this version.
    fn known(version: i64) -> (Versions, Resource) {
        let (versions, acme) = (Versions::default(), resource("acme"));
        versions.begin(&Key::of(&acme));
        assert!(!versions.reconciled(&acme, Some(Version(version))));
        (versions, acme)
    }

    #[test]
    fn only_a_later_version_causes_a_reconcile() {
        let (versions, acme) = known(3);
        assert!(!versions.account_changed(&acme, Some(Version(3))));
        assert!(
            versions.account_changed(&acme, Some(Version(4)))
                && !versions.account_changed(&acme, Some(Version(2)))
                && versions.account_changed(&acme, None)
        );
        assert!(!versions.account_changed(&resource("never-seen"), Some(Version(1))));
    }

    #[test]
    fn an_echo_during_the_reconcile_causes_no_reconcile() {
        for (heard, causes_reconcile) in
            [(Some(Version(3)), false), (Some(Version(4)), false), (Some(Version(5)), true), (None, true)]
        {
            let (versions, acme) = known(3);
            versions.begin(&Key::of(&acme));
            assert!(!versions.account_changed(&acme, heard));
            assert_eq!(versions.reconciled(&acme, Some(Version(4))), causes_reconcile, "{heard:?}");
            assert!(!versions.account_changed(&acme, Some(Version(4))));
        }
    }

    #[test]
    fn a_sweep_finds_accounts_with_another_version_or_none() {
        let versions = Versions::default();
        for name in ["same", "other", "older", "gone"] {
            versions.begin(&Key::of(&resource(name)));
            versions.reconciled(&resource(name), Some(Version(3)));
        }
        let asked = Instant::now() + std::time::Duration::from_nanos(1);
        let all = [("same", 3), ("other", 4), ("older", 2), ("stranger", 1)];
        let found = ["gone", "older", "other"].map(resource);
        assert_eq!(compared(&versions, &all, asked), found);
        assert_eq!(compared(&versions, &all, asked), found, "each comparison is a new one");
        assert_eq!(versions.changed_among(&[(owner("same"), Version(3))], asked), []);
        assert_eq!(versions.changed_among(&[(owner("same"), Version(4))], asked), [resource("same")]);
    }

    #[test]
    fn a_sweep_that_read_before_our_write_finds_nothing() {
        let asked = Instant::now();
        let (versions, acme) = known(3);
        assert_eq!(compared(&versions, &[("acme", 2)], asked), []);
        versions.begin(&Key::of(&acme));
        assert_eq!(compared(&versions, &[], Instant::now()), []);
        assert_eq!(compared(&versions, &[("acme", 5)], Instant::now()), []);
        assert!(
            versions.reconciled(&acme, Some(Version(4))),
            "but what it read is remembered until the end of the work"
        );
    }

    #[test]
    fn after_lost_commits_every_account_is_reconciled_again() {
        let (versions, acme) = known(3);
        assert_eq!(versions.doubted(), std::slice::from_ref(&acme));
        versions.begin(&Key::of(&acme));
        assert_eq!(versions.doubted(), [], "its reconcile still goes on");
        assert!(versions.reconciled(&acme, Some(Version(4))), "and is followed by another one");
        versions.reconciled(&acme, None);
        assert_eq!(versions.doubted(), []);
    }

    #[test]
    fn an_unknown_or_removed_account_causes_no_reconcile() {
        let (versions, acme) = known(3);
        assert!(!versions.is_empty());
        versions.reconciled(&acme, None);
        assert!(!versions.account_changed(&acme, Some(Version(9))) && versions.is_empty());
        assert_eq!(compared(&versions, &[], Instant::now()), []);
        versions.reconciled(&acme, Some(Version(3)));
        versions.forget(&acme);
        versions.end(&acme);
        assert!(!versions.account_changed(&acme, Some(Version(9))) && versions.is_empty());
    }

    #[test]
    fn a_deleted_resource_is_removed_after_its_reconcile() {
        let (versions, acme) = known(3);
        versions.begin(&Key::of(&acme));
        versions.retain(|_| false);
        assert!(!versions.state().entries.is_empty());
        versions.end(&acme);
        versions.retain(|key| key.reference() == acme);
        assert!(!versions.is_empty());
        versions.retain(|_| false);
        assert!(versions.state().entries.is_empty());
    }

    #[test]
    fn a_reconcile_without_result_keeps_the_known_version() {
        let (versions, acme) = known(3);
        versions.begin(&Key::of(&acme));
        assert!(!versions.account_changed(&acme, Some(Version(4))));
        versions.end(&acme);
        assert!(versions.account_changed(&acme, Some(Version(4))));
        assert!(!versions.account_changed(&acme, Some(Version(3))));
    }
}
