//! `opsadmin logins` and `opsadmin logout`: shows the logins that an auth server accepted and that are live, and ends them.

use super::account::{AccountArgs, NamedBy};
use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::text::display_name;
use crate::account::{Account, AccountId};
use crate::database::{DatabaseError, WithLogins};
use crate::login::{EndReason, Login, Tokens};
use crate::reconcile::Environment;
use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::process::ExitCode;

/// Show the logins that are live: when and from where each began, and until when its tokens work.
///
/// Nothing is changed, and rights to read are enough. No token is shown, because the database has none.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin logins\n  opsadmin logins acme\n  opsadmin logins -n partners acme-portal -o json"
)]
pub struct Logins {
    /// The account, as for `opsadmin get`. Default: all accounts.
    #[arg(value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    by: NamedBy,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// End all logins of an account. Their tokens stop working within a second.
///
/// The account can log in again at once, with the same keys. To stop it, use `opsadmin suspend`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  opsadmin logout acme\n  opsadmin logout -n partners acme-portal")]
pub struct Logout {
    #[command(flatten)]
    account: AccountArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

impl Logins {
    /// Prints the live logins.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = open(&self.database).await?;
        let listed = self.list(&database).await;
        database.accounts.close().await;
        let listed = listed?;
        match self.format.format {
            Format::Text if listed.is_empty() => output.line("no login is live")?,
            Format::Text => output.table(&rows(&listed))?,
            format => {
                let logins: Vec<Value> = listed.iter().map(value).collect();
                output.value(format, &json!({ "logins": logins }))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn list(&self, database: &WithLogins) -> Result<Vec<(Login, Option<String>)>> {
        let account = match &self.name {
            Some(name) => Some(self.by.find(database.accounts.as_ref(), name).await?.id),
            None => None,
        };
        let logins = database.logins.list(account, SystemEnvironment.now()).await?;
        let mut names: BTreeMap<AccountId, Option<String>> = BTreeMap::new();
        for login in &logins {
            if let Entry::Vacant(unread) = names.entry(login.account) {
                let holder = database.accounts.find_by_id(login.account).await?;
                unread.insert(holder.map(|account| account.settings.name));
            }
        }
        let with_name = |login: Login| {
            let name = names.get(&login.account).cloned().flatten();
            (login, name)
        };
        Ok(logins.into_iter().map(with_name).collect())
    }
}

impl Logout {
    /// Ends the logins, and prints how many there were.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = open(&self.database).await?;
        let ended = self.end(&database).await;
        database.accounts.close().await;
        let (account, ended) = ended?;
        match self.format.format {
            Format::Text => {
                let name = display_name(&account.settings.name);
                output.line(&match ended {
                    0 => format!("{name} has no live login"),
                    1 => format!("{name} is logged out: 1 login is ended"),
                    ended => format!("{name} is logged out: {ended} logins are ended"),
                })?;
            }
            format => output.value(format, &json!({ "account": account.id.to_string(), "ended": ended }))?,
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn end(&self, database: &WithLogins) -> Result<(Account, usize)> {
        let account = self.account.find(database.accounts.as_ref()).await?;
        let ended = database.logins.end_account(account.id, SystemEnvironment.now(), EndReason::LoggedOut).await?;
        Ok((account, ended))
    }
}

async fn open(named: &DatabaseArgs) -> Result<WithLogins> {
    let database = named.open_with_logins()?;
    match database.accounts.pending_migrations().await? {
        pending if pending.is_empty() => Ok(database),
        pending => Err(DatabaseError::OlderSchema { pending }.into()),
    }
}

fn refreshes(login: &Login) -> bool {
    matches!(login.tokens, Tokens::Family(_))
}

fn value((login, name): &(Login, Option<String>)) -> Value {
    json!({
        "id": login.id.to_string(),
        "account": login.account.to_string(),
        "name": name,
        "key": login.key.to_string(),
        "began": login.began,
        "expires": login.expires(),
        "address": login.address,
        "refreshes": refreshes(login),
    })
}

fn rows(listed: &[(Login, Option<String>)]) -> Vec<[String; 6]> {
    let head = ["ACCOUNT", "BEGAN", "EXPIRES", "ADDRESS", "REFRESHES", "KEY PAIR"].map(str::to_owned);
    let row = |(login, name): &(Login, Option<String>)| {
        [
            name.as_deref().map_or_else(|| login.account.to_string(), display_name),
            format!("{:.0}", login.began),
            format!("{:.0}", login.expires()),
            login.address.to_string(),
            if refreshes(login) { "yes" } else { "no" }.to_owned(),
            login.key.to_string(),
        ]
    };
    std::iter::once(head).chain(listed.iter().map(row)).collect()
}
