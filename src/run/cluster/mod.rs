//! `plan --on-cluster`: reads the ApiAccounts and Secrets of a cluster with a few lists, and plans what the controller
//! does with them. It writes nothing.

mod creation_guard;
mod lists;
mod outlives;
mod resource;

use super::PruneSet;
use crate::account::{Account, ClusterId, Owner};
use crate::api::{ACCOUNT_LABEL, ApiAccount};
use crate::database::{AccountDatabase, DatabaseError, Deletions};
use crate::kube_error::with_advice;
use crate::manifests::Manifest;
use crate::reconcile::{
    Desired, KnownAccount, NotReady, Outcome, Reconciler, awaits_confirmation, exceeds_limit, is_created_if_missing,
};
use crate::secrets;
use crate::secrets::{AssumedKeys, SecretRef, SecretSnapshot};
use anyhow::{Result, anyhow};
use creation_guard::StatusGuard;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::{Api, Client};
use lists::Namespaces;
use resource::{Resource, reported_secret};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// The maximum number of Secrets that are read one by one. For more, all Secrets of their namespaces are listed.
const MAX_SINGLE_READS: usize = 20;
/// The kind that a plan does not read with `--without-secrets`.
const SECRETS: &str = "Secrets";
/// The UID that a plan gives to a resource that does not exist yet. No real resource has it.
const NEW_UID: &str = "new";

/// The parameters of [`ClusterState::read`].
pub struct Query<'a> {
    /// The client for the cluster.
    pub client: Client,
    /// The id of the cluster in the account database.
    pub cluster: &'a ClusterId,
    /// What is read of the Secrets.
    pub secrets: Depth,
    /// The percentage of accounts that the controller's brake allows to be deleted.
    pub brake: u8,
    /// The number of live accounts and of recent deletions in the cluster. `None`: the plan prunes nothing.
    pub deletions: Option<Deletions>,
}

/// What is read of the Secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// The contents of each Secret that is not known to be in sync.
    Contents,
    /// The metadata only.
    Metadata,
    /// Nothing. The plan assumes that each Secret that the status of a resource names exists as it was written.
    Nothing,
}

/// The resources and Secrets of a cluster.
pub struct ClusterState {
    resources: HashMap<Owner, Resource>,
    secrets: Arc<SecretSnapshot>,
    /// The accounts that the statuses of resources name.
    known: HashMap<Owner, KnownAccount>,
    /// The percentage of accounts that the controller's brake allows to be deleted.
    brake: u8,
    /// Whether the controller's brake holds every further deletion: it holds one already, or the plan exceeds its
    /// limit.
    brake_holds: bool,
}

impl ClusterState {
    /// Reads the resources and Secrets that a plan needs for these manifests and for the accounts to prune.
    pub async fn read(
        Query { client, cluster, secrets: look, brake, deletions }: Query<'_>,
        manifests: &[Manifest],
        prune_set: &PruneSet,
    ) -> Result<Self> {
        let declared: HashMap<&Owner, &Manifest> =
            manifests.iter().map(|manifest| (&manifest.desired.owner, manifest)).collect();
        let owners_to_prune: HashSet<&Owner> = prune_set.owners().collect();
        let owners = declared.keys().chain(&owners_to_prune);
        let namespaces = Namespaces { client, names: owners.map(|owner| owner.namespace.clone()).collect() };
        let (mut resources, mut named_in_statuses, mut brake_holds_already) =
            (HashMap::new(), SecretSnapshot::default(), false);
        let mut known = HashMap::new();
        let take = |resource: ApiAccount| {
            brake_holds_already |= awaits_confirmation(&resource);
            let owner = Owner::of(&resource, cluster);
            let manifest = declared.get(&owner).copied();
            known.extend(known_account(&resource).map(|account| (owner.clone(), account)));
            if manifest.is_some() || owners_to_prune.contains(&owner) {
                if let Some((at, metadata)) = reported_secret(&resource, cluster).filter(|_| look == Depth::Nothing) {
                    named_in_statuses.add(at, metadata);
                }
                resources.insert(owner, Resource::of(&resource, cluster, manifest));
            }
        };
        namespaces.list(None, take).await.map_err(|(place, error)| unlisted("ApiAccounts", &place, &error))?;
        let places = manifests.iter().map(|manifest| &manifest.desired.secret.at);
        let secrets = match look {
            Depth::Contents => list_secrets(&namespaces, places).await?.with_contents(namespaces.client),
            Depth::Metadata => list_secrets(&namespaces, places).await?,
            Depth::Nothing => named_in_statuses,
        };
        let without_resource = prune_set.owners().filter(|owner| !resources.contains_key(owner)).count();
        let is_for_brake = |(owner, resource): &(&Owner, &Resource)| {
            resource.is_for_brake && (resource.being_deleted || owners_to_prune.contains(owner))
        };
        let ends = without_resource + resources.iter().filter(is_for_brake).count();
        let exceeds = |deletions| exceeds_limit(deletions, ends, brake);
        let brake_holds = brake < 100 && (brake_holds_already || deletions.is_some_and(exceeds));
        Ok(Self { resources, secrets: Arc::new(secrets), known, brake, brake_holds })
    }

    /// Returns the Secrets of the cluster as a store that writes nothing.
    pub fn secrets(&self) -> secrets::DryRunSecrets {
        secrets::DryRunSecrets::over_snapshot(Arc::clone(&self.secrets))
    }

    /// Returns the creation guard, with the accounts that the controller knows from statuses.
    pub fn creations(&self, database: Arc<dyn AccountDatabase>) -> StatusGuard {
        StatusGuard::new(self.known.clone(), database)
    }

