//! `opsadmin release`: lists and confirms held deletions and held creations of accounts.

use super::cluster::KubeArgs;
use super::confirm::ConfirmArgs;
use super::manifests::count_accounts;
use super::output::{Format, FormatArgs, Output};
use super::text::display_name;
use crate::api::{ApiAccount, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, Lenient};
use crate::kube_error::with_advice;
use crate::manifests::nearest;
use crate::reconcile;
use crate::reconcile::parse_namespace;
use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// The field manager that sets the annotations. It differs from the field manager of the controller.
const FIELD_MANAGER: &str = "opsadmin-release";

/// Confirm what is held: deletions that were too many at once, and the creation of accounts that the database lacks.
///
/// Lists the ApiAccounts that are held. With names or --all, it confirms these ApiAccounts: an account that is being
/// deleted stops authenticating, and a missing account is created again in the database of the controller. --only
/// limits the command to one of the two. Without a name or --all, it only lists. It sets the annotations
/// ops-admin.com/confirm-deletion and ops-admin.com/confirm-creation with the rights of the kubeconfig.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin release -n partners\n  opsadmin release -n partners acme-portal bright\n  opsadmin release -A --all --only deletions --yes"
)]
pub struct Release {
    /// The ApiAccounts to confirm, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Confirm all ApiAccounts that are held.
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Only ApiAccounts that are held for this reason.
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,

    /// The namespace of the ApiAccounts. Default: the namespace of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = parse_namespace)]
    namespace: Option<String>,

    /// All namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "names"])]
    all_namespaces: bool,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    kube: KubeArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// What is held for an ApiAccount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// Deletions, because there were too many at once.
    Deletions,
    /// The creation of accounts that the database lacks.
    Creations,
}

/// An ApiAccount that is held.
#[derive(Debug, Serialize)]
struct Held {
    namespace: String,
    name: String,
    kind: Kind,
    /// The time of the deletion request, or the time since which the account is missing.
    since: Option<Timestamp>,
    released: bool,
    /// The name and the value of the annotation that confirms it.
    #[serde(skip)]
    annotation: (&'static str, String),
    #[serde(skip)]
    uid: Option<String>,
}

impl Release {
    /// Lists the ApiAccounts that are held, and confirms the chosen ones.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let client = self.kube.client()?;
        let mut held = self.held(&client).await?;
        let chosen = self.chosen(&held)?;
        if self.format.format == Format::Text || !chosen.is_empty() {
            self.list(&held, output)?;
        }
        if !chosen.is_empty() {
            self.confirm.ask(&consequences(chosen.iter().map(|place| held[*place].kind)))?;
        }
        for place in chosen {
            confirm(&client, &held[place]).await?;
            held[place].released = true;
            if self.format.format == Format::Text {
                output.line(&format!("released {}", held[place].in_words()))?;
            }
        }
        output.value(self.format.format, &json!({ "held": held }))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn held(&self, client: &Client) -> Result<Vec<Held>> {
        let accounts: Api<Lenient<ApiAccount>> = match &self.namespace {
            _ if self.all_namespaces => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::default_namespaced(client.clone()),
        };
        let listed = accounts.list(&ListParams::default()).await;
        let rights = "this needs the right to list them";
        let accounts =
            listed.map_err(|error| anyhow!("cannot list the ApiAccounts: {}", with_advice(&error, rights)))?;
        let is_asked_for = |held: &Held| self.only.is_none_or(|only| only == held.kind);
        let mut held: Vec<Held> =
            accounts.iter().filter_map(|Lenient(account)| Held::of(account)).filter(is_asked_for).collect();
        held.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(held)
    }

