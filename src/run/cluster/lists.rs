//! Lists many objects of a cluster in few requests.

use crate::api::Lenient;
use kube::api::ListParams;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// The number of objects in one page of a list.
const PAGE: u32 = 500;
/// How often a list is tried. The API server answers 410 when the continue token has expired; the list then starts from
/// the first page.
const ATTEMPTS: usize = 3;

/// The namespaces of a cluster whose objects are listed.
pub struct Namespaces {
    pub client: Client,
    pub names: BTreeSet<String>,
}

impl Namespaces {
    /// Passes every object of this kind to `take`, page by page. Several namespaces are read with one list of all
    /// namespaces if the user has the right to it; `take` then also gets objects of other namespaces. An object may be
    /// passed twice.
    ///
    /// # Errors
    /// The namespace that could not be listed, or all namespaces, and the error.
    pub async fn list<K>(&self, labels: Option<&str>, mut take: impl FnMut(K)) -> Result<(), (String, kube::Error)>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let params = ListParams { label_selector: labels.map(str::to_owned), ..ListParams::default().limit(PAGE) };
        if self.names.len() > 1 {
            match pages(&Api::all(self.client.clone()), &params, &mut take).await {
                Err(kube::Error::Api(status)) if status.code == 403 => {}
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

async fn pages<K>(api: &Api<Lenient<K>>, params: &ListParams, take: &mut impl FnMut(K)) -> Result<(), kube::Error>
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut params = params.clone();
    let mut attempts = 1;
    loop {
        match api.list(&params).await {
            Ok(page) => {
                page.items.into_iter().for_each(|Lenient(object)| take(object));
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

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Secret;
    use kube::ResourceExt;
    use kube::client::Body;
    use serde_json::{Value, json};
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    /// The answer to a list request: an error code, or the names and the continue token of the next page.
    type Answer = Result<(&'static [&'static str], &'static str), u16>;

    fn body(answer: Answer) -> (u16, Value) {
        match answer {
            Err(code) => (code, json!({ "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code })),
            Ok((names, token)) => {
                let secret = |name: &&str| json!({ "metadata": { "name": name } });
                let items: Vec<Value> = names.iter().map(secret).collect();
                (
                    200,
                    json!({ "kind": "SecretList", "apiVersion": "v1", "metadata": { "continue": token }, "items": items }),
                )
            }
        }
    }

    /// Lists these namespaces with a server that gives these answers in turn. Returns the names and the requests.
    async fn listed(namespaces: &[&str], answers: &[Answer]) -> (Result<Vec<String>, String>, Vec<String>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (calls, answers) = (Arc::clone(&asked), answers.to_vec());
        let service = tower::service_fn(move |request: Request<Body>| {
            let mut calls = calls.lock().unwrap();
            let (code, body) = body(answers[calls.len()]);
            calls.push(request.uri().to_string().replace("/api/v1/", ""));
            let response = Response::builder().status(code).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        let names = namespaces.iter().map(|name| (*name).to_owned()).collect();
        let namespaces = Namespaces { client: Client::new(service, "ns"), names };
        let mut found = Vec::new();
        let result = namespaces.list(Some("a=b"), |secret: Secret| found.push(secret.name_any())).await;
        let asked = asked.lock().unwrap().clone();
        (result.map(|()| found).map_err(|(place, _)| place), asked)
    }

    #[tokio::test]
    async fn pages_are_read_to_the_end() {
        let (found, asked) = listed(&["x"], &[Ok((&["a", "b"], "next")), Ok((&["c"], ""))]).await;
        assert_eq!(found, Ok(["a", "b", "c"].map(str::to_owned).to_vec()));
        let first = "namespaces/x/secrets?&labelSelector=a%3Db&limit=500";
        assert_eq!(asked, [first.to_owned(), format!("{first}&continue=next")]);
    }

    #[tokio::test]
    async fn an_expired_list_starts_again_a_limited_number_of_times() {
        let (found, asked) = listed(&["x"], &[Ok((&["a"], "next")), Err(410), Ok((&["a", "b"], ""))]).await;
        assert_eq!(found.map(|found| found.len()), Ok(3));
        assert_eq!((asked.len(), &asked[2]), (3, &asked[0]));
        let (found, asked) = listed(&["x"], &[Err(410); 9]).await;
        assert_eq!((found, asked.len()), (Err("the namespace x".to_owned()), ATTEMPTS));
    }

    #[tokio::test]
    async fn several_namespaces_are_one_list_if_the_user_has_the_right() {
        let (found, asked) = listed(&["x", "y"], &[Ok((&["a"], ""))]).await;
        assert_eq!((found, asked.len()), (Ok(vec!["a".to_owned()]), 1));
        let (found, asked) = listed(&["x", "y"], &[Err(403), Ok((&["a"], "")), Ok((&["b"], ""))]).await;
        assert_eq!(found, Ok(vec!["a".to_owned(), "b".to_owned()]));
        assert!(asked[1].starts_with("namespaces/x/") && asked[2].starts_with("namespaces/y/"), "{asked:?}");
        let (found, _) = listed(&["x", "y"], &[Err(404)]).await;
        assert_eq!(found, Err("all namespaces".to_owned()));
    }
}
