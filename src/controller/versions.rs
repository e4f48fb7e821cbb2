//! Which version of each account was last reconciled, to tell a change by somebody else from an echo of our own.

use crate::account::Version;
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

type Resource = ObjectRef<ApiAccount>;

/// Remembered per resource, forgotten with it.
#[derive(Default)]
pub(super) struct Versions(Mutex<HashMap<Resource, Entry>>);

#[derive(Default)]
struct Entry {
    reconciled: Option<Reconciled>,
    /// What was heard since the resource began to be worked on; `None` while it is not.
    notified: Option<Notified>,
}

struct Reconciled {
    version: Version,
    at: Instant,
}

/// Our own commit may be heard of before its answer comes, so what is heard during work is judged at its end.
#[derive(Default)]
struct Notified {
    latest: Option<Version>,
    gone: bool,
}

impl Versions {
    /// Work on a resource begins.
    pub fn begin(&self, resource: &Resource) {
        self.entries().entry(resource.clone()).or_default().notified = Some(Notified::default());
    }

    /// Takes in how work on a resource ended, and answers whether its account has changed again since. Without a version,
    /// nothing that is heard of the account is a reason to look at the resource again.
    pub fn reconciled(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut entries = self.entries();
        let entry = entries.entry(resource.clone()).or_default();
        let heard = entry.notified.take().unwrap_or_default();
        entry.reconciled = version.map(|version| Reconciled { version, at: Instant::now() });
        version.is_some() && (heard.gone || heard.latest > version)
    }

    /// Work on a resource ended in whichever way.
    pub fn end(&self, resource: &Resource) {
        if let Some(entry) = self.entries().get_mut(resource) {
            entry.notified = None;
        }
    }

    /// Takes in that an account is now of this version, or gone, and answers whether that is a reason to look at its resource.
    pub fn account_changed(&self, resource: &Resource, version: Option<Version>) -> bool {
        let mut entries = self.entries();
        match entries.get_mut(resource) {
            Some(Entry { notified: Some(heard), .. }) => {
                heard.latest = heard.latest.max(version);
                heard.gone |= version.is_none();
                false
            }
            // Word of a version before that one comes late. Whoever sets a version back by hand is found by the sweep.
            Some(Entry { reconciled: Some(reconciled), .. }) => {
                version.is_none_or(|version| version > reconciled.version)
            }
            _ => false,
        }
    }

    /// Takes in the versions of all accounts as they were at some time since `asked`, and answers with the resources whose
    /// account is another, or gone.
    pub fn changed_since(&self, listed: &HashMap<Resource, Version>, asked: Instant) -> Vec<Resource> {
        let mut changed = Vec::new();
        for (resource, entry) in self.entries().iter_mut() {
            let version = listed.get(resource).copied();
            match entry {
                Entry { notified: Some(heard), .. } => heard.latest = heard.latest.max(version),
                // What was reconciled since then may be newer than what was read.
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

    /// Whether no account is known.
    pub fn is_empty(&self) -> bool {
        self.entries().values().all(|entry| entry.reconciled.is_none())
    }

    /// Forgets a resource that is gone.
    pub fn forget(&self, resource: &Resource) {
        self.entries().remove(resource);
    }

    /// Forgets the resources that are not there any more, also where no watch has told of the end of one. What is worked on
    /// is kept until that has ended.
    pub fn retain(&self, is_there: impl Fn(&Resource) -> bool) {
        self.entries().retain(|resource, entry| entry.notified.is_some() || is_there(resource));
    }

    /// A panic elsewhere cannot leave the map half changed.
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

    /// A resource that was reconciled at this version.
    fn known(version: i64) -> (Versions, Resource) {
        let (versions, acme) = (Versions::default(), resource("acme"));
        versions.begin(&acme);
        assert!(!versions.reconciled(&acme, Some(Version(version))));
        (versions, acme)
    }

    #[test]
    fn an_echo_is_no_news_nor_is_a_late_word_and_a_later_version_is() {
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
    fn an_echo_that_is_quicker_than_the_answer_is_no_news_either() {
        for (heard, is_news) in
            [(Some(Version(3)), false), (Some(Version(4)), false), (Some(Version(5)), true), (None, true)]
        {
            let (versions, acme) = known(3);
            versions.begin(&acme);
            assert!(!versions.account_changed(&acme, heard));
            assert_eq!(versions.reconciled(&acme, Some(Version(4))), is_news, "{heard:?}");
            assert!(!versions.account_changed(&acme, Some(Version(4))));
        }
    }

    #[test]
    fn a_sweep_finds_what_has_another_version_or_none() {
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
    fn a_sweep_that_read_before_we_wrote_finds_nothing() {
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
    fn what_is_not_known_or_forgotten_is_not_looked_for() {
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
    fn who_is_not_there_any_more_is_forgotten_once_work_has_ended() {
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
    fn work_that_came_to_nothing_leaves_what_was_known() {
        let (versions, acme) = known(3);
        versions.begin(&acme);
        assert!(!versions.account_changed(&acme, Some(Version(4))));
        versions.end(&acme);
        assert!(versions.account_changed(&acme, Some(Version(4))));
        assert!(!versions.account_changed(&acme, Some(Version(3))));
    }
}
