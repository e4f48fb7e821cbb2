//! The place of a resource in one small text.

use crate::account::Owner;
use crate::api::ApiAccount;
use kube::runtime::reflector::ObjectRef;
use std::sync::Arc;

/// The namespace and the name of a resource. Kubernetes allows no slash in either.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::controller) struct Key(Arc<str>);

impl Key {
    /// Returns the key of the resource that is referred to.
    pub fn of(reference: &ObjectRef<ApiAccount>) -> Self {
        Self::at(reference.namespace.as_deref().unwrap_or_default(), &reference.name)
    }

    /// Returns the key of a resource.
    pub fn of_resource(resource: &ApiAccount) -> Self {
        let name = resource.metadata.name.as_deref().unwrap_or_default();
        Self::at(resource.metadata.namespace.as_deref().unwrap_or_default(), name)
    }

    /// Returns a reference to the resource.
    pub fn reference(&self) -> ObjectRef<ApiAccount> {
        let (namespace, name) = self.parts();
        ObjectRef::new(name).within(namespace)
    }

    /// Returns the namespace and the name.
    pub fn parts(&self) -> (&str, &str) {
        self.0.split_once('/').unwrap_or_default()
    }

    fn at(namespace: &str, name: &str) -> Self {
        Self([namespace, "/", name].concat().into())
    }
}

impl From<&Owner> for Key {
    fn from(owner: &Owner) -> Self {
        Self::at(&owner.namespace, &owner.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ApiAccountSpec;

    #[test]
    fn a_resource_and_references_to_it_have_one_key() {
        let mut resource = ApiAccount::new("acme", ApiAccountSpec::default());
        resource.metadata.namespace = Some("ns".to_owned());
        resource.metadata.uid = Some("u".to_owned());
        let key = Key::of_resource(&resource);
        assert_eq!(key, Key::of(&ObjectRef::from_obj(&resource)));
        assert_eq!(key.reference(), ObjectRef::from_obj(&resource));
        assert_eq!(key.parts(), ("ns", "acme"));
    }
}
