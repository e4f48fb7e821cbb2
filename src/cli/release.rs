//! `opsadmin release`: confirming deletions that the brake holds.

use super::cluster::{KubeArgs, in_words};
use super::confirm::ConfirmArgs;
use super::manifests::{count, namespace};
use super::output::{Format, FormatArgs, Output};
use super::text::plain;
use crate::api::{ApiAccount, CONFIRM_DELETION_ANNOTATION, Shown};
use crate::reconcile;
use anyhow::{Result, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// Who sets the annotation, beside the controller.
const FIELD_MANAGER: &str = "opsadmin-release";

/// Confirm deletions that are held because there were too many at once.
///
/// Lists the ApiAccounts whose deletion is held by the brake; those that are named, or --all of them, are let go once that is
/// confirmed: their accounts stop authenticating. Without either it only lists them. It sets the annotation ops-admin.com/confirm-deletion=true with the rights of the kubeconfig.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin release -n partners\n  opsadmin release -n partners acme-portal bright\n  opsadmin release -A --all --yes"
)]
pub struct Release {
    /// The ApiAccounts to let go.
    #[arg(value_name = "NAME")]
    names: Vec<String>,

    /// Let all of them go that are held.
    #[arg(long, conflicts_with = "names")]
    all: bool,

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

/// A resource that the brake holds.
#[derive(Debug, Serialize)]
struct Held {
    namespace: String,
    name: String,
    /// Since when its deletion is asked for.
    since: Option<Timestamp>,
    released: bool,
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
            let these =
                if chosen.len() == 1 { "1 deletion goes".to_owned() } else { format!("{} deletions go", chosen.len()) };
            self.confirm.ask(&format!("{these} on, and the accounts stop authenticating"))?;
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
        let mut held: Vec<Held> =
            accounts.iter().map(|Shown(account)| account).filter(|account| is_held(account)).map(Held::of).collect();
        held.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        Ok(held)
    }

    /// The places of those to let go.
    fn chosen(&self, held: &[Held]) -> Result<Vec<usize>> {
        if self.all {
            return Ok((0..held.len()).collect());
        }
        let place = |name: &String| match held.iter().position(|held| held.name == *name) {
            Some(place) => Ok(place),
            None => bail!("no deletion of {} is held; nothing was released", plain(name)),
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
            0 => format!("no deletion is held{}", self.place()),
            some => format!("{} held by the brake:", count(some)),
        };
        output.complain(heading);
        let rows = held.iter().map(|held| {
            let since = held.since.map_or_else(|| "-".to_owned(), |since| format!("{since:.0}"));
            [plain(&held.namespace), plain(&held.name), since]
        });
        let rows: Vec<_> = std::iter::once(["NAMESPACE", "NAME", "DELETED"].map(str::to_owned)).chain(rows).collect();
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

impl Held {
    fn of(account: &ApiAccount) -> Self {
        Self {
            namespace: account.namespace().unwrap_or_default(),
            name: account.name_any(),
            since: account.metadata.deletion_timestamp.as_ref().map(|time| time.0),
            released: false,
            uid: account.metadata.uid.clone(),
        }
    }

    fn in_words(&self) -> String {
        plain(&format!("{}/{}", self.namespace, self.name))
    }
}

fn is_held(account: &ApiAccount) -> bool {
    account.metadata.deletion_timestamp.is_some() && reconcile::is_held(account.status.as_ref())
}

/// The uid goes along, so that a resource that was made anew meanwhile is left alone.
async fn let_go(client: &Client, held: &Held) -> Result<()> {
    let accounts: Api<ApiAccount> = Api::namespaced(client.clone(), &held.namespace);
    let annotations = json!({ CONFIRM_DELETION_ANNOTATION: "true" });
    let patch = json!({ "metadata": { "uid": held.uid, "annotations": annotations } });
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    let patched = accounts.patch_metadata(&held.name, &params, &Patch::Merge(patch)).await;
    let rights = "it takes the right to patch it";
    patched
        .map(|_| ())
        .map_err(|error| anyhow!("cannot annotate the ApiAccount {}: {}", held.in_words(), in_words(&error, rights)))
}