    /// Returns the indexes of the chosen ApiAccounts in `held`.
    fn chosen(&self, held: &[Held]) -> Result<Vec<usize>> {
        if self.all {
            return Ok((0..held.len()).collect());
        }
        let place = |name: &String| match held.iter().position(|held| held.is_called(name)) {
            Some(place) => Ok(place),
            None => bail!("{} is not held{}; nothing was released", display_name(name), near(name, held)),
        };
        let mut places = self.names.iter().map(place).collect::<Result<Vec<usize>>>()?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Describes the namespace that was read, and how to read all namespaces. Empty with `-A`.
    fn place(&self) -> String {
        match &self.namespace {
            _ if self.all_namespaces => String::new(),
            Some(namespace) => format!(" in the namespace {}; -A looks in all", display_name(namespace)),
            None => " in the namespace of the kubeconfig's context; -A looks in all".to_owned(),
        }
    }

    /// Prints the list: to standard output as text, and to standard error if the result is JSON or YAML.
    fn list(&self, held: &[Held], output: &mut Output) -> Result<()> {
        let heading = match held.len() {
            0 => format!("nothing is held{}", self.place()),
            some => format!("{} held:", count_accounts(some)),
        };
        output.note(heading);
        let rows = held.iter().map(|held| {
            let since = held.since.map_or_else(|| "-".to_owned(), |since| format!("{since:.0}"));
            [display_name(&held.namespace), display_name(&held.name), held.kind.in_words().to_owned(), since]
        });
        let rows: Vec<_> =
            std::iter::once(["NAMESPACE", "NAME", "HELD", "SINCE"].map(str::to_owned)).chain(rows).collect();
        match self.format.format {
            _ if held.is_empty() => Ok(()),
            Format::Text => output.table(&rows),
            _ => {
                for row in &rows {
                    output.note(row.join("   "));
                }
                Ok(())
            }
        }
    }
}

impl Kind {
    fn in_words(self) -> &'static str {
        match self {
            Self::Deletions => "deletion",
            Self::Creations => "creation",
        }
    }
}

/// Describes what the confirmation does, as a sentence without a full stop.
fn consequences(kinds: impl Iterator<Item = Kind>) -> String {
    let (deletions, creations): (Vec<Kind>, Vec<Kind>) = kinds.partition(|kind| *kind == Kind::Deletions);
    let deletions = match deletions.len() {
        0 => None,
        1 => Some("1 deletion goes on, and the account stops authenticating".to_owned()),
        some => Some(format!("{some} deletions go on, and the accounts stop authenticating")),
    };
    let creations = match creations.len() {
        0 => None,
        1 => Some("1 account is created again in the database that the controller uses now".to_owned()),
        some => Some(format!("{some} accounts are created again in the database that the controller uses now")),
    };
    [deletions, creations].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What may have been meant by a name that is not held, as the end of a sentence.
fn near(name: &str, held: &[Held]) -> String {
    let names: Vec<String> = match name.split_once('/') {
        Some(_) => held.iter().map(Held::path).collect(),
        None => held.iter().map(|held| held.name.clone()).collect(),
    };
    nearest(name, &names).map(|near| format!(", and {} is", display_name(near))).unwrap_or_default()
}

impl Held {
    /// Returns what is held for the ApiAccount. `None`: nothing is held.
    fn of(account: &ApiAccount) -> Option<Self> {
        let status = account.status.as_ref();
        let (kind, since, annotation) = match &account.metadata.deletion_timestamp {
            Some(since) if reconcile::is_held(status) => {
                (Kind::Deletions, Some(since.0), (CONFIRM_DELETION_ANNOTATION, "true".to_owned()))
            }
            None if reconcile::is_creation_held(status) => {
                let ready = status?.ready();
                let since = ready.map(|ready| ready.last_transition_time.0);
                (Kind::Creations, since, (CONFIRM_CREATION_ANNOTATION, status?.account_id.clone()?))
            }
            _ => return None,
        };
        Some(Self {
            namespace: account.namespace().unwrap_or_default(),
            name: account.name_any(),
            kind,
            since,
            released: false,
            annotation,
            uid: account.metadata.uid.clone(),
        })
    }

    /// Whether this is its name, or its namespace and its name.
    fn is_called(&self, text: &str) -> bool {
        self.name == text || self.path() == text
    }

    fn path(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    fn in_words(&self) -> String {
        display_name(&self.path())
    }
}

/// Sets the annotation that confirms the ApiAccount. The patch contains the UID, so that the API server refuses it if
/// the resource was deleted and created again meanwhile.
async fn confirm(client: &Client, held: &Held) -> Result<()> {
    let accounts: Api<ApiAccount> = Api::namespaced(client.clone(), &held.namespace);
    let (annotation, value) = &held.annotation;
    let annotations = json!({ *annotation: value });
    let patch = json!({ "metadata": { "uid": held.uid, "annotations": annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = accounts.patch_metadata(&held.name, &params, &Patch::Merge(patch)).await;
    let rights = "this needs the right to patch it";
    patched
        .map(|_| ())
        .map_err(|error| anyhow!("cannot annotate the ApiAccount {}: {}", held.in_words(), with_advice(&error, rights)))
}
