//! What one watch is about: a namespace, or the whole cluster.

use super::watch_errors::WatchErrors;
use crate::secrets::cache::{SecretCache, SecretCaches};
use crate::telemetry::Metrics;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A part of the cluster that is watched: a namespace, or all of them.
#[derive(Clone)]
pub(super) struct Scope {
    namespace: Option<String>,
    /// What is known of its Secrets.
    pub secrets: Arc<SecretCache>,
}

impl Scope {
    /// Each of these namespaces once; all of them if there are none.
    pub fn each(namespaces: &[String]) -> Vec<Self> {
        let distinct: BTreeSet<_> = namespaces.iter().cloned().map(Some).collect();
        let distinct = if distinct.is_empty() { BTreeSet::from([None]) } else { distinct };
        distinct.into_iter().map(|namespace| Self { namespace, secrets: Arc::default() }).collect()
    }

    /// Whether the namespace is in it.
    pub fn has(&self, namespace: &str) -> bool {
        self.namespace.as_deref().is_none_or(|own| own == namespace)
    }

    /// What each of these knows of its Secrets.
    pub fn secret_caches(scopes: &[Self]) -> SecretCaches {
        let named = |scope: &Self| Some((scope.namespace.clone()?, Arc::clone(&scope.secrets)));
        match scopes {
            [all] if all.namespace.is_none() => SecretCaches::Cluster(Arc::clone(&all.secrets)),
            each => SecretCaches::Namespaces(each.iter().filter_map(named).collect()),
        }
    }

    /// The objects of this kind in it.
    pub fn api<K>(&self, client: &Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match &self.namespace {
            None => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
        }
    }

    /// How to tell of trouble with watching objects of this kind in it.
    pub fn watch_errors(&self, kind: &'static str, metrics: Arc<Metrics>) -> WatchErrors {
        let what = match &self.namespace {
            None => format!("{kind}s"),
            Some(namespace) => format!("{kind}s in the namespace {namespace}"),
        };
        WatchErrors::new(what, kind, metrics)
    }
}
