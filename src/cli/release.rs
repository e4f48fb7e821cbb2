//! `opsadmin release`: confirming what is held until a person does: deletions, and accounts that would be made anew.

use super::cluster::{KubeArgs, in_words};
use super::confirm::ConfirmArgs;
use super::manifests::{count, namespace};
use super::output::{Format, FormatArgs, Output};
use super::text::plain;
use crate::api::{ApiAccount, CONFIRM_CREATION_ANNOTATION, CONFIRM_DELETION_ANNOTATION, Shown, condition};
use crate::manifests::nearest;
use crate::reconcile;
use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// Who sets the annotation, beside the controller.
const FIELD_MANAGER: &str = "opsadmin-release";

/// Confirm what is held: deletions that were too many at once, and accounts that the database lacks.
///
/// Lists the ApiAccounts that are held. Those that are named, or --all of them, go on once that is confirmed: what is being
/// deleted stops authenticating, and what is missing is made anew in the database that the controller has. --only narrows it
/// to one of the two. Without a name or --all it only lists them. It sets the annotations ops-admin.com/confirm-deletion and
/// ops-admin.com/confirm-creation with the rights of the kubeconfig.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin release -n partners\n  opsadmin release -n partners acme-portal bright\n  opsadmin release -A --all --only deletions --yes"
)]
pub struct Release {
    /// The ApiAccounts to let go, as NAME or NAMESPACE/NAME.
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Let all of them go that are held.
    #[arg(long, conflicts_with = "names")]
    all: bool,

    /// Only what is held for this reason.
    #[arg(long, value_name = "KIND")]
    only: Option<Kind>,

    /// Their namespace. Default: the one of the kubeconfig's context.
    #[arg(short, long, value_name = "NAMESPACE", value_parser = namespace)]
    namespace: Option<String>,

    /// In all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["namespace", "names"])]
    all_namespaces: bool,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    kube: KubeArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// What is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
enum Kind {
    /// Deletions, of which there were too many at once.
    Deletions,
    /// Accounts that the database lacks, and that would be made anew.
    Creations,
}

/// A resource that is held.
#[derive(Debug, Serialize)]
struct Held {
    namespace: String,
    name: String,
    kind: Kind,
    /// Since when its deletion is asked for, or its account is missing.
    since: Option<Timestamp>,
    released: bool,
    /// The annotation that confirms it, and its value.
    #[serde(skip)]
    annotation: (&'static str, String),
    #[serde(skip)]
    uid: Option<String>,
}

impl Release {
    /// Lists them, and lets those go that were asked for.
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
            let_go(&client, &held[place]).await?;
            held[place].released = true;
            if self.format.format == Format::Text {
                output.line(&format!("released {}", held[place].in_words()))?;
            }
        }
        output.value(self.format.format, &json!({ "held": held }))?;
        Ok(ExitCode::SUCCESS)
    }

    async fn held(&self, client: &Client) -> Result<Vec<Held>> {
        let accounts: Api<Shown<ApiAccount>> = match &self.namespace {
            _ if self.all_namespaces => Api::all(client.clone()),
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::default_namespaced(client.clone()),
        };
        let listed = accounts.list(&ListParams::default()).await;
        let rights = "it takes the right to list them";
        let accounts = listed.map_err(|error| anyhow!("cannot list the ApiAccounts: {}", in_words(&error, rights)))?;
        let is_asked_for = |held: &Held| self.only.is_none_or(|only| only == held.kind);
        let mut held: Vec<Held> =
            accounts.iter().filter_map(|Shown(account)| Held::of(account)).filter(is_asked_for).collect();
        held.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(held)
    }

    /// The places of those to let go.
    fn chosen(&self, held: &[Held]) -> Result<Vec<usize>> {
        if self.all {
            return Ok((0..held.len()).collect());
        }
        let place = |name: &String| match held.iter().position(|held| held.is_called(name)) {
            Some(place) => Ok(place),
            None => bail!("{} is not held{}; nothing was released", plain(name), near(name, held)),
        };
        let mut places = self.names.iter().map(place).collect::<Result<Vec<usize>>>()?;
        places.sort_unstable();
        places.dedup();
        Ok(places)
    }

