//! A plan against a cluster: what its ApiAccounts and Secrets add to manifests and database. A few lists show all of it, and
//! nothing is written.

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
    Deletion, DeletionPolicy, Desired, KnownAccount, NotReady, Outcome, Reconciler, awaits_confirmation,
    deletion_limit, is_made_if_missing,
};
use crate::secrets;
use crate::secrets::{AssumedKeys, ResourceIdentity, SecretRef, SecretSnapshot};
use anyhow::{Result, anyhow};
use creation_guard::Statuses;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::{Api, Client};
use lists::Namespaces;
use resource::{Resource, reported_secret};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// How many places are looked at one by one; for more, all Secrets of their namespaces are listed.
const FEW: usize = 20;
/// What a plan may also leave alone.
const SECRETS: &str = "Secrets";
/// The UID of a resource that is yet to be made: no other has it.
const NEW_UID: &str = "new";

/// What is asked of a cluster.
pub struct Query<'a> {
    /// Reaches it.
    pub client: Client,
    /// Its id in the account database.
    pub cluster: &'a ClusterId,
    /// How closely its Secrets are looked at.
    pub secrets: Depth,
    /// The percentage of accounts that the controller's brake lets go.
    pub brake: u8,
    /// How many accounts there are and how many were deleted there of late; `None`: nothing is to be pruned.
    pub deletions: Option<Deletions>,
}

/// How closely Secrets are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Those that are not known to be right are read.
    Contents,
    /// Their metadata alone.
    Metadata,
    /// Not at all: those that the status of a resource speaks of are taken to be there as they were written.
    Nothing,
}

/// What is there on a cluster.
pub struct ClusterState {
    resources: HashMap<Owner, Resource>,
    secrets: Arc<SecretSnapshot>,
    /// The accounts that statuses name.
    known: HashMap<Owner, KnownAccount>,
    /// The percentage of accounts that the controller's brake lets go.
    brake: u8,
    /// The brake holds a deletion, or more are to come than it lets go: any further one is held.
    brake_holds: bool,
}

impl ClusterState {
    /// Reads what a plan of these manifests, and of the end of what none of them declares, has to know.
    pub async fn read(
        Query { client, cluster, secrets: look, brake, deletions }: Query<'_>,
        manifests: &[Manifest],
        prune_set: &PruneSet,
    ) -> Result<Self> {
        let declared: HashMap<&Owner, &Manifest> =
            manifests.iter().map(|manifest| (&manifest.desired.owner, manifest)).collect();
        let pruned: HashSet<&Owner> = prune_set.owners().collect();
        let owners = declared.keys().chain(&pruned);
        let namespaces = Namespaces { client, names: owners.map(|owner| owner.namespace.clone()).collect() };
        let (mut resources, mut told, mut holds_already) = (HashMap::new(), SecretSnapshot::default(), false);
        let mut known = HashMap::new();
        let take = |resource: ApiAccount| {
            holds_already |= awaits_confirmation(&resource);
            let owner = Owner::of(&resource, cluster);
            let manifest = declared.get(&owner).copied();
            known.extend(named(&resource).map(|account| (owner.clone(), account)));
            if manifest.is_some() || pruned.contains(&owner) {
                if let Some((at, metadata)) = reported_secret(&resource, cluster).filter(|_| look == Depth::Nothing) {
                    told.add(at, metadata);
                }
                resources.insert(owner, Resource::of(&resource, cluster, manifest));
            }
        };
        namespaces.list(None, take).await.map_err(|(place, error)| unlisted("ApiAccounts", &place, &error))?;
        let places = manifests.iter().map(|manifest| &manifest.desired.secret.at);
        let secrets = match look {
            Depth::Contents => list_secrets(&namespaces, places).await?.with_contents(namespaces.client),
            Depth::Metadata => list_secrets(&namespaces, places).await?,
            Depth::Nothing => told,
        };
        let without_resource = prune_set.owners().filter(|owner| !resources.contains_key(owner)).count();
        let is_for_brake = |(owner, resource): &(&Owner, &Resource)| {
            resource.is_for_brake && (resource.being_deleted || pruned.contains(owner))
        };
        let ends = without_resource + resources.iter().filter(is_for_brake).count();
        let exceeds = |lately: Deletions| {
            let limit = deletion_limit(lately.live + lately.deleted, brake);
            limit.is_some_and(|limit| lately.deleted + ends > limit)
        };
        let brake_holds = brake < 100 && (holds_already || deletions.is_some_and(exceeds));
        Ok(Self { resources, secrets: Arc::new(secrets), known, brake, brake_holds })
    }

