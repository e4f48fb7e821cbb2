//! A namespace for each test.

use std::path::{Path, PathBuf};
use std::thread;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::cluster::client_of;
use super::names::unique;

/// A namespace that only one test uses. It is deleted when this value is dropped.
pub struct TestNamespace {
    name: String,
    kubeconfig: PathBuf,
}

impl TestNamespace {
    /// Creates a namespace whose name contains the name of the test.
    pub async fn create(kubeconfig: &Path, test_name: &str) -> Self {
        let name = unique(test_name);
        let client = client_of(kubeconfig).await.unwrap_or_else(|problem| panic!("{problem}"));
        let namespace = Namespace {
            metadata: ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
            ..Namespace::default()
        };
        let created = Api::all(client).create(&PostParams::default(), &namespace).await;
        created.unwrap_or_else(|error| panic!("creating namespace {name}: {error}"));
        Self { name, kubeconfig: kubeconfig.to_path_buf() }
    }

    /// Returns the name of the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        // This runs in a separate thread, because the test's runtime may be ending and a drop cannot wait for a future.
        let deletion = thread::scope(|threads| {
            threads
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                    let runtime = runtime.map_err(|error| error.to_string())?;
                    runtime.block_on(delete(&self.kubeconfig, &self.name))
                })
                .join()
        });
        match deletion {
            Ok(Ok(())) => {}
            Ok(Err(problem)) => eprintln!("deleting namespace {}: {problem}", self.name),
            Err(_) => eprintln!("deleting namespace {}: panicked", self.name),
        }
    }
}

/// Deletes the namespace without waiting for the deletion. Removes the finalizers of its accounts, because their
/// controller may have ended.
async fn delete(kubeconfig: &Path, name: &str) -> Result<(), String> {
    let client = client_of(kubeconfig).await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete(name, &DeleteParams::default()).await.map_err(|error| error.to_string())?;
    release_accounts(client, name).await.map_err(|error| error.to_string())
}

async fn release_accounts(client: Client, namespace: &str) -> Result<(), kube::Error> {
    let resource = ApiResource {
        group: "ops-admin.com".into(),
        version: "v1".into(),
        api_version: "ops-admin.com/v1".into(),
        kind: "ApiAccount".into(),
        plural: "apiaccounts".into(),
    };
    let accounts: Api<DynamicObject> = Api::namespaced_with(client, namespace, &resource);
    let held = match accounts.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
        held => held?,
    };
    for account in held {
        let without = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        let name = account.metadata.name.unwrap_or_default();
        match accounts.patch(&name, &PatchParams::default(), &without).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {}
            released => drop(released?),
        }
    }
    Ok(())
}