    /// Where it was looked, if there is more to see elsewhere.
    fn place(&self) -> String {
        match &self.namespace {
            _ if self.all_namespaces => String::new(),
            Some(namespace) => format!(" in the namespace {}; -A looks in all", plain(namespace)),
            None => " in the namespace of the kubeconfig's context; -A looks in all".to_owned(),
        }
    }

    /// On standard error if the result is for a program.
    fn list(&self, held: &[Held], output: &mut Output) -> Result<()> {
        let heading = match held.len() {
            0 => format!("nothing is held{}", self.place()),
            some => format!("{} held:", count(some)),
        };
        output.complain(heading);
        let rows = held.iter().map(|held| {
            let since = held.since.map_or_else(|| "-".to_owned(), |since| format!("{since:.0}"));
            [plain(&held.namespace), plain(&held.name), held.kind.in_words().to_owned(), since]
        });
        let rows: Vec<_> =
            std::iter::once(["NAMESPACE", "NAME", "HELD", "SINCE"].map(str::to_owned)).chain(rows).collect();
        match self.format.format {
            _ if held.is_empty() => Ok(()),
            Format::Text => output.table(&rows),
            _ => {
                for row in &rows {
                    output.complain(row.join("   "));
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

/// What becomes of those that are released, as a sentence without its end.
fn consequences(kinds: impl Iterator<Item = Kind>) -> String {
    let (deletions, creations): (Vec<Kind>, Vec<Kind>) = kinds.partition(|kind| *kind == Kind::Deletions);
    let deletions = match deletions.len() {
        0 => None,
        1 => Some("1 deletion goes on, and the account stops authenticating".to_owned()),
        some => Some(format!("{some} deletions go on, and the accounts stop authenticating")),
    };
    let creations = match creations.len() {
        0 => None,
        1 => Some("1 account is made anew in the database that the controller has now".to_owned()),
        some => Some(format!("{some} accounts are made anew in the database that the controller has now")),
    };
    [deletions, creations].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// What may have been meant by a name that is not held, as the end of a sentence.
fn near(name: &str, held: &[Held]) -> String {
    let names: Vec<String> = match name.split_once('/') {
        Some(_) => held.iter().map(Held::path).collect(),
        None => held.iter().map(|held| held.name.clone()).collect(),
    };
    nearest(name, &names).map(|near| format!(", and {} is", plain(near))).unwrap_or_default()
}

impl Held {
    /// `None`: it is not held.
    fn of(account: &ApiAccount) -> Option<Self> {
        let status = account.status.as_ref();
        let (kind, since, annotation) = match &account.metadata.deletion_timestamp {
            Some(since) if reconcile::is_held(status) => {
                (Kind::Deletions, Some(since.0), (CONFIRM_DELETION_ANNOTATION, "true".to_owned()))
            }
            None if reconcile::is_creation_held(status) => {
                let ready = status?.conditions.iter().find(|found| found.type_ == condition::READY);
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
        plain(&self.path())
    }
}

/// The uid goes along, so that a resource that was made anew meanwhile is left alone.
async fn let_go(client: &Client, held: &Held) -> Result<()> {
    let accounts: Api<ApiAccount> = Api::namespaced(client.clone(), &held.namespace);
    let (annotation, value) = &held.annotation;
    let annotations = json!({ *annotation: value });
    let patch = json!({ "metadata": { "uid": held.uid, "annotations": annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = accounts.patch_metadata(&held.name, &params, &Patch::Merge(patch)).await;
    let rights = "it takes the right to patch it";
    patched
        .map(|_| ())
        .map_err(|error| anyhow!("cannot annotate the ApiAccount {}: {}", held.in_words(), in_words(&error, rights)))
}
