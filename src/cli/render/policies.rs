//! The optional cluster-wide objects of `opsadmin render`: who may grant what, rights for the cluster's own roles, and
//! the finalizer at creation.

use super::without_heading;
use crate::yaml::quoted;
use clap::{Args, ValueEnum};

const GRANTS: &str = include_str!("../../../deploy/grants.yaml");
const AGGREGATED_ROLES: &str = include_str!("../../../deploy/aggregated-roles.yaml");
const FINALIZER: &str = include_str!("../../../deploy/finalizer-policy.yaml");

// The text in `GRANTS` that is replaced, and the text for `Grants::Warn`.
const DENY: &str = "validationActions: [Deny]\n";
const WARN: &str = "validationActions: [Warn, Audit]\n";

/// What happens to an ApiAccount whose author has no right to grant what it adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Grants {
    /// The API server accepts it, answers with a warning, and adds an annotation to its audit log.
    Warn,
    /// The API server refuses it.
    Deny,
}

/// The options for these objects.
#[derive(Debug, Args)]
pub struct Policies {
    /// Also print the policy that asks whether the author of an ApiAccount may grant its roles and its affiliate, for
    /// the namespaces of --watch.
    #[arg(long, value_name = "MODE", conflicts_with = "planned")]
    grants: Option<Grants>,

    /// Also print rights to ApiAccounts for the cluster's own roles `view`, `edit` and `admin`.
    #[arg(long, conflicts_with = "planned")]
    aggregated_roles: bool,

    /// Also print the policy that puts the finalizer on an ApiAccount at its creation, which saves a write. Needs
    /// Kubernetes 1.36 or newer.
    #[arg(long, conflicts_with = "planned")]
    finalizer_policy: bool,
}

impl Policies {
    /// Returns the files of the chosen objects, with policies for these namespaces only; for all if there are none.
    /// `place` inserts the controller's namespace.
    pub fn texts(&self, watched: &[String], place: impl Fn(&str) -> String) -> Vec<String> {
        let in_watched = |file: &str| in_namespaces(place(&without_heading(file)), watched);
        let grants = self.grants.map(|mode| {
            let text = in_watched(GRANTS);
            if mode == Grants::Warn { text.replace(DENY, WARN) } else { text }
        });
        let roles = self.aggregated_roles.then(|| without_heading(AGGREGATED_ROLES));
        let finalizer = self.finalizer_policy.then(|| in_watched(FINALIZER));
        [grants, roles, finalizer].into_iter().flatten().collect()
    }
}

/// Adds a selector of the namespaces to a text that ends with the `spec` of a binding.
fn in_namespaces(mut text: String, watched: &[String]) -> String {
    if !watched.is_empty() {
        text.push_str(
            "  matchResources:\n    namespaceSelector:\n      matchExpressions:\n      - key: kubernetes.io/metadata.name\n        operator: In\n        values:\n",
        );
        for namespace in watched {
            text.extend(["        - ", &quoted(namespace), "\n"]);
        }
    }
    text
}
