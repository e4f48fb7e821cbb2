//! `opsadmin check`: shows whether the API would let an account in, and what each rule says.

use super::account::AccountArgs;
use super::database::DatabaseArgs;
use super::environment::SystemEnvironment;
use super::output::{Format, FormatArgs, Output};
use super::text::display_name;
use crate::account::{
    Access, AccessRequest, Account, AffiliateName, EndpointGroup, Reach, Role, Verdict, VisiblePlans, access,
};
use crate::reconcile::Environment;
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::process::ExitCode;

/// The exit code when the account is not let in. It differs from the exit code of an error.
const NOT_LET_IN: u8 = 3;

/// Show whether an account would be let in, and what each rule says about it.
///
/// The command applies the rules of the API servers to the account database. A rule whose option is not given is not
/// judged: the output then shows what the account has. Nothing is changed, and rights to read are enough.
///
/// Exit codes: 0 let in, 3 not let in, 1 an error.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  opsadmin check acme --ip 203.0.113.7 --endpoint plans \\\n    --affiliate Bright\n  opsadmin check -n partners acme-portal --role Customer"
)]
pub struct Check {
    #[command(flatten)]
    account: AccountArgs,

    /// Check access from this address.
    #[arg(long, value_name = "IP")]
    ip: Option<IpAddr>,

    /// Check access to everything that this role gives access to.
    #[arg(long, value_name = "ROLE", value_parser = role(), conflicts_with = "endpoint")]
    role: Option<Role>,

    /// Check access to this group of endpoints.
    #[arg(long, value_name = "GROUP")]
    endpoint: Option<Group>,

    /// Check access to the plans of this affiliate.
    #[arg(long, value_name = "NAME", value_parser = AffiliateName::parse)]
    affiliate: Option<AffiliateName>,

    #[command(flatten)]
    database: DatabaseArgs,

    #[command(flatten)]
    format: FormatArgs,
}

/// The groups of endpoints, as the command line names them.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Group {
    /// The data of a customer's own account.
    MyAccount,
    /// Plans and rates.
    Plans,
    /// Enrollments in plans.
    Enrollments,
    /// The whole API.
    Everything,
}

fn role() -> impl TypedValueParser<Value = Role> {
    PossibleValuesParser::new(Role::ALL.map(Role::as_str)).try_map(|name| Role::parse(&name))
}

impl Check {
    /// Checks the account, and prints the result.
    pub async fn run(&self, output: &mut Output) -> Result<ExitCode> {
        let database = self.database.open_read_only().await?;
        let account = self.account.find(database.as_ref()).await;
        database.close().await;
        let account = account?;
        let asked = self.asked();
        let access = access(&account, &asked, SystemEnvironment.now());
        match self.format.format {
            Format::Text => print(&account, &access, output)?,
            format => output.value(format, &self.value(&account, &access))?,
        }
        Ok(if access.is_allowed() { ExitCode::SUCCESS } else { ExitCode::from(NOT_LET_IN) })
    }

    fn asked(&self) -> AccessRequest {
        let endpoint = self.endpoint.map(|group| Reach::Endpoint(group.into()));
        AccessRequest {
            key: None,
            ip: self.ip,
            reach: self.role.map(Reach::Role).or(endpoint),
            affiliate: self.affiliate.as_ref().map(ToString::to_string),
        }
    }

    fn value(&self, account: &Account, access: &Access<'_>) -> Value {
        let endpoint = self.endpoint.map(|group| EndpointGroup::from(group).as_str());
        let rules = access.rules.iter().map(
            |judged| json!({ "rule": judged.rule.as_str(), "verdict": judged.verdict.as_str(), "why": judged.why.to_string() }),
        );
        json!({
            "account": { "id": account.id.to_string(), "name": account.settings.name },
            "asked": {
                "ip": self.ip.map(|ip| ip.to_string()),
                "role": self.role.map(Role::as_str),
                "endpoint": endpoint,
                "affiliate": self.affiliate.as_ref().map(AffiliateName::as_str),
            },
            "letIn": access.is_allowed(),
            "rules": rules.collect::<Vec<_>>(),
            "endpoints": access.endpoints().map(EndpointGroup::as_str).collect::<Vec<_>>(),
            "plans": {
                "all": access.plans == VisiblePlans::All,
                "affiliate": match access.plans {
                    VisiblePlans::All => None,
                    VisiblePlans::Of(affiliate) => Some(affiliate),
                },
            },
            "useRefreshToken": account.settings.use_refresh_token,
        })
    }
}

fn print(account: &Account, access: &Access<'_>, output: &mut Output) -> Result<()> {
    let mut rows = vec![["RULE", "VERDICT", "WHY"].map(str::to_owned)];
    rows.extend(
        access.rules.iter().map(|judged| {
            [judged.rule.as_str().to_owned(), judged.verdict.as_str().to_owned(), judged.why.to_string()]
        }),
    );
    output.painted_table(&rows, |row| match row.checked_sub(1).map(|rule| access.rules[rule].verdict) {
        Some(Verdict::Fail) => AnsiColor::Red.on_default(),
        Some(Verdict::NotAsked) => Style::new().dimmed(),
        Some(Verdict::Pass) | None => Style::new(),
    })?;
    output.line("")?;
    let name = display_name(&account.settings.name);
    let strong = |colour: AnsiColor| colour.on_default().bold();
    if access.is_allowed() {
        let style = strong(AnsiColor::Green);
        output.line(&format!("{name} is {style}let in{style:#}"))?;
        if account.settings.use_refresh_token {
            output.line("It must authenticate again every few seconds.")?;
        }
        Ok(())
    } else {
        let style = strong(AnsiColor::Red);
        let why: Vec<_> = access.refusals().map(|judged| judged.why.to_string()).collect();
        output.sentence(&format!("{name} is {style}not let in{style:#}: {}", why.join("; ")))
    }
}

impl From<Group> for EndpointGroup {
    fn from(group: Group) -> Self {
        match group {
            Group::MyAccount => Self::MyAccount,
            Group::Plans => Self::Plans,
            Group::Enrollments => Self::Enrollments,
            Group::Everything => Self::Everything,
        }
    }
}
