//! When key pairs were used to log in, as the last sweep read it for all accounts in one query.

use super::resources::resource;
use crate::account::{KeyUse, Owner};
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

type Resource = ObjectRef<ApiAccount>;

/// The uses of the key pairs of each resource that has any.
#[derive(Default)]
pub(super) struct LastUses(Mutex<HashMap<Resource, Vec<KeyUse>>>);

impl LastUses {
    /// Replaces what is known.
    pub fn replace(&self, uses: Vec<(Owner, KeyUse)>) {
        let mut known: HashMap<Resource, Vec<KeyUse>> = HashMap::new();
        for (owner, used) in uses {
            known.entry(resource(&owner)).or_default().push(used);
        }
        *self.uses() = known;
    }

    /// Returns the uses of a resource's key pairs.
    pub fn of(&self, resource: &Resource) -> Vec<KeyUse> {
        self.uses().get(resource).cloned().unwrap_or_default()
    }

    /// Returns the resources for which `has_news` returns true.
    pub fn resources_with(&self, has_news: impl Fn(&Resource, &[KeyUse]) -> bool) -> Vec<Resource> {
        let uses = self.uses();
        uses.iter().filter(|(resource, uses)| has_news(resource, uses)).map(|(resource, _)| resource.clone()).collect()
    }

    /// A panic of another task cannot leave the map half changed, so a poisoned lock is still usable.
    fn uses(&self) -> MutexGuard<'_, HashMap<Resource, Vec<KeyUse>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
