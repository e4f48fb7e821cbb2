//! Reads a cluster for `opsadmin doctor`: the ApiAccounts, the Secrets, the CustomResourceDefinition, and the rights of
//! the user.

use super::Report;
use crate::account::{ClusterId, Owner};
use crate::api::{ACCOUNT_LABEL, ApiAccount, GROUP, Lenient, OWNER_ANNOTATION, definition};
use crate::doctor::{Check, CheckedResource, CheckedSecret, missing_fields, unknown_stored_versions};
use crate::kube_error::reason;
use crate::kube_error::with_advice;
use crate::reconcile::{Desired, is_created_if_missing};
use crate::secrets::{FoundSecret, SecretRef};
use anyhow::{Result, anyhow};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, ResourceExt};

/// The installed roles, with the rights that a controller needs.
const ROLE: &str = include_str!("../../../deploy/rbac.yaml");

/// The cluster that is checked.
pub struct Cluster<'a> {
    pub client: Client,
    pub id: ClusterId,
    /// The namespaces to check. Empty: all namespaces.
    pub namespaces: &'a [String],
}

impl Cluster<'_> {
    /// Checks the CustomResourceDefinition and the rights of the user.
    pub async fn check(&self, report: &mut Report) {
        let definitions: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        match definitions.get_opt(&format!("apiaccounts.{GROUP}")).await {
            Ok(Some(found)) => {
                for field in missing_fields(&definition(), &found) {
                    let problem = format!("it lacks {field}, which this program writes or reads");
                    let advice = "install it: `opsadmin crd | kubectl apply --server-side -f -`";
                    report.findings.push(Check::Definition.found(
                        format!("the definition apiaccounts.{GROUP}"),
                        problem,
                        advice,
                    ));
                }
                for version in unknown_stored_versions(&definition(), &found) {
                    report.findings.push(Check::Definition.found(
                        format!("the definition apiaccounts.{GROUP}"),
                        format!(
                            "the API server may still store ApiAccounts in the version {version}, which this program \
                             does not know"
                        ),
                        "write each ApiAccount again: `kubectl get apiaccounts -A -o yaml | kubectl replace -f -`; then \
                         remove the version from status.storedVersions of the definition",
                    ));
                }
            }
            Ok(None) => report.findings.push(Check::Definition.found(
                format!("the definition apiaccounts.{GROUP}"),
                "the cluster does not have it",
                "install it: `opsadmin crd | kubectl apply --server-side -f -`",
            )),
            Err(error) => report.unchecked(Check::Definition, &reason(&error)),
        }
        if let Err(error) = self.check_rights(report).await {
            report.unchecked(Check::Rights, &error);
        }
    }

    async fn check_rights(&self, report: &mut Report) -> Result<()> {
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.client.clone());
        for attributes in rights()? {
            for namespace in self.each_namespace() {
                let namespace = namespace.filter(|_| attributes.name.is_none()).map(str::to_owned);
                let asked = ResourceAttributes { namespace: namespace.clone(), ..attributes.clone() };
                let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..Default::default() };
                let review = SelfSubjectAccessReview { spec, ..Default::default() };
                let answer = reviews.create(&PostParams::default(), &review).await;
                let answer = answer.map_err(|error| anyhow!("{}", reason(&error)))?;
                if !answer.status.is_some_and(|status| status.allowed) {
                    let place =
                        namespace.map_or_else(|| "the cluster".to_owned(), |name| format!("the namespace {name}"));
                    let problem = format!("the user of the kubeconfig may not {}", in_short(&attributes));
                    let advice = "a controller needs it: `opsadmin render` prints its role";
                    report.findings.push(Check::Rights.found(place, problem, advice));
                }
            }
        }
        Ok(())
    }

    /// Lists the ApiAccounts. `None`: they could not be listed.
    pub async fn resources(&self, report: &mut Report) -> Option<Vec<CheckedResource>> {
        let mut seen = Vec::new();
        for namespace in self.each_namespace() {
            let resources: Api<Lenient<ApiAccount>> = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            match resources.list(&ListParams::default()).await {
                Ok(listed) => seen.extend(listed.items.iter().map(|Lenient(resource)| self.seen(resource))),
                Err(error) => {
                    report.unchecked(Check::Owners, &with_advice(&error, "this needs the right to list ApiAccounts"));
                    return None;
                }
            }
        }
        Some(seen)
    }

    fn seen(&self, resource: &ApiAccount) -> CheckedResource {
        // An error in a spec is not a finding here: the condition of the resource reports it.
        let desired = Desired::parse(resource, &self.id).ok();
        CheckedResource {
            owner: Owner::of(resource, &self.id),
            account: resource.status.as_ref().and_then(|status| status.account_id.clone()),
            is_managed: is_created_if_missing(resource),
            secret: desired.map(|desired| desired.secret.at),
        }
    }

    /// Lists the Secrets of accounts. `None`: they could not be listed.
    pub async fn secrets(&self, report: &mut Report) -> Option<Vec<CheckedSecret>> {
        let ours = ListParams::default().labels(ACCOUNT_LABEL);
        let mut seen = Vec::new();
        for namespace in self.each_namespace() {
            let secrets: Api<Secret> = match namespace {
                Some(namespace) => Api::namespaced(self.client.clone(), namespace),
                None => Api::all(self.client.clone()),
            };
            match secrets.list(&ours).await {
                Ok(listed) => seen.extend(listed.items.into_iter().filter_map(seen_secret)),
                Err(error) => {
                    report.unchecked(Check::Secrets, &with_advice(&error, "this needs the right to list Secrets"));
                    return None;
                }
            }
        }
        Some(seen)
    }

    fn each_namespace(&self) -> Vec<Option<&str>> {
        if self.namespaces.is_empty() {
            vec![None]
        } else {
            self.namespaces.iter().map(|namespace| Some(namespace.as_str())).collect()
        }
    }
}

