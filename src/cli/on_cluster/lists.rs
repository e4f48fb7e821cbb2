//! Reading many objects of a cluster in few requests.

use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// How many objects a page has.
const PAGE: u32 = 500;
/// How often to begin anew when the API server has forgotten what the next page is of.
const ATTEMPTS: usize = 3;

/// Some namespaces of a cluster.
pub struct Namespaces {
    pub client: Client,
    pub names: BTreeSet<String>,
}

impl Namespaces {
    /// Gives every object of this kind to `take`, page by page; of more than one namespace in one list, if the rights are
    /// there, which then also has objects of others. Some may be given twice.
    ///
    /// # Errors
    /// The namespace that could not be listed, unless it was all of them, and why.
    pub async fn list<K>(&self, labels: Option<&str>, mut take: impl FnMut(K)) -> Result<(), (String, kube::Error)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = ListParams { label_selector: labels.map(str::to_owned), ..ListParams::default().limit(PAGE) };
        if self.names.len() > 1 {
            match pages(&Api::all(self.client.clone()), &params, &mut take).await {
                Err(kube::Error::Api(status)) if status.is_forbidden() => {}
                other => return other.map_err(|error| ("all namespaces".to_owned(), error)),
            }
        }
        for name in &self.names {
            let api = Api::namespaced(self.client.clone(), name);
            pages(&api, &params, &mut take).await.map_err(|error| (format!("the namespace {name}"), error))?;
        }
        Ok(())
    }
}

async fn pages<K>(api: &Api<K>, params: &ListParams, take: &mut impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut params = params.clone();
    let mut attempts = 1;
    loop {
        match api.list(&params).await {
            Ok(page) => {
                page.items.into_iter().for_each(&mut *take);
                match page.metadata.continue_.filter(|token| !token.is_empty()) {
                    Some(token) => params.continue_token = Some(token),
                    None => return Ok(()),
                }
            }
            Err(kube::Error::Api(status)) if status.code == 410 && attempts < ATTEMPTS => {
                attempts += 1;
                params.continue_token = None;
            }
            Err(error) => return Err(error),
        }
    }
}
