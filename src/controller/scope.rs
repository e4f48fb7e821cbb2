//! The scope of one watch: a namespace or the whole cluster.

use super::watch_errors::WatchErrors;
use crate::secrets::cache::{SecretCache, SecretCaches};
use crate::telemetry::Metrics;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A part of the cluster that is watched: one namespace or all namespaces.
#[derive(Clone)]
pub(super) struct Scope {
    namespace: Option<String>,
    /// The cache of the Secrets in this scope.
    pub secrets: Arc<SecretCache>,
}

impl Scope {
    /// Returns one scope for each of these namespaces without duplicates, or one scope of all namespaces if there are
    /// none.
    pub fn each(namespaces: &[String]) -> Vec<Self> {
        let distinct: BTreeSet<_> = namespaces.iter().cloned().map(Some).collect();
        let distinct = if distinct.is_empty() { BTreeSet::from([None]) } else { distinct };
        distinct.into_iter().map(|namespace| Self { namespace, secrets: Arc::default() }).collect()
    }

    /// Returns whether the namespace is in this scope.
    pub fn has(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    /// Returns the caches of Secrets of these scopes.
    pub fn secret_caches(scopes: &[Self]) -> SecretCaches {
        let named = |scope: &Self| Some((scope.namespace.clone()?, Arc::clone(&scope.secrets)));
        match scopes {
            [all] if all.namespace.is_none() => SecretCaches::Cluster(Arc::clone(&all.secrets)),
            each => SecretCaches::Namespaces(each.iter().filter_map(named).collect()),
        }
    }

    /// Returns the API for objects of this kind in this scope.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    /// Returns the error log for the watch of objects of this kind in this scope.
    pub fn watch_errors(&self, kind: &'static str, metrics: Arc<Metrics>) -> WatchErrors {
        let what = match &self.namespace {
            None => format!("{kind}s"),
            Some(namespace) => format!("{kind}s in the namespace {namespace}"),
        };
        WatchErrors::new(what, kind, metrics)
    }
}
