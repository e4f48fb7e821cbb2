//! `opsadmin rotate`: gives an account a new key pair now.

use super::LOCAL_CLUSTER;
use super::account::{AccountArgs, OnCluster};
use super::actor::ActorArgs;
use super::change_account::change_account;
use super::confirm::ConfirmArgs;
use super::database::{DatabaseArgs, KeyringArgs};
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::revocation::RevocationArgs;
use super::text::display_name;
use super::uses::read_uses;
use super::view::AccountView;
use crate::account::{Account, Life, Owner, Period, RotationEffect, rotation_effect};
use crate::api::{ApiAccount, Choice, DEFAULT_OVERLAP, ManagementPolicy, Reason, default_secret_name};
use crate::database::{AccountAdmin, Action, Keyring};
use crate::reconcile::{Environment, is_paused, new_key};
use anyhow::{Context, Result, bail};
use clap::Args;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use std::process::ExitCode;

/// Give an account new keys, now.
///
/// The old key pair works for the overlap, so that its user can change over. With --overlap 0s, for a leak, every older
/// key pair stops working at once. The keys are created in the account database. The controller, or the next `apply`,
/// writes them into the Secret of the account, and the output names which of the two. The command does not change the
/// rotation that the resource itself declares.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin rotate acme\n  opsadmin rotate -n partners acme-portal --overlap 1h\n  opsadmin rotate acme --overlap 0s --yes"
)]
pub struct Rotate {
    #[command(flatten)]
    account: AccountArgs,

    /// How long the old key pair continues to work, such as 24h, 1h30m or 0s.
    #[arg(long, value_name = "TIME", default_value = DEFAULT_OVERLAP, value_parser = Period::parse)]
    overlap: Period,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    revocation: RevocationArgs,

    #[command(flatten)]
    actor: ActorArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// What was done to the key pairs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Rotated {
    /// The id of the new key pair.
    pair: String,
    /// The time until which the old key pair works. `None`: it was revoked.
    old_expires: Option<Timestamp>,
    /// The ids of the revoked key pairs.
    revoked: Vec<String>,
}

/// The Secret that must still be written.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    cluster: String,
    namespace: String,
    /// The name of the ApiAccount.
    resource: String,
    /// The name of the Secret. `None`: the resource was not read.
    secret: Option<String>,
    /// Why the Secret is not written for now.
    held: Option<String>,
}

impl Rotate {
    /// Rotates the keys, and prints which program writes the Secret.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let actor = self.actor.in_journal()?;
        // The resource is read first: if that fails, the keys are not rotated.
        let resource = self.account.resource().await?;
        let database = self.database.open_existing().await?;
        let rotated = self.rotate(database.as_ref(), &actor, &resource).await;
        let uses = match &rotated {
            Ok((account, _)) => read_uses(database.as_ref(), Some(account.id), output).await,
            Err(_) => None,
        };
        database.close().await;
        let (account, rotated) = rotated?;
        if !rotated.revoked.is_empty() {
            self.revocation.in_force().await;
        }
        let waiting = Waiting::of(&account, &resource);
        let printed = match self.format.format {
            Format::Text => print(&account, &rotated, waiting.as_ref(), output),
            format => {
                let account = AccountView::of(&account, SystemEnvironment.now()).with_uses(uses.as_deref());
                output.value(format, &json!({ "account": account, "rotated": rotated, "waiting": waiting }))
            }
        };
        printed.context(
            "the keys WERE rotated, but the result could not be printed: do not run this command again for that",
        )?;
        Ok(ExitCode::SUCCESS)
    }

    async fn rotate(
        &self,
        database: &dyn AccountAdmin,
        actor: &str,
        resource: &OnCluster,
    ) -> Result<(Account, Rotated)> {
        let account = self.account.find(database).await?;
        check_can_rotate(&account)?;
        let keyring = self.keyring.load_existing(&self.database, database).await?;
        if self.overlap.is_zero() {
            let name = display_name(&account.settings.name);
            let held = held(resource).map(|held| format!("; its Secret is NOT written with it, since {held}"));
            self.confirm.ask(&format!(
                "every key pair that {name} has now stops working at once, before its user has the new one{}",
                held.unwrap_or_default()
            ))?;
        }
        let change =
            change_account(database, account, actor, |account| self.decide(account, &keyring).map(Some)).await?;
        let Some(Action::Rotate { key, old_expires, revoke, .. }) = change.done else {
            bail!("nothing was done to the account {}", change.account.id);
        };
        let replaced = change.before.active_key().filter(|_| old_expires.is_none()).map(|key| key.id);
        let revoked = replaced.into_iter().chain(revoke).map(|id| id.to_string()).collect();
        Ok((change.account, Rotated { pair: key.id.to_string(), old_expires, revoked }))
    }

    fn decide(&self, account: &Account, keyring: &Keyring) -> Result<Action> {
        check_can_rotate(account)?;
        let RotationEffect { old_expires, revoke } = rotation_effect(account, self.overlap, SystemEnvironment.now());
        Ok(Action::Rotate {
            expected: account.version,
            key: new_key(account.id, keyring, &SystemEnvironment)?,
            old_expires,
            revoke,
            // The controller or `apply` answers rotations that the resource requests, so they stay as they are.
            answered: account.answered_requests.clone(),
        })
    }
}