    /// Its Secrets, of which none is written.
    pub fn secrets(&self) -> secrets::DryRunSecrets {
        secrets::DryRunSecrets::over_snapshot(Arc::clone(&self.secrets))
    }

    /// What the controller knows of accounts that this database may lack.
    pub fn creations(&self, database: Arc<dyn AccountDatabase>) -> Statuses {
        Statuses::new(self.known.clone(), database)
    }

    /// What the controller does once the manifest is applied. `known` is the account as a bulk read found it.
    pub async fn reconcile(&self, manifest: &Manifest, known: Option<Account>, reconciler: &Reconciler) -> Outcome {
        let resource = self.resources.get(&manifest.desired.owner);
        if let Some(deleting) = resource.filter(|resource| resource.being_deleted) {
            return self.delete(deleting, reconciler).await;
        }
        let desired = match resource {
            Some(resource) => resource.with(manifest),
            None => Desired { uid: Some(NEW_UID.to_owned()), ..manifest.desired.clone() },
        };
        if let Err(error) = self.assume_unread_secret(&desired, resource, known.as_ref(), reconciler).await {
            return Outcome::blocked(NotReady::Database(error));
        }
        let verified = resource.and_then(|resource| resource.verified.as_ref());
        reconciler.reconcile(&desired, verified, known).await
    }

    /// What the controller does once a resource is deleted that no manifest declares any more.
    pub async fn prune(&self, owner: &Owner, reconciler: &Reconciler) -> Outcome {
        match self.resources.get(owner) {
            Some(resource) => self.delete(resource, reconciler).await,
            None if self.brake_holds => self.held(),
            None => {
                let identity = ResourceIdentity { owner: owner.clone(), uid: None };
                reconciler.delete(Deletion::of(&identity), DeletionPolicy::Delete).await
            }
        }
    }

    /// What the controller does about a resource that is deleted.
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

    /// A Secret that is not read is taken to hold what it was written with: the pair that the status of its resource tells,
    /// or without one, the pair that the account has.
    async fn assume_unread_secret(
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

/// The account that a resource had, if a missing one would be made anew for it.
fn named(resource: &ApiAccount) -> Option<KnownAccount> {
    KnownAccount::of(resource, resource.status.as_ref()).filter(|_| is_made_if_missing(resource))
}

/// The Secrets of these namespaces by metadata: those with this program's label, and whatever else is at these places.
async fn list_secrets(namespaces: &Namespaces, places: impl Iterator<Item = &SecretRef>) -> Result<SecretSnapshot> {
    let mut snapshot = SecretSnapshot::default();
    let take = |secret| add(&mut snapshot, secret, |at| namespaces.names.contains(&at.namespace));
    namespaces.list(Some(ACCOUNT_LABEL), take).await.map_err(|(place, error)| unlisted(SECRETS, &place, &error))?;
    let unseen: BTreeSet<&SecretRef> = places.filter(|place| !snapshot.has(place)).collect();
    let client = namespaces.client.clone();
    if unseen.len() > FEW {
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
    // Half of all there is of it, and of no use here.
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

/// Without the right to look, what to do is for whoever set up the cluster.
fn in_words(error: &kube::Error, kind: &str) -> String {
    let rights = "`opsadmin render --plan-rights NAMESPACE` prints the rights that a plan needs there";
    if kind == SECRETS {
        with_advice(error, &format!("{rights}, and with --without-secrets it needs none to Secrets"))
    } else {
        with_advice(error, rights)
    }
}
