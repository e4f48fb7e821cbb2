//! `opsadmin get`: shows one account, or lists accounts.

use super::account::{NamedBy, readable};
use super::database::{DatabaseArgs, KeyringArgs};
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::uses::read_uses;
use super::view::AccountView;
use crate::account::{Account, Life, MIN_SECRET_OCTETS};
use crate::database::AccountAdmin;
use crate::reconcile::Environment;
use anstyle::Style;
use anyhow::{Result, bail};
use clap::Args;
use serde_json::json;
use std::io::{IsTerminal, stdout};
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Show one account, or list accounts.
///
/// An account is shown with its owner, its state and the ids of its keys. A secret key is shown only with --show-secret, on a
/// terminal. A list has the accounts of all clusters, and unowned accounts, that are not deleted. --namespace, --cluster-id and
/// the options below narrow it. Nothing is changed, and the right to read is enough.
#[derive(Debug, Args)]
#[command(
    visible_aliases = ["list", "ls"],
    after_help = "Examples:\n  opsadmin get acme\n  opsadmin get --unowned\n  opsadmin get -n partners acme-portal -o yaml\n  opsadmin get acme --show-secret"
)]
pub struct Get {
    /// The account's name in OpsAdmin, its id, its API key, or its ApiAccount as NAME or NAMESPACE/NAME; with --namespace, the
    /// name of its ApiAccount. Default: a list.
    #[arg(value_name = "NAME")]
    name: Option<String>,

    #[command(flatten)]
    by: NamedBy,

    #[command(flatten)]
    narrowed: Narrowed,

    /// Show the secret keys of this account. It needs a terminal and the keyring.
    #[arg(long, requires = "name")]
    show_secret: bool,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    keyring: KeyringArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// Which accounts to list.
#[derive(Debug, Args)]
struct Narrowed {
    /// List unowned accounts: no resource of any cluster declares them.
    #[arg(long, conflicts_with_all = ["name", "namespace"])]
    unowned: bool,

    /// List accounts that are suspended.
    #[arg(long, conflicts_with = "name")]
    suspended: bool,

    /// List accounts that are deleted and not yet purged, instead of the others.
    #[arg(long, conflicts_with = "name")]
    deleted: bool,
}

impl Narrowed {
    fn has(&self, account: &Account) -> bool {
        let is_deleted = matches!(account.life, Life::Deleted { .. });
        let is_unowned = account.owner.is_none() || matches!(account.life, Life::Retained { .. });
        is_deleted == self.deleted && (!self.unowned || is_unowned) && (!self.suspended || account.suspension.is_some())
    }
}

impl Get {
    /// Reads the account or the list, and prints it.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        if self.show_secret && !stdout().is_terminal() {
            bail!(
                "--show-secret shows a secret key on a terminal only, and this output goes to a file or a program; on a cluster, the key is in the account's Secret"
            );
        }
        let database = self.database.open_read_only().await?;
        let result = match &self.name {
            Some(name) => self.one(name, database.as_ref(), output).await.map(|()| ExitCode::SUCCESS),
            None => self.list(database.as_ref(), output).await,
        };
        database.close().await;
        result
    }

    async fn one(&self, name: &str, database: &dyn AccountAdmin, output: &mut Output) -> Result<()> {
        let account = self.by.find(database, name).await?;
        let uses = read_uses(database, Some(account.id), output).await;
        let mut view = AccountView::of(&account, SystemEnvironment.now()).with_uses(uses.as_deref());
        if self.show_secret {
            view = view.with_secret_keys(self.secret_keys(&account, database).await?);
        }
        if self.format.format != Format::Text {
            return output.value(self.format.format, &view);
        }
        output.table(&view.lines())?;
        output.line("")?;
        let keys = view.key_rows();
        if output.has_room_for(&keys) {
            output.table(&keys)?;
        } else {
            output.table(&view.key_lines())?;
        }
        for pair in view.too_short() {
            output.sentence(&format!(
                "The secret key of the pair {pair} has fewer than {MIN_SECRET_OCTETS} characters, so that nobody can log in with it at an auth server. Give the account new keys: opsadmin rotate {}",
                account.id
            ))?;
        }
        let mut secret_keys = view.secret_keys().peekable();
        if secret_keys.peek().is_some() {
            output.line("")?;
            output.line("Secret keys, by pair; whoever has one is this account:")?;
        }
        secret_keys.try_for_each(|(pair, secret_key)| output.line(&Zeroizing::new(format!("{pair}   {secret_key}"))))
    }

    async fn secret_keys(&self, account: &Account, database: &dyn AccountAdmin) -> Result<Vec<Zeroizing<String>>> {
        let keyring = self.keyring.load_existing(&self.database, database).await?;
        let open = |key: &crate::account::StoredKey| -> Result<_> {
            Ok(Zeroizing::new(keyring.open(account.id, key.id, &key.sealed)?.expose().to_owned()))
        };
        account.keys.iter().map(open).collect()
    }

    async fn list(&self, database: &dyn AccountAdmin, output: &mut Output) -> Result<ExitCode> {
        let cluster = match (&self.by.namespace, self.narrowed.unowned) {
            (Some(_), _) => self.by.cluster.id_if_any().await?,
            (None, false) => self.by.cluster.given_id().cloned(),
            (None, true) => None,
        };
        let is_listed = |account: &Account| {
            let owner = account.owner.as_ref();
            self.narrowed.has(account)
                && cluster.as_ref().is_none_or(|cluster| owner.is_some_and(|owner| owner.cluster == *cluster))
                && self.by.namespace.as_ref().is_none_or(|wanted| owner.is_some_and(|owner| owner.namespace == *wanted))
        };
        let (mut accounts, is_whole) = readable(database.list().await?, output);
        accounts.retain(is_listed);
        accounts.sort_by(|a, b| (&a.settings.name, a.id).cmp(&(&b.settings.name, b.id)));
        let now = SystemEnvironment.now();
        let views: Vec<AccountView> = accounts.iter().map(|account| AccountView::of(account, now)).collect();
        if self.format.format != Format::Text {
            let uses = read_uses(database, None, output).await;
            let views: Vec<_> = views.into_iter().map(|view| view.with_uses(uses.as_deref())).collect();
            output.value(self.format.format, &json!({ "accounts": views }))?;
        } else if !views.is_empty() {
            self.print(&views, output)?;
        } else if is_whole {
            match cluster {
                Some(cluster) => output.note(format!("there are no such accounts of the cluster {cluster}")),
                None => output.note("there are no such accounts"),
            }
        }
        Ok(if is_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    /// Prints a list for people.
    fn print(&self, views: &[AccountView], output: &mut Output) -> Result<()> {
        let rows: Vec<_> = std::iter::once(AccountView::heading()).chain(views.iter().map(AccountView::row)).collect();
        let style = |row: usize| row.checked_sub(1).map_or_else(Style::new, |account| views[account].style());
        if self.narrowed.deleted || output.has_room_for(&rows) {
            return output.painted_table(&rows, style);
        }
        // A name finds the account without the id.
        let rows: Vec<_> = rows.into_iter().map(|[cells @ .., _]| cells).collect::<Vec<[String; 6]>>();
        output.painted_table(&rows, style)
    }
}