fn check_can_rotate(account: &Account) -> Result<()> {
    let name = display_name(&account.settings.name);
    if let Life::Deleted { since } = account.life {
        bail!(
            "{name} is deleted since {since:.0} and does not authenticate; apply its resource again to have it back, and rotate then"
        );
    }
    if account.active_key().is_none() {
        bail!(
            "{name} has no active key pair; if its Secret still holds one, its controller or `opsadmin apply` restores it; otherwise restore its row in account_keys from a backup"
        );
    }
    Ok(())
}

impl Waiting {
    /// Returns the Secret that must be written. `None`: no live account of a resource, so no program writes a Secret.
    fn of(account: &Account, resource: &OnCluster) -> Option<Self> {
        let Owner { cluster, namespace, name } = account.owner.as_ref().filter(|_| account.life == Life::Live)?;
        let named = |resource: &ApiAccount| {
            let written = resource.status.as_ref().and_then(|status| status.secret_name.clone());
            resource.spec.secret.name.clone().or(written).unwrap_or_else(|| default_secret_name(name))
        };
        let secret = match resource {
            OnCluster::Found(resource) => Some(named(resource)),
            OnCluster::NotAsked | OnCluster::Absent => None,
        };
        Some(Self {
            cluster: cluster.as_str().to_owned(),
            namespace: namespace.clone(),
            resource: name.clone(),
            secret,
            held: held(resource),
        })
    }

    fn in_words(&self) -> String {
        let resource = display_name(&format!("{}/{}", self.namespace, self.resource));
        let secret = match &self.secret {
            Some(secret) => format!("The Secret {} of the ApiAccount {resource}", display_name(secret)),
            None => format!("The Secret of the ApiAccount {resource}"),
        };
        if let Some(held) = &self.held {
            return format!("{secret} is NOT written, since {held}; change that, or hand the keys over yourself.");
        }
        if self.cluster == LOCAL_CLUSTER {
            return format!("{secret} is written by the next `opsadmin apply`.");
        }
        format!(
            "{secret} is written by the controller of the cluster {}: at once with PostgreSQL, with its next sweep with SQLite.",
            display_name(&self.cluster)
        )
    }
}

/// Returns why the controller does not write the Secret of the account. `None`: it does, or the resource was not read.
fn held(resource: &OnCluster) -> Option<String> {
    let resource = match resource {
        OnCluster::NotAsked => return None,
        OnCluster::Absent => return Some("the cluster has no such ApiAccount".to_owned()),
        OnCluster::Found(resource) => resource,
    };
    if resource.metadata.deletion_timestamp.is_some() {
        return Some("its ApiAccount is being deleted".to_owned());
    }
    if resource.spec.management_policy == Choice::Known(ManagementPolicy::Observe) {
        return Some("it is only observed (managementPolicy: Observe)".to_owned());
    }
    if is_paused(&resource.metadata) {
        return Some("it is paused (ops-admin.com/paused)".to_owned());
    }
    let ready = resource.status.as_ref()?.ready()?;
    let is_refused = ready.status == "False" && ready.reason != Reason::Suspended.as_str();
    is_refused.then(|| format!("its condition is {}: {}", display_name(&ready.reason), display_name(&ready.message)))
}

fn print(account: &Account, rotated: &Rotated, waiting: Option<&Waiting>, output: &mut Output) -> Result<()> {
    let name = display_name(&account.settings.name);
    output.line(&format!("{name} has a new key pair, {}", rotated.pair))?;
    match rotated.old_expires {
        Some(expires) => output.line(&format!("The old key pair works until {expires:.0}."))?,
        None => output.line("No older key pair works any more.")?,
    }
    match waiting {
        Some(waiting) => output.line(&waiting.in_words()),
        None => output.line(&format!(
            "No resource declares the account, so nobody writes its Secret: hand the keys over with `opsadmin get {} --show-secret`.",
            account.id
        )),
    }
}