    /// Plans what the controller does after the manifest is applied. `known` is the account from the bulk read.
    pub async fn reconcile(&self, manifest: &Manifest, known: Option<Account>, reconciler: &Reconciler) -> Outcome {
        let resource = self.resources.get(&manifest.desired.owner);
        if let Some(deleting) = resource.filter(|resource| resource.being_deleted) {
            return self.delete(deleting, reconciler).await;
        }
        let desired = match resource {
            Some(resource) => resource.desired_with(manifest),
            None => Desired { uid: Some(NEW_UID.to_owned()), ..manifest.desired.clone() },
        };
        if let Err(error) = self.assume_secret(&desired, resource, known.as_ref(), reconciler).await {
            return Outcome::blocked(NotReady::Database(error));
        }
        let verified = resource.and_then(|resource| resource.verified.as_ref());
        reconciler.reconcile(&desired, verified, known).await
    }

    /// Plans what the controller does after a resource that no manifest declares is deleted.
    pub async fn prune(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        match self.resources.get(owner) {
            Some(resource) => self.delete(resource, reconciler).await,
            None if self.brake_holds => self.held(),
            None => reconciler.delete_undeclared(owner).await,
        }
    }

    /// Plans what the controller does with a resource that is being deleted.
    async fn delete(&self, resource: &Resource, reconciler: &Reconciler) -> Outcome {
        match &resource.policy {
            Err(invalid) => Outcome::blocked(NotReady::InvalidSpec(invalid.clone())),
            Ok(_) if self.brake_holds && resource.is_for_brake => self.held(),
            Ok(policy) => reconciler.delete(resource.deletion(), *policy).await,
        }
    }

    fn held(&self) -> Outcome {
        Outcome::blocked(NotReady::DeletionHeld { percent: self.brake })
    }

    /// If the contents of the Secret are not read, assumes that it holds the key pair in the status of its resource;
    /// without that, the active key pair of the account.
    async fn assume_secret(
        &self,
        desired: &Desired,
        resource: Option<&Resource>,
        known: Option<&Account>,
        reconciler: &Reconciler,
    ) -> Result<(), DatabaseError> {
        let at = &desired.secret.at;
        if !self.secrets.is_unread(at, &desired.identity()) {
            return Ok(());
        }
        let mut written = resource.and_then(|resource| resource.written.clone());
        if written.is_none() {
            let account = match known {
                Some(account) => Some(account.clone()),
                None => reconciler.database.find_by_owner(&desired.owner).await?,
            };
            let key = account.as_ref().and_then(Account::active_key);
            written = key.map(|key| AssumedKeys::to(&desired.secret, key.id, key.api_key.clone()));
        }
        if let Some(written) = written {
            self.secrets.assume(at, written);
        }
        Ok(())
    }
}

/// Returns the account that the status of the resource names, if the controller would create the account when it is
/// missing.
fn known_account(resource: &ApiAccount) -> Option<KnownAccount> {
    KnownAccount::of(resource, resource.status.as_ref()).filter(|_| is_created_if_missing(resource))
}

/// Lists the metadata of the Secrets with this program's label in these namespaces, and of the Secrets at these places.
async fn list_secrets(namespaces: &Namespaces, places: impl Iterator<Item = &SecretRef>) -> Result<SecretSnapshot> {
    let mut snapshot = SecretSnapshot::default();
    let take = |secret| add(&mut snapshot, secret, |at| namespaces.names.contains(&at.namespace));
    namespaces.list(Some(ACCOUNT_LABEL), take).await.map_err(|(place, error)| unlisted(SECRETS, &place, &error))?;
    let unseen: BTreeSet<&SecretRef> = places.filter(|place| !snapshot.has(place)).collect();
    let client = namespaces.client.clone();
    if unseen.len() > MAX_SINGLE_READS {
        let names = unseen.iter().map(|place| place.namespace.clone()).collect();
        let take = |secret| add(&mut snapshot, secret, |at| unseen.contains(at));
        let listed = Namespaces { client, names }.list(None, take).await;
        listed.map_err(|(place, error)| unlisted(SECRETS, &place, &error))?;
        return Ok(snapshot);
    }
    for place in unseen {
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &place.namespace);
        let found = secrets.get_metadata_opt(&place.name).await;
        let found =
            found.map_err(|error| anyhow!("cannot look at the Secret {place}: {}", in_words(&error, SECRETS)))?;
        if let Some(secret) = found {
            add(&mut snapshot, secret, |_| true);
        }
    }
    Ok(snapshot)
}

fn add(snapshot: &mut SecretSnapshot, secret: PartialObjectMeta<Secret>, is_wanted: impl Fn(&SecretRef) -> bool) {
    let mut metadata = secret.metadata;
    // `managedFields` is about half of the metadata, and a plan does not use it: dropping it saves memory.
    metadata.managed_fields = None;
    if let (Some(namespace), Some(name)) = (metadata.namespace.clone(), metadata.name.clone()) {
        let at = SecretRef { namespace, name };
        if is_wanted(&at) {
            snapshot.add(at, metadata);
        }
    }
}

fn unlisted(kind: &str, place: &str, error: &kube::Error) -> anyhow::Error {
    anyhow!("cannot list the {kind} of {place}: {}", in_words(error, kind))
}

/// Describes the error. When a right is missing, the text names the command that prints the rights, for an
/// administrator of the cluster.
fn in_words(error: &kube::Error, kind: &str) -> String {
    let rights = "`opsadmin render --plan-rights NAMESPACE` prints the rights that a plan needs there";
    if kind == SECRETS {
        with_advice(error, &format!("{rights}, and with --without-secrets it needs none to Secrets"))
    } else {
        with_advice(error, rights)
    }
}
