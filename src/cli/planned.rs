//! Prints a plan: as text for a terminal, as Markdown for a pull request, and as JSON or YAML for programs.
//! Change the layout of plans here; `run/action.rs` has the words, and `run/report.rs` decides what a plan contains.

use super::listing::Listing;
use super::manifests::count_accounts;
use super::output::{Format, Output};
use super::progress::Progress;
use crate::run::{ACCOUNTS, AccountReport, AccountResult, Action, Change, SUMMARY, Summary};
use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::ValueEnum;

/// The maximum length of the Markdown diff, in bytes. GitHub refuses comments of more than 65,536 characters; GitLab's
/// limit is far higher.
const MAX_MARKDOWN: usize = 60_000;

/// The suffix of the summary when the plan did not read any Secret.
const NOT_COMPARED: &str = " (Secrets were not compared)";

/// How to print a plan.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum PlanFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For people and programs.
    Yaml,
    /// For a comment on a pull request.
    Markdown,
}

/// Prints a plan account by account, and counts the results.
pub struct Planned {
    form: Form,
    summary: Summary,
}

enum Form {
    Text,
    Markdown(Markdown),
    Value(Listing),
}

impl Planned {
    /// Starts an empty plan. `looks_at_secrets` says whether the plan compares Secrets.
    pub fn new(format: PlanFormat, looks_at_secrets: bool) -> Self {
        let form = match format {
            PlanFormat::Text => Form::Text,
            PlanFormat::Markdown => Form::Markdown(Markdown::default()),
            PlanFormat::Json => Form::Value(Listing::new(Format::Json, ACCOUNTS)),
            PlanFormat::Yaml => Form::Value(Listing::new(Format::Yaml, ACCOUNTS)),
        };
        Self { form, summary: Summary { secrets_not_compared: !looks_at_secrets, ..Summary::default() } }
    }

    /// Adds the plan of one account. Markdown is printed by [`Self::finish`]; the other formats are printed account by
    /// account, and the progress line is cleared first.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn push(&mut self, account: &AccountReport, progress: &mut Progress, output: &mut Output) -> Result<()> {
        self.summary.count(account.result);
        match &mut self.form {
            Form::Text => {
                for line in coloured(account) {
                    progress.hide();
                    output.sentence(&line)?;
                }
            }
            Form::Markdown(markdown) => markdown.push(account),
            Form::Value(listing) => {
                progress.hide();
                listing.push(account, output)?;
            }
        }
        Ok(())
    }

    /// Ends a plan that failed halfway. JSON and YAML are closed, so that a program can parse the incomplete plan. Text
    /// and Markdown get no summary, because a reader would take it for the summary of the complete plan.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn abort(self, output: &mut Output) -> Result<()> {
        match self.form {
            Form::Text | Form::Markdown(_) => Ok(()),
            Form::Value(listing) => listing.end(SUMMARY, &self.summary, output),
        }
    }

    /// Prints the remaining output, and returns the summary.
    ///
    /// # Errors
    /// As [`Output::line`].
    pub fn finish(self, output: &mut Output) -> Result<Summary> {
        let Self { form, summary } = self;
        match form {
            Form::Text => output.line(&self::summary(&summary))?,
            Form::Markdown(markdown) => output.line(markdown.finish(&summary).trim_end())?,
            Form::Value(listing) => listing.end(SUMMARY, &summary, output)?,
        }
        Ok(summary)
    }
}

/// Returns the heading and the lines of one account. `None`: the account does not change and there is nothing to
/// report.
fn lines(account: &AccountReport) -> Option<(String, Vec<String>)> {
    let mut lines: Vec<String> = account.actions.iter().flat_map(Action::in_words).collect();
    lines.extend(account.warnings.iter().map(|warning| format!("WARNING: {warning}")));
    let stays = |drift: &Change| format!("not corrected: {} is {}, declared {}", drift.field, drift.old, drift.new);
    lines.extend(account.drift.iter().map(stays));
    lines.extend(account.condition.iter().map(|condition| format!("{}: {}", condition.reason, condition.message)));
    if lines.is_empty() {
        return None;
    }
    let AccountReport { namespace, name, manifest, result, .. } = account;
    let place = manifest.as_deref().unwrap_or("no manifest declares it");
    Some((format!("{} {namespace}/{name}  {place}", sign(*result)), lines))
}

