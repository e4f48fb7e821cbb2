//! The command line: one file for each command. Each builds the adapters, calls the other modules, and prints.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 an error or a refusal, 2 wrong
//! arguments, 3 an account is not let in (`check`), 130 interrupted.

mod account;
mod actor;
mod advice;
mod affiliates;
mod allow_adoption;
mod applied;
mod apply;
mod auth_server;
mod change_account;
mod check;
mod cluster;
mod completion;
mod confirm;
mod controller;
mod crd;
mod creation;
mod database;
mod doctor;
mod environment;
mod export;
mod get;
mod given;
mod groups;
mod history;
mod import;
mod journal;
mod journal_cursor;
mod keyring;
mod leader_election;
mod listing;
mod logins;
mod lookup;
mod manifests;
mod migrate;
mod output;
mod plan;
mod planned;
mod progress;
mod prune;
mod release;
mod render;
mod retention;
mod revocation;
mod rotate;
mod stop;
mod suspend;
mod terminal;
mod text;
mod uses;
mod validate;
mod view;

use crate::database::KeyringError;
use anyhow::Result;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use given::ParsedArguments;
use output::Output;
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use tokio::runtime::{Builder, Runtime};

/// The cluster id of accounts that `apply` creates without a cluster.
const LOCAL_CLUSTER: &str = "local";

/// API accounts for the OpsAdmin API, declared in YAML and kept in sync.
///
/// An ApiAccount resource declares an account. The program creates and updates the account in OpsAdmin's account database, and
/// writes its generated keys to a Secret. On a cluster, `opsadmin controller` does that. Without a cluster, `opsadmin apply`
/// does.
#[derive(Debug, Parser)]
#[command(
    name = "opsadmin",
    version,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// The environment variables that gave values to options.
    #[arg(skip)]
    variables: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Plan(plan::Plan),
    Apply(apply::Apply),
    Validate(validate::Validate),
    Export(export::Export),
    Import(import::Import),
    Get(get::Get),
    Check(check::Check),
    History(history::History),
    Journal(journal::Journal),
    Suspend(suspend::Suspend),
    Resume(suspend::Resume),
    Rotate(rotate::Rotate),
    Release(release::Release),
    AllowAdoption(allow_adoption::AllowAdoption),
    Logins(logins::Logins),
    Logout(logins::Logout),
    Affiliates(affiliates::Affiliates),
    Doctor(doctor::Doctor),
    Controller(controller::Controller),
    AuthServer(auth_server::AuthServer),
    Crd(crd::Crd),
    Render(render::Render),
    Migrate(migrate::Migrate),
    Keyring(keyring::KeyringCommand),
    Completion(completion::Completion),
}

/// The name under which kubectl finds a plugin `opsadmin`.
const PLUGIN: &str = "kubectl-opsadmin";

