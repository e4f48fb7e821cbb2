//! `opsadmin allow-adoption`: decides which resources may adopt accounts that no resource declares.

use super::actor::ActorArgs;
use super::change_account::change_account;
use super::cluster::ClusterArgs;
use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use super::lookup;
use super::manifests::count_accounts;
use super::output::{Format, FormatArgs, Output};
use super::text::display_name;
use super::uses::read_uses;
use super::view::AccountView;
use crate::account::{Account, Adopter, ClusterId, Life, UnassignedPolicy};
use crate::database::{AccountAdmin, Action};
use crate::reconcile::parse_namespace;
use crate::reconcile::{Environment, is_dns_subdomain};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;
use std::process::ExitCode;

/// Decide who may adopt accounts that no resource declares.
///
/// Without this command, the namespace that a retained account had may adopt it, and the namespace that an account was
/// imported for. The command names another namespace, or one ApiAccount in it. That resource then adopts the account,
/// with its keys, if it has spec.adoptionPolicy: IfUnowned. The journal records who allowed it. An account that a
/// resource declares is never adopted.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin allow-adoption acme --to partners\n  opsadmin allow-adoption acme --to partners/acme-portal \\\n    --cluster-id production\n  opsadmin allow-adoption --retained-by old-cluster \\\n    --cluster-id new-cluster"
)]
pub struct AllowAdoption {
    /// The accounts, by their names in OpsAdmin, their ids, their API keys, or their ApiAccounts as NAME or NAMESPACE/NAME.
    #[arg(value_name = "ACCOUNT", required_unless_present = "retained_by")]
    accounts: Vec<String>,

    /// Who may adopt the accounts: any ApiAccount of a namespace, or one ApiAccount.
    #[arg(long, value_name = "NAMESPACE[/NAME]", value_parser = place, required_unless_present_any = ["retained_by", "nobody"])]
    to: Option<(String, Option<String>)>,

    /// Withdraw an earlier permission.
    #[arg(long, conflicts_with_all = ["to", "retained_by"])]
    nobody: bool,

    /// All accounts that this cluster has retained, each for the namespace and the name that it had there. Use it to
    /// move to another cluster.
    #[arg(long, value_name = "CLUSTER_ID", value_parser = ClusterId::parse, conflicts_with_all = ["accounts", "to"])]
    retained_by: Option<ClusterId>,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    actor: ActorArgs,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// Who may adopt an account that was imported for no namespace. The command line's form of [`Unassigned`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OnUnassigned {
    /// Nobody, until `import --for` or `allow-adoption` names a namespace.
    Refuse,
    /// The first ApiAccount that declares its name.
    Adopt,
}

impl From<OnUnassigned> for UnassignedPolicy {
    fn from(on: OnUnassigned) -> Self {
        match on {
            OnUnassigned::Refuse => Self::Refuse,
            OnUnassigned::Adopt => Self::Adopt,
        }
    }
}

impl AllowAdoption {
    /// Allows the adoption, and prints the accounts.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let actor = self.actor.in_journal()?;
        let cluster = if self.nobody { None } else { Some(self.cluster.id_without_client().await?) };
        let database = self.database.open_existing().await?;
        let allowed = self.allow(database.as_ref(), cluster.as_ref(), &actor).await;
        let uses = match self.format.format {
            Format::Text => None,
            _ => read_uses(database.as_ref(), None, output).await,
        };
        database.close().await;
        let allowed = allowed?;
        if self.format.format != Format::Text {
            let now = SystemEnvironment.now();
            let view = |account| AccountView::of(account, now).with_uses(uses.as_deref());
            let accounts: Vec<_> = allowed.iter().map(view).collect();
            output.value(self.format.format, &json!({ "accounts": accounts }))?;
            return Ok(ExitCode::SUCCESS);
        }
        for account in &allowed {
            let name = display_name(&account.settings.name);
            output.line(&match &account.adopter {
                Some(adopter) => format!("{name} may be taken over by {}", display_name(&adopter.to_string())),
                None => format!("{name} may be taken over only by the namespace that it had"),
            })?;
        }
        if allowed.is_empty() {
            output.note("there is no such account");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn allow(
        &self,
        database: &dyn AccountAdmin,
        cluster: Option<&ClusterId>,
        actor: &str,
    ) -> Result<Vec<Account>> {
        let mut allowed = Vec::new();
        for account in self.chosen(database).await? {
            let adopter = cluster.and_then(|cluster| self.adopter(&account, cluster));
            let decide = |account: &Account| {
                if matches!(account.life, Life::Deleted { .. }) {
                    bail!(
                        "the account {} is deleted; no resource can take it over",
                        display_name(&account.settings.name)
                    );
                }
                if let (Some(owner), Life::Live) = (&account.owner, account.life) {
                    bail!(
                        "the ApiAccount {owner} declares the account {}; it can be taken over only after this ApiAccount is deleted with deletionPolicy: Retain",
                        display_name(&account.settings.name)
                    );
                }
                let action = Action::AllowAdoption { expected: account.version, adopter: adopter.clone() };
                Ok((account.adopter != adopter).then_some(action))
            };
            allowed.push(change_account(database, account, actor, decide).await?.account);
        }
        Ok(allowed)
    }

    /// Returns the accounts that the arguments name.
    async fn chosen(&self, database: &dyn AccountAdmin) -> Result<Vec<Account>> {
        let mut chosen = Vec::new();
        let Some(cluster) = &self.retained_by else {
            for name in &self.accounts {
                chosen.push(lookup::by_text(database, name, None, lookup::BY_PATH).await?);
            }
            return Ok(chosen);
        };
        let mut unreadable = 0;
        for account in database.list_undeclared().await? {
            match account {
                Ok(account) if account.owner.as_ref().is_some_and(|owner| owner.cluster == *cluster) => {
                    chosen.push(account);
                }
                Ok(_) => {}
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            bail!(
                "{} cannot be read: `opsadmin get --unowned` names them; nothing was allowed",
                count_accounts(unreadable)
            );
        }
        Ok(chosen)
    }

    fn adopter(&self, account: &Account, cluster: &ClusterId) -> Option<Adopter> {
        let (namespace, name) = match (&self.to, &account.owner) {
            (Some((namespace, name)), _) => (namespace.clone(), name.clone()),
            (None, Some(had)) => (had.namespace.clone(), Some(had.name.clone())),
            (None, None) => return None,
        };
        Some(Adopter { cluster: cluster.clone(), namespace, name })
    }
}

/// Parses `NAMESPACE` or `NAMESPACE/NAME`.
fn place(text: &str) -> Result<(String, Option<String>), String> {
    match text.split_once('/') {
        None => Ok((parse_namespace(text)?, None)),
        Some((_, name)) if !is_dns_subdomain(name) => Err(format!("{name:?} is not a valid resource name")),
        Some((place, name)) => Ok((parse_namespace(place)?, Some(name.to_owned()))),
    }
}