fn sign(verdict: AccountResult) -> char {
    match verdict {
        AccountResult::Create | AccountResult::Adopt | AccountResult::Restore => '+',
        AccountResult::Rotate | AccountResult::Change => '~',
        AccountResult::Delete => '-',
        AccountResult::Refuse => '!',
        AccountResult::Unchanged => '=',
    }
}

/// Returns the plan of one account as lines of text, with colours for a terminal.
fn coloured(account: &AccountReport) -> Vec<String> {
    let Some((heading, lines)) = lines(account) else { return Vec::new() };
    let style = style(account.result);
    let lines = lines.iter().map(|line| format!("    {line}"));
    [format!("{style}{heading}{style:#}")].into_iter().chain(lines).collect()
}

fn style(verdict: AccountResult) -> Style {
    let colour = match verdict {
        AccountResult::Create | AccountResult::Adopt | AccountResult::Restore => AnsiColor::Green,
        AccountResult::Rotate | AccountResult::Change => AnsiColor::Yellow,
        AccountResult::Delete | AccountResult::Refuse => AnsiColor::Red,
        AccountResult::Unchanged => return Style::new(),
    };
    colour.on_default().bold()
}

/// A plan as Markdown. Texts from manifests and databases are printed inside a code fence, so that they are not
/// rendered as Markdown.
#[derive(Default)]
struct Markdown {
    diff: String,
    left_out: usize,
}

impl Markdown {
    fn push(&mut self, account: &AccountReport) {
        let Some((heading, lines)) = lines(account) else { return };
        // The sign at the start of a line makes the `diff` highlighting colour the line.
        let margin = |line: &String| format!("\n{}     {line}", sign(account.result));
        let part: String = [heading].into_iter().chain(lines.iter().map(margin)).chain(["\n".to_owned()]).collect();
        if self.diff.len() + part.len() > MAX_MARKDOWN {
            self.left_out += 1;
        } else {
            self.diff.push_str(&part);
        }
    }

    fn finish(self, summary: &Summary) -> String {
        let Self { diff, left_out } = self;
        let fence = fence(&diff);
        let mut parts = vec![format!("**opsadmin plan**: {}", self::summary(summary))];
        if !diff.is_empty() {
            parts.push(format!("{fence}diff\n{diff}{fence}"));
        }
        if left_out > 0 {
            parts.push(format!(
                "{} more did not fit in here: run `opsadmin plan` to see them.",
                count_accounts(left_out)
            ));
        }
        parts.join("\n\n")
    }
}

/// Returns a code fence that is longer than every run of backticks in the text, so that the text cannot close it.
fn fence(text: &str) -> String {
    let longest = text.split(|character| character != '`').map(str::len).max().unwrap_or(0);
    "`".repeat(longest.max(2) + 1)
}