/// Runs the program: reads its arguments, runs the command and returns the exit code.
///
/// The runtime is started here and not in the program's own crate: that crate would have a second copy of all that the
/// commands await.
pub fn main() -> ExitCode {
    let cli = parse(std::env::args_os());
    match runtime(&cli.command) {
        Ok(runtime) => runtime.block_on(Box::pin(run(cli))),
        Err(error) => {
            eprintln!("error: the system gives no threads: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Starts the runtime of a command.
///
/// The controller mostly waits for answers and does little with each. It has one thread, because to wake another thread
/// for each answer would take a fifth of its processor time.
fn runtime(command: &Command) -> io::Result<Runtime> {
    match command {
        Command::Controller(_) => Builder::new_current_thread().enable_all().build(),
        _ => Runtime::new(),
    }
}

/// Reads the arguments. Prints what is wrong with them, or the help that they ask for, and exits.
///
/// Under the name `kubectl-opsadmin`, the program is a plugin of kubectl, and its help calls it `kubectl opsadmin`.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Cli {
    try_parse(arguments, &|name| std::env::var_os(name)).unwrap_or_else(|error| error.exit())
}

/// Reads the arguments and the environment variables.
///
/// # Errors
/// What is wrong with the arguments or with a variable, or the help that the arguments ask for.
pub fn try_parse(
    arguments: impl IntoIterator<Item = OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Cli, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let command = command_as(arguments.first());
    let called = advice::called(&command, &arguments);
    let read = given::read(&command, arguments, variable);
    let ParsedArguments { matches, variables } = read.map_err(|error| advice::with_advice(error, called.as_ref()))?;
    Ok(Cli { variables, ..Cli::from_arg_matches(&matches)? })
}

/// Returns the command line of a program that was started under this name.
fn command_as(program: Option<&OsString>) -> clap::Command {
    let command = groups::grouped(Cli::command());
    if program.and_then(|program| Path::new(program).file_stem()).is_some_and(|name| name == PLUGIN) {
        with_plugin_examples(command.bin_name("kubectl opsadmin"))
    } else {
        command.bin_name("opsadmin")
    }
}

/// Writes the examples in the help for a plugin of kubectl. Each line of an example begins with the program, or pipes into it.
fn with_plugin_examples(command: clap::Command) -> clap::Command {
    let command = match command.get_after_help().map(ToString::to_string) {
        Some(examples) => command.after_help(
            examples.replace("  opsadmin ", "  kubectl opsadmin ").replace("| opsadmin ", "| kubectl opsadmin "),
        ),
        None => command,
    };
    command.mut_subcommands(with_plugin_examples)
}

/// Runs the command, prints its error if it fails, and returns the exit code.
pub async fn run(cli: Cli) -> ExitCode {
    let mut output = Output::default();
    let result: Result<ExitCode> = match cli.command {
        Command::Plan(command) => command.run(&mut output).await,
        Command::Apply(command) => command.run(&mut output).await,
        Command::Validate(command) => command.run(&mut output),
        Command::Export(command) => command.run(&mut output).await,
        Command::Import(command) => command.run(&mut output).await,
        Command::Get(command) => command.run(&mut output).await,
        Command::Check(command) => command.run(&mut output).await,
        Command::History(command) => command.run(&mut output).await,
        Command::Journal(command) => command.run(&mut output).await,
        Command::Suspend(command) => command.run(&mut output).await,
        Command::Resume(command) => command.run(&mut output).await,
        Command::Rotate(command) => command.run(&mut output).await,
        Command::Release(command) => command.run(&mut output).await,
        Command::AllowAdoption(command) => command.run(&mut output).await,
        Command::Doctor(command) => command.run(&mut output).await,
        Command::Logins(command) => command.run(&mut output).await,
        Command::Logout(command) => command.run(&mut output).await,
        Command::Affiliates(command) => command.run(&mut output).await,
        Command::Controller(command) => command.run().await,
        Command::AuthServer(command) => command.run().await,
        Command::Crd(command) => command.run(&mut output),
        Command::Render(command) => command.run(&mut output),
        Command::Migrate(command) => command.run(&mut output).await,
        Command::Keyring(command) => command.run(&mut output).await,
        Command::Completion(command) => command.run(&mut output),
    };
    result.unwrap_or_else(|error| {
        // `{:#}` adds the causes.
        output.note(format!("opsadmin: {error:#}{}", whence(&error, &cli.variables)));
        ExitCode::FAILURE
    })
}

/// Names the environment variable from which the value comes that an error is about.
fn whence(error: &anyhow::Error, variables: &[String]) -> String {
    let is_database = error.chain().any(|cause| {
        use crate::database::DatabaseError as E;
        let fault = cause.downcast_ref::<E>();
        fault.is_some_and(|f| matches!(f, E::Url { .. } | E::File { .. } | E::Unavailable { .. } | E::Refused { .. }))
    });
    let is_keyring = error.chain().any(<dyn std::error::Error>::is::<KeyringError>);
    let about = [(is_database, "database", "OPSADMIN_DATABASE_URL"), (is_keyring, "keyring", "OPSADMIN_KEYRING")];
    let known =
        about.into_iter().filter(|(is_about, _, variable)| *is_about && variables.iter().any(|v| v == variable));
    known.fold(String::new(), |said, (_, what, variable)| {
        said + &format!("; the {what} comes from the variable {variable}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_of_commands_have_a_section_for_each() {
        let pages = [
            ("commands-accounts.md", include_str!("../../docs/commands-accounts.md")),
            ("commands-files.md", include_str!("../../docs/commands-files.md")),
            ("commands-running.md", include_str!("../../docs/commands-running.md")),
        ];
        let index = include_str!("../../docs/commands.md");
        let mut sections = Vec::new();
        for (name, page) in pages {
            for section in page.lines().filter_map(|line| line.strip_prefix("## `")?.strip_suffix('`')) {
                let row = format!("\n| [`{section}`]({name}#{section}) | ");
                assert!(index.contains(&row), "docs/commands.md does not list `{section}` of {name}");
                sections.push(section);
            }
        }
        sections.sort_unstable();
        let command = Cli::command();
        let mut commands: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
        commands.sort_unstable();
        assert_eq!(sections, commands, "the pages docs/commands-*.md");
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
