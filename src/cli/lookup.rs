//! Finding one account by a name, an id, an API key or an `ApiAccount`, and never another account than the one that is meant.

use super::text::display_name;
use crate::account::{
    Account, AccountId, AccountName, ApiKey, ClusterId, HIDDEN_KEY, Life, Owner, SecretKey, comparable_name,
};
use crate::database::{AccountAdmin, DatabaseError, Named};
use crate::manifests::nearest;
use crate::reconcile::{is_dns_label, is_dns_subdomain};
use anyhow::{Error, Result, anyhow};

/// The most accounts that an error lists.
const LISTED: usize = 5;

/// The most accounts whose names are compared with a name that no account has.
const COMPARED: u16 = 10_000;

/// What tells the same `ApiAccount` of several clusters apart, for a command whose --cluster-id narrows the search.
pub const BY_OPTION: &str = "add --cluster-id ID";

/// The same for a command whose --cluster-id means something else.
pub const BY_PATH: &str = "write CLUSTER/NAMESPACE/NAME";

/// An `ApiAccount` in the account database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource<'a> {
    /// The id of its cluster; `None`: any cluster.
    pub cluster: Option<&'a str>,
    /// Its namespace; `None`: any namespace.
    pub namespace: Option<&'a str>,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Resource<'a> {
    /// Reads `NAME`, `NAMESPACE/NAME` or `CLUSTER/NAMESPACE/NAME`; `None` for what no `ApiAccount` can be called.
    fn parse(text: &'a str) -> Option<Self> {
        let (cluster, namespace, name) = match text.split('/').collect::<Vec<_>>()[..] {
            [name] => (None, None, name),
            [namespace, name] => (None, Some(namespace), name),
            [cluster, namespace, name] => (Some(cluster), Some(namespace), name),
            _ => return None,
        };
        let is_valid = is_dns_subdomain(name) && namespace.is_none_or(is_dns_label);
        is_valid.then_some(Self { cluster, namespace, name })
    }

    /// Whether the cluster may be this one.
    fn may_be_of(&self, cluster: &ClusterId) -> bool {
        self.cluster.is_none_or(|wanted| wanted == cluster.as_str())
    }

    /// The accounts that the `ApiAccount` declares, in any cluster that it may be of or in this one.
    ///
    /// A deleted account is among them only if no other one is, and if the namespace is named: a deleted account has no name.
    async fn accounts(
        &self,
        database: &dyn AccountAdmin,
        cluster: Option<&ClusterId>,
    ) -> Result<Vec<Account>, DatabaseError> {
        let mut found = database.find_by_resource(self.namespace, self.name).await?;
        let is_meant = |owner: &Owner| self.may_be_of(&owner.cluster) && cluster.is_none_or(|is| *is == owner.cluster);
        found.retain(|account| account.owner.as_ref().is_some_and(is_meant));
        let (deleted, others): (Vec<_>, Vec<_>) = found.into_iter().partition(is_deleted);
        Ok(if others.is_empty() && self.namespace.is_some() { deleted } else { others })
    }

    /// The name with its namespace, as far as that is known.
    fn path(&self) -> String {
        self.namespace.map_or_else(|| self.name.to_owned(), |namespace| format!("{namespace}/{}", self.name))
    }
}

/// Returns the account that a text names: by its id, its name in OpsAdmin, its API key, or its `ApiAccount` as `NAME`,
/// `NAMESPACE/NAME` or `CLUSTER/NAMESPACE/NAME`.
///
/// An id counts before everything else, and an account's own name before the name of an `ApiAccount`. `cluster` narrows the
/// search for an `ApiAccount`; `apart` is what tells those of several clusters apart.
///
/// # Errors
/// No account is named, or more than one.
pub async fn by_text(
    database: &dyn AccountAdmin,
    text: &str,
    cluster: Option<&ClusterId>,
    apart: &str,
) -> Result<Account> {
    let text = text.trim();
    // An id is one account's for ever, and a name may be made to look like it.
    if let Some(id) = AccountId::parse(text)
        && let Some(account) = database.find_by_id(id).await?
    {
        return Ok(account);
    }
    let (name, resource) = (AccountName::parse(text), Resource::parse(text));
    let mut found = Vec::new();
    if let Ok(name) = &name {
        found.extend(database.find_by_name(name).await?);
    }
    let has_name = !found.is_empty();
    if let Ok(api_key) = ApiKey::stored(text) {
        found.extend(database.find_by_api_key(&api_key).await?);
    }
    // An account's own name must not pass for the ApiAccount of another one, which a slash stands for.
    if let Some(resource) = &resource
        && (!has_name || resource.namespace.is_some())
    {
        found.extend(resource.accounts(database, cluster).await?);
    }
    match (found.as_slice(), name) {
        ([], Err(error)) if resource.is_none() => Err(error.into()),
        ([], _) => Err(absent(database, text).await),
        _ => only(found, text, resource.as_ref(), apart),
    }
}

