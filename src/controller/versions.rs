//! Remembers the version of each account that was last reconciled, so that a change by another program or user can be
//! told from an echo of our own commit.

use crate::account::Version;
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Resource = ObjectRef<ApiAccount>;

/// The versions by resource. An entry is removed together with its resource.
#[derive(Default)]
pub(super) struct Versions(Mutex<HashMap<Resource, Entry>>);

#[derive(Default)]
struct Entry {
    reconciled: Option<Reconciled>,
    /// The changes reported since the present reconcile of the resource began; `None` while the resource is not being
    /// reconciled.
    notified: Option<Notified>,
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
    pub fn begin(&self, resource: &Resource) {
        self.entries().entry(resource.clone()).or_default().notified = Some(Notified::default());
    }

    /// Records the version with which a reconcile ended, and returns whether the account has changed again since.
    /// Without a version, no later change of the account causes a reconcile of the resource.
    pub fn reconciled(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut entries = self.entries();
        let entry = entries.entry(resource.clone()).or_default();
        let notified = entry.notified.take().unwrap_or_default();
        entry.reconciled = version.map(|version| Reconciled { version, at: Instant::now() });
        version.is_some() && (notified.gone || notified.latest > version)
    }

    /// Records that a reconcile of the resource ended, with any result.
    pub fn end(&self, resource: &Resource) {
        if let Some(entry) = self.entries().get_mut(resource) {
            entry.notified = None;
        }
    }

    /// Records the new version of an account (`None`: the account is gone), and returns whether its resource must be
    /// reconciled.
    pub fn account_changed(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut entries = self.entries();
        match entries.get_mut(resource) {
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

    /// Returns the resources whose account has another version than the one that was last reconciled, or is gone.
    /// `listed` are the versions of all accounts, read after `asked`.
    pub fn changed_since(&self, listed: &HashMap<Resource, Version>, asked: Instant) -> Vec<Resource> {
        let mut changed = Vec::new();
        for (resource, entry) in self.entries().iter_mut() {
            let version = listed.get(resource).copied();
            match entry {
                Entry { notified: Some(notified), .. } => notified.latest = notified.latest.max(version),
                // An account that was reconciled after `asked` may be newer than the list.
                Entry { reconciled: Some(reconciled), .. }
                    if reconciled.at < asked && version != Some(reconciled.version) =>
                {
                    changed.push(resource.clone());
                }
                _ => {}
            }
        }
        changed
    }

    /// Returns every resource whose account was reconciled. For a database that may have lost commits: an equal version
    /// then proves nothing. A resource that is being reconciled is reconciled again afterwards.
    pub fn doubted(&self) -> Vec<Resource> {
        let mut doubted = Vec::new();
        for (resource, entry) in self.entries().iter_mut() {
            match entry {
                Entry { notified: Some(notified), .. } => notified.gone = true,
                Entry { reconciled: Some(_), .. } => doubted.push(resource.clone()),
                Entry { .. } => {}
            }
        }
        doubted
    }

    /// Returns whether no account is known.
    pub fn is_empty(&self) -> bool {
        self.entries().values().all(|entry| entry.reconciled.is_none())
    }

    /// Removes a resource that is gone.
    pub fn forget(&self, resource: &Resource) {
        self.entries().remove(resource);
    }

    /// Removes the resources that no longer exist, including those whose deletion no watch has shown. A resource that
    /// is being reconciled is kept until the reconcile has ended.
    pub fn retain(&self, is_there: impl Fn(&Resource) -> bool) {
        self.entries().retain(|resource, entry| entry.notified.is_some() || is_there(resource));
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn entries(&self) -> MutexGuard<'_, HashMap<Resource, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str) -> Resource {
        ObjectRef::new(name).within("ns")
    }

    fn listed(accounts: &[(&str, i64)]) -> HashMap<Resource, Version> {
        accounts.iter().map(|(name, version)| (resource(name), Version(*version))).collect()
    }

    /// Returns a resource that was reconciled at this version.
    fn known(version: i64) -> (Versions, Resource) {
        let (versions, acme) = (Versions::default(), resource("acme"));
        versions.begin(&acme);
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
            versions.begin(&acme);
            assert!(!versions.account_changed(&acme, heard));
            assert_eq!(versions.reconciled(&acme, Some(Version(4))), causes_reconcile, "{heard:?}");
            assert!(!versions.account_changed(&acme, Some(Version(4))));
        }
    }

    #[test]
    fn a_sweep_finds_accounts_with_another_version_or_none() {
        let versions = Versions::default();
        for name in ["same", "other", "older", "gone"] {
            versions.begin(&resource(name));
            versions.reconciled(&resource(name), Some(Version(3)));
        }
        let mut found = versions.changed_since(
            &listed(&[("same", 3), ("other", 4), ("older", 2), ("stranger", 1)]),
            Instant::now() + std::time::Duration::from_nanos(1),
        );
        found.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(found, [resource("gone"), resource("older"), resource("other")]);
    }

    #[test]
    fn a_sweep_that_read_before_our_write_finds_nothing() {
        let asked = Instant::now();
        let (versions, acme) = known(3);
        assert_eq!(versions.changed_since(&listed(&[("acme", 2)]), asked), []);
        versions.begin(&acme);
        assert_eq!(versions.changed_since(&listed(&[]), Instant::now()), []);
        assert_eq!(versions.changed_since(&listed(&[("acme", 5)]), Instant::now()), []);
        assert!(
            versions.reconciled(&acme, Some(Version(4))),
            "but what it read is remembered until the end of the work"
        );
    }

    #[test]
    fn after_lost_commits_every_account_is_reconciled_again() {
        let (versions, acme) = known(3);
        assert_eq!(versions.doubted(), std::slice::from_ref(&acme));
        versions.begin(&acme);
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
        assert_eq!(versions.changed_since(&listed(&[]), Instant::now()), []);
        versions.reconciled(&acme, Some(Version(3)));
        versions.forget(&acme);
        versions.end(&acme);
        assert!(!versions.account_changed(&acme, Some(Version(9))) && versions.is_empty());
    }

    #[test]
    fn a_deleted_resource_is_removed_after_its_reconcile() {
        let (versions, acme) = known(3);
        versions.begin(&acme);
        versions.retain(|_| false);
        assert!(!versions.entries().is_empty());
        versions.end(&acme);
        versions.retain(|resource| *resource == acme);
        assert!(!versions.is_empty());
        versions.retain(|_| false);
        assert!(versions.entries().is_empty());
    }

    #[test]
    fn a_reconcile_without_result_keeps_the_known_version() {
        let (versions, acme) = known(3);
        versions.begin(&acme);
        assert!(!versions.account_changed(&acme, Some(Version(4))));
        versions.end(&acme);
        assert!(versions.account_changed(&acme, Some(Version(4))));
        assert!(!versions.account_changed(&acme, Some(Version(3))));
    }
}
