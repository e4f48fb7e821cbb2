//! Ownership: the cluster and the resource that declare an account, and who may adopt an account.

use super::text::{InvalidText, check_line};
use std::fmt;
use thiserror::Error;

/// A cluster's identity in the account database: by default the UID of its `kube-system` namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId(String);

/// Why a text cannot be a cluster id.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidClusterId {
    /// The text is not a valid single-line name.
    #[error("a cluster id {0}")]
    Text(InvalidText),
    /// The text has a slash, which would make `CLUSTER/NAMESPACE/NAME` ambiguous.
    #[error("a cluster id must not contain a slash")]
    Slash,
}

impl ClusterId {
    /// The most characters (Unicode code points) in an id.
    pub const MAX_CHARS: usize = 100;

    /// Takes the text as an id, unchanged.
    ///
    /// # Errors
    /// The text is blank, too long, has outer white space, control characters or a slash.
    pub fn parse(text: &str) -> Result<Self, InvalidClusterId> {
        check_line(text, Self::MAX_CHARS).map_err(InvalidClusterId::Text)?;
        if text.contains('/') {
            return Err(InvalidClusterId::Slash);
        }
        Ok(Self(text.to_owned()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The resource that declares an account. The database holds at most one account for each owner.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// The resource's cluster.
    pub cluster: ClusterId,
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name.
    pub name: String,
}

impl Owner {
    /// Reads the form that [`Display`](fmt::Display) writes; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let [cluster, namespace, name] = text.split('/').collect::<Vec<_>>()[..] else {
            return None;
        };
        let cluster = ClusterId::parse(cluster).ok()?;
        Some(Self { cluster, namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

/// Who may adopt an account that no resource declares: one resource, or any resource of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Adopter {
    /// The resource's cluster.
    pub cluster: ClusterId,
    /// The resource's namespace.
    pub namespace: String,
    /// The resource's name; `None`: any resource of the namespace.
    pub name: Option<String>,
}

impl Adopter {
    /// Reads the form that [`Display`](fmt::Display) writes; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let (cluster, namespace, name) = match text.split('/').collect::<Vec<_>>()[..] {
            [cluster, namespace] => (cluster, namespace, None),
            [cluster, namespace, name] if !name.is_empty() => (cluster, namespace, Some(name.to_owned())),
            _ => return None,
        };
        let cluster = ClusterId::parse(cluster).ok()?;
        (!namespace.is_empty()).then(|| Self { cluster, namespace: namespace.to_owned(), name })
    }

    /// Returns whether the adopter includes this resource.
    pub fn includes(&self, owner: &Owner) -> bool {
        self.cluster == owner.cluster
            && self.namespace == owner.namespace
            && self.name.as_ref().is_none_or(|name| *name == owner.name)
    }
}

impl fmt::Display for Adopter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.namespace)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}
