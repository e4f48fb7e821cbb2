//! `opsadmin suspend` and `opsadmin resume`: stop an account independently of its resource, and end the suspension.

use super::account::AccountArgs;
use super::actor::ActorArgs;
use super::change_account::{ManualChange, change_account};
use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::revocation::RevocationArgs;
use super::text::display_name;
use super::uses::read_uses;
use super::view::AccountView;
use crate::account::{Account, KeyUse, Life, SuspensionReason};
use crate::database::Action;
use crate::reconcile::Environment;
use anyhow::Result;
use clap::Args;
use serde_json::json;
use std::process::ExitCode;

/// Stop an account at once, whatever its resource declares.
///
/// The account does not authenticate until it is resumed. Its keys and settings stay. On a cluster, its resource shows
/// the condition Suspended with the reason, and the controller never ends a suspension. Suspending the account again
/// with another reason changes the reason.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin suspend acme \\\n    --reason \"calls from an unknown network, ticket 4711\"\n  opsadmin suspend -n partners acme-portal --reason unpaid"
)]
pub struct Suspend {
    /// The reason, in one line. Everyone who may read the account's resource can read it.
    #[arg(long, value_name = "TEXT", value_parser = SuspensionReason::parse)]
    reason: SuspensionReason,

    #[command(flatten)]
    revocation: RevocationArgs,

    #[command(flatten)]
    target: Target,
}

/// End the suspension of an account.
///
/// The account authenticates again with its present keys, if it is enabled.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  opsadmin resume acme\n  opsadmin resume -n partners acme-portal")]
pub struct Resume {
    #[command(flatten)]
    target: Target,
}

/// The options that `suspend` and `resume` share.
#[derive(Debug, Args)]
struct Target {
    #[command(flatten)]
    account: AccountArgs,

    #[command(flatten)]
    actor: ActorArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// What was done to an account, and when its key pairs were used.
struct Changed {
    change: ManualChange,
    uses: Option<Vec<KeyUse>>,
}

impl Suspend {
    /// Suspends the account, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let decide = |account: &Account| {
            let has_this_reason = account.suspension.as_ref().is_some_and(|found| found.reason == self.reason.as_str());
            let action = Action::Suspend { expected: account.version, reason: self.reason.clone() };
            (!has_this_reason).then_some(action)
        };
        let Changed { change, uses } = self.target.change(decide, output).await?;
        let ManualChange { account, done, .. } = change;
        self.revocation.in_force().await;
        let name = display_name(&account.settings.name);
        let said = match &account.suspension {
            Some(found) if done.is_none() => {
                format!("{name} is suspended already, since {:.0}: {:?}", found.since, found.reason)
            }
            Some(found) => format!("{name} is suspended since {:.0}: {:?}", found.since, found.reason),
            // Another user resumed the account at the same moment.
            None => format!("{name} is not suspended any more"),
        };
        self.target.print(&said, &account, uses.as_deref(), done.is_some(), output)
    }
}

impl Resume {
    /// Resumes the account, and prints what was done.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let decide = |account: &Account| {
            let action = Action::Resume { expected: account.version };
            account.suspension.is_some().then_some(action)
        };
        let Changed { change, uses } = self.target.change(decide, output).await?;
        let ManualChange { account, done, .. } = change;
        let name = display_name(&account.settings.name);
        let still = match (account.life, account.settings.enabled) {
            (Life::Deleted { .. }, _) => "; it is deleted, and does not authenticate",
            (_, false) => "; it is disabled, and does not authenticate",
            (_, true) => "",
        };
        let said = match done {
            Some(_) => format!("{name} is not suspended any more{still}"),
            None => format!("{name} is not suspended{still}"),
        };
        self.target.print(&said, &account, uses.as_deref(), done.is_some(), output)
    }
}

impl Target {
    async fn change(&self, decide: impl Fn(&Account) -> Option<Action>, output: &Output) -> Result<Changed> {
        let actor = self.actor.in_journal()?;
        let database = self.database.open_existing().await?;
        let changed = async {
            let account = self.account.find(database.as_ref()).await?;
            let change = change_account(database.as_ref(), account, &actor, |account| Ok(decide(account))).await?;
            let uses = read_uses(database.as_ref(), Some(change.account.id), output).await;
            Ok(Changed { change, uses })
        }
        .await;
        database.close().await;
        changed
    }

    fn print(
        &self,
        said: &str,
        account: &Account,
        uses: Option<&[KeyUse]>,
        changed: bool,
        output: &mut Output,
    ) -> Result<ExitCode> {
        match self.format.format {
            Format::Text => output.line(said)?,
            format => {
                let account = AccountView::of(account, SystemEnvironment.now()).with_uses(uses);
                output.value(format, &json!({ "account": account, "changed": changed }))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