fn seen_secret(secret: Secret) -> Option<CheckedSecret> {
    let owner = Owner::parse(secret.annotations().get(OWNER_ANNOTATION)?)?;
    let at = SecretRef { namespace: secret.namespace()?, name: secret.name_any() };
    let keys = FoundSecret::new(at.clone(), secret).keys();
    Some(CheckedSecret { at, owner, keys })
}

/// Returns each right of the controller's role.
fn rights() -> Result<Vec<ResourceAttributes>> {
    let role = ROLE.split("\n---\n").find(|object| object.contains("\nkind: ClusterRole\n"));
    let role: ClusterRole = serde_saphyr::from_str(role.unwrap_or_default())
        .map_err(|error| anyhow!("the role that this program was built with cannot be read: {error}"))?;
    let mut rights = Vec::new();
    for rule in role.rules.into_iter().flatten() {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                let (resource, subresource) = match resource.split_once('/') {
                    Some((resource, subresource)) => (resource, Some(subresource.to_owned())),
                    None => (resource.as_str(), None),
                };
                for verb in &rule.verbs {
                    rights.push(ResourceAttributes {
                        group: Some(group.clone()),
                        resource: Some(resource.to_owned()),
                        subresource: subresource.clone(),
                        verb: Some(verb.clone()),
                        name: rule.resource_names.as_ref().and_then(|names| names.first().cloned()),
                        ..Default::default()
                    });
                }
            }
        }
    }
    Ok(rights)
}

fn in_short(attributes: &ResourceAttributes) -> String {
    let of =
        |part: &Option<String>, before: &str| part.as_ref().map(|part| format!("{before}{part}")).unwrap_or_default();
    format!(
        "{} {}{}{}",
        of(&attributes.verb, ""),
        of(&attributes.resource, ""),
        of(&attributes.subresource, "/"),
        of(&attributes.name, " ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_right_of_the_role_is_asked_for() {
        let rights: Vec<String> = rights().unwrap().iter().map(in_short).collect();
        for right in [
            "list apiaccounts",
            "patch apiaccounts/status",
            "delete secrets",
            "create events",
            "get namespaces kube-system",
        ] {
            assert!(rights.iter().any(|found| found == right), "{right}: {rights:?}");
        }
    }
}