fn summary(summary: &Summary) -> String {
    let all = count_accounts(summary.total());
    let unseen = if summary.secrets_not_compared { NOT_COMPARED } else { "" };
    if summary.unchanged == summary.total() {
        return format!("{all}: nothing to change{unseen}");
    }
    let parts = [
        (summary.create, "to create"),
        (summary.adopt, "to adopt"),
        (summary.restore, "to restore"),
        (summary.rotate, "to rotate"),
        (summary.change, "to change"),
        (summary.delete, "to delete"),
        (summary.refuse, "refused"),
        (summary.unchanged, "unchanged"),
    ];
    let parts = parts.iter().filter(|(number, _)| *number > 0).map(|(number, what)| format!("{number} {what}"));
    format!("{all}: {}{unseen}", parts.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{
        AccountName, AffiliateName, AllowedIp, AllowedIps, ClusterId, Description, Owner, Role, Settings,
        StoredSettings, changes,
    };
    use crate::reconcile::{Done, Outcome};

    fn account(name: &str, new: &str) -> AccountReport {
        let change = Change { field: "description".to_owned(), old: "old".to_owned(), new: new.to_owned() };
        AccountReport {
            namespace: "ns".to_owned(),
            name: name.to_owned(),
            manifest: Some("a.yaml:1:1".to_owned()),
            result: AccountResult::Change,
            actions: vec![Action::Update { changes: vec![change] }],
            warnings: Vec::new(),
            condition: None,
            drift: Vec::new(),
        }
    }

    fn markdown(accounts: impl IntoIterator<Item = AccountReport>) -> String {
        let (mut markdown, mut summary) = (Markdown::default(), Summary::default());
        for account in accounts {
            markdown.push(&account);
            summary.count(account.result);
        }
        markdown.finish(&summary)
    }

    #[test]
    fn a_text_cannot_close_its_code_fence() {
        let markdown = markdown([account("a", "````\\n# not a heading")]);
        let fences: Vec<_> = markdown.lines().filter(|line| line.starts_with("`````")).collect();
        assert_eq!(fences, ["`````diff", "`````"], "{markdown}");
    }

    #[test]
    fn a_comment_that_is_too_long_says_how_many_accounts_are_missing() {
        let accounts = (0..10).map(|number| account(&number.to_string(), &"x".repeat(MAX_MARKDOWN / 4)));
        let markdown = markdown(accounts);
        assert!(markdown.len() < 65_536, "{}", markdown.len());
        assert!(markdown.ends_with("7 accounts more did not fit in here: run `opsadmin plan` to see them."));
        assert!(markdown.starts_with("**opsadmin plan**: 10 accounts: 10 to change\n"));
    }

    #[test]
    fn a_change_that_gives_an_account_more_rights_has_a_warning() {
        let settings = |ips: &[&str], roles: &[Role], affiliate: Option<&str>| Settings {
            name: AccountName::parse("acme").unwrap(),
            description: Description::default(),
            enabled: true,
            use_refresh_token: false,
            affiliate: affiliate.map(|name| AffiliateName::parse(name).unwrap()),
            roles: roles.iter().copied().collect(),
            allowed_ips: AllowedIps::from_networks(ips.iter().map(|ip| AllowedIp::parse(ip).unwrap())),
        };
        let warnings = |old: &Settings, new: &Settings| {
            let changes = changes(&StoredSettings::from(old), new);
            let outcome = Outcome { done: vec![Done::Updated { changes }], ..Outcome::default() };
            let cluster = ClusterId::parse("local").unwrap();
            let owner = Owner { cluster, namespace: "ns".to_owned(), name: "acme".to_owned() };
            coloured(&AccountReport::undeclared(&owner, &outcome)).join("\n")
        };
        let (narrow, wide) =
            (settings(&["10.0.0.0/8"], &[], Some("North")), settings(&[], &[Role::Administrator], None));
        let said = warnings(&narrow, &wide);
        for expected in [
            "WARNING: the account may now be used from any address, and not only from [10.0.0.0/8]",
            "WARNING: the account now sees every affiliate's plans, and not only those of \"North\"",
            "WARNING: the account is now an Administrator and may use the whole API",
        ] {
            assert!(said.contains(expected), "{said}");
        }
        assert!(!warnings(&wide, &narrow).contains("WARNING"));
    }

    #[test]
    fn an_unchanged_account_is_only_counted() {
        let unchanged = AccountReport { result: AccountResult::Unchanged, actions: Vec::new(), ..account("a", "b") };
        assert_eq!(coloured(&unchanged), Vec::<String>::new());
        assert_eq!(markdown([unchanged]), "**opsadmin plan**: 1 account: nothing to change");
    }
}