/// Returns the account of an `ApiAccount`.
///
/// # Errors
/// No cluster has such an account, or more than one.
pub async fn by_resource(database: &dyn AccountAdmin, resource: &Resource<'_>) -> Result<Account> {
    let found = resource.accounts(database, None).await?;
    if found.is_empty() {
        return Err(undeclared(database, resource).await);
    }
    only(found, &resource.path(), Some(resource), BY_OPTION)
}

/// The one account among those that were found, of which some may be the same.
fn only(mut found: Vec<Account>, text: &str, resource: Option<&Resource<'_>>, apart: &str) -> Result<Account> {
    found.sort_by_key(|account| account.id);
    found.dedup_by_key(|account| account.id);
    if let [account] = found.as_slice() {
        return Ok(account.clone());
    }
    let listed = found.iter().take(LISTED).map(in_words).collect::<Vec<_>>().join("; ");
    let more = match found.len().saturating_sub(LISTED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    let (text, number, way_out) = (display_name(text), found.len(), way_out(&found, resource, apart));
    Err(anyhow!("{text} names {number} accounts, and none was chosen: {way_out}; the accounts are: {listed}{more}"))
}

/// What to add or to write so that one of these accounts is named.
fn way_out(found: &[Account], resource: Option<&Resource<'_>>, apart: &str) -> String {
    let owners: Vec<&Owner> = found.iter().filter_map(|account| account.owner.as_ref()).collect();
    let is_named = |owner: &&Owner| {
        resource.is_some_and(|named| named.name == owner.name && named.namespace.is_none_or(|is| is == owner.namespace))
    };
    let are_named = owners.len() == found.len() && owners.iter().all(is_named);
    let is_one_namespace = owners.windows(2).all(|pair| pair[0].namespace == pair[1].namespace);
    match (are_named, is_one_namespace) {
        (false, _) => "give the id".to_owned(),
        (true, true) => format!("{apart}, or give the id"),
        (true, false) => "write NAMESPACE/NAME, or give the id".to_owned(),
    }
}

fn is_deleted(account: &Account) -> bool {
    matches!(account.life, Life::Deleted { .. })
}

/// An account with what tells it from others.
fn in_words(account: &Account) -> String {
    let (name, id) = (display_name(&account.settings.name), account.id);
    let state = if is_deleted(account) { " (deleted)" } else { "" };
    match &account.owner {
        Some(owner) => format!("{name}{state} of the ApiAccount {} with the id {id}", display_name(&owner.to_string())),
        None => format!("{name}{state} with the id {id}"),
    }
}

/// The error for a text that names no account, with what may have been meant.
async fn absent(database: &dyn AccountAdmin, text: &str) -> Error {
    let near = near(database, text).await;
    // The wrong half of a pair of keys is not repeated.
    let text = if text.contains(SecretKey::PREFIX) { HIDDEN_KEY } else { text };
    anyhow!("there is no account {text:?}{near}; `opsadmin get` lists them")
}

/// What may have been meant by a text that names no account, as the end of a sentence. What cannot be read for it is left out.
async fn near(database: &dyn AccountAdmin, text: &str) -> String {
    let mut said = Vec::new();
    if let Ok(name) = AccountName::parse(text) {
        let deleted = database.find_deleted_by_name(&name).await.unwrap_or_default();
        said.extend(deleted.iter().map(|account| format!("a deleted one had the name, and its id is {}", account.id)));
    }
    if said.is_empty()
        && let Some(resource) = Resource::parse(text)
    {
        let elsewhere = database.find_by_resource(resource.namespace, resource.name).await.unwrap_or_default();
        said.extend(elsewhere.iter().map(|account| format!("there is {}", in_words(account))));
    }
    if said.is_empty() {
        let names = database.names(COMPARED).await.unwrap_or_default();
        said.extend(nearest_name(text, &names).map(|name| format!("the nearest name is {}", display_name(&name))));
    }
    said.into_iter().take(LISTED).flat_map(|said| ["; ".to_owned(), said]).collect()
}

/// The error for an `ApiAccount` that has no account, with what may have been meant.
async fn undeclared(database: &dyn AccountAdmin, resource: &Resource<'_>) -> Error {
    let path = resource.path();
    let elsewhere = database.find_by_resource(resource.namespace, resource.name).await.unwrap_or_default();
    let near = if elsewhere.is_empty() {
        let mut names = database.names(COMPARED).await.unwrap_or_default();
        names.retain(|named| named.owner.as_ref().is_some_and(|owner| resource.may_be_of(&owner.cluster)));
        nearest_path(&path, &names).map(|near| format!("; the nearest is {}", display_name(&near)))
    } else {
        let listed = elsewhere.iter().take(LISTED).map(in_words).collect::<Vec<_>>().join("; ");
        Some(format!("; {BY_OPTION} for an account of another cluster: {listed}"))
    };
    let cluster = resource.cluster.map(|cluster| format!(" of the cluster {cluster}")).unwrap_or_default();
    anyhow!(
        "the account database has no account of the ApiAccount {}{cluster}{}; one that was purged is found by its id alone",
        display_name(&path),
        near.unwrap_or_default()
    )
}

/// The name of an account or an `ApiAccount` that differs from a text in a few letters only.
fn nearest_name(text: &str, names: &[Named]) -> Option<String> {
    if text.contains('/') {
        let path = nearest_path(text, names);
        if path.is_some() {
            return path;
        }
    }
    let text = comparable_name(text);
    let resources = names.iter().filter_map(|named| named.owner.as_ref()).map(|owner| &owner.name);
    nearest(&text, names.iter().map(|named| &named.name).chain(resources)).map(ToOwned::to_owned)
}

/// The `NAMESPACE/NAME` of an `ApiAccount` that differs from a text in a few letters only.
fn nearest_path(text: &str, names: &[Named]) -> Option<String> {
    let owners = names.iter().filter_map(|named| named.owner.as_ref());
    let paths: Vec<String> = owners.map(|owner| format!("{}/{}", owner.namespace, owner.name)).collect();
    nearest(text, &paths).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, owner: Option<&str>) -> Named {
        Named { name: name.to_owned(), owner: owner.and_then(Owner::parse) }
    }

    #[test]
    fn a_resource_is_read_with_as_much_of_its_path_as_is_written() {
        for (text, cluster, namespace, name) in [
            ("acme", None, None, "acme"),
            ("default/acme.eu", None, Some("default"), "acme.eu"),
            ("local/default/acme", Some("local"), Some("default"), "acme"),
        ] {
            assert_eq!(Resource::parse(text), Some(Resource { cluster, namespace, name }));
        }
        for text in ["", "/", "Acme", "a b", "default/", "/acme", "de.fault/acme", "default/Acme", "a/b/c/d"] {
            assert_eq!(Resource::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_mistyped_name_is_near_to_an_account_or_to_a_resource() {
        let names = [
            named("Acme customer portal", Some("local/default/acme-portal")),
            named("imported", None),
            named("a/b", Some("local/partners/bright")),
        ];
        for (text, near) in [
            ("acme custmer portal", Some("Acme customer portal")),
            ("acme-protal", Some("acme-portal")),
            ("imporetd", Some("imported")),
            ("defalt/acme-portal", Some("default/acme-portal")),
            ("a/c", Some("a/b")),
            ("nothing of the kind", None),
        ] {
            assert_eq!(nearest_name(text, &names).as_deref(), near, "{text}");
        }
        assert_eq!(nearest_path("partners/brigth", &names).as_deref(), Some("partners/bright"));
        assert_eq!(nearest_path("acme-portal", &names), None);
    }
}
