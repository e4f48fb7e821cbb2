//! The `--help` text of every command: its usage, and examples that can be copied and run.

use std::collections::BTreeSet;

use clap::{Command, CommandFactory as _};
use opsadmin_operator::cli::Cli;

use crate::support::opsadmin::Opsadmin;

/// The maximum width of an example, so that it fits into a terminal with 80 columns.
const WIDTH: usize = 78;

/// Returns every command with the words that call it, also commands that only hold subcommands.
pub fn commands() -> Vec<(Vec<String>, Command)> {
    let mut found = Vec::new();
    collect(&Cli::command(), &[], &mut found);
    assert!(found.len() > 20, "{found:?}");
    found
}

fn collect(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
    found.push((words.to_vec(), command.clone()));
    for below in command.get_subcommands() {
        collect(below, &[words, &[below.get_name().to_owned()]].concat(), found);
    }
}

/// Returns the examples of a command, as they are written in the code.
fn examples(command: &Command) -> String {
    command.get_after_help().map(ToString::to_string).unwrap_or_default()
}

/// Returns the help of a command, as it is printed into a pipe.
async fn help(program: &str, words: &[String]) -> String {
    let call = Opsadmin::new().under_the_name(program).args(words).args(["--help"]);
    call.env("OPSADMIN_DATABASE_URL", "postgres://u:hunter2@h/d").run().await.succeeded()
}

#[tokio::test]
async fn every_command_has_a_usage_and_an_example() {
    for (words, command) in commands() {
        let help = help("opsadmin", &words).await;
        let usage = ["Usage: opsadmin"].into_iter().chain(words.iter().map(String::as_str));
        assert!(help.contains(&usage.collect::<Vec<_>>().join(" ")), "{help}");
        assert!(!help.contains("hunter2"), "{help}");
        assert!(command.has_subcommands() || help.contains("\nExample"), "{words:?}: {help}");
    }
}

#[tokio::test]
async fn every_example_is_printed_in_lines_that_can_be_copied() {
    for (words, command) in commands() {
        let written = examples(&command);
        for program in ["opsadmin", "kubectl-opsadmin"] {
            let help = help(program, &words).await;
            let printed: Vec<&str> = help.lines().skip_while(|line| !line.starts_with("Example")).collect();
            assert_eq!(printed.len(), written.lines().count(), "a line was folded: {help}");
            assert!(printed.iter().all(|line| line.chars().count() <= WIDTH), "too wide: {help}");
            let is_continued = |line: &&str| line.ends_with(" \\");
            assert!(!printed.last().is_some_and(is_continued), "{help}");
            for lines in printed.windows(2) {
                assert_eq!(lines[1].starts_with("    "), is_continued(&lines[0]), "{lines:?} in {help}");
            }
        }
    }
}

#[tokio::test]
async fn the_commands_stand_in_groups_however_the_help_is_asked_for() {
    let call = |arguments: &[&str]| Opsadmin::new().args(arguments);
    let help = call(&["help"]).run().await.succeeded();
    let headings = ["Accounts:", "Manifest files:", "OpsAdmin staff:", "Running it:", "Setting up:", "Options:"];
    let found: Vec<&str> = help.lines().filter(|line| headings.contains(line)).collect();
    assert_eq!(found, headings, "{help}");
    assert!(!help.contains('\u{1b}'), "{help}");
    let entry = |name: &str| {
        let is_entry = |line: &&str| line.strip_prefix("  ").is_some_and(|line| line.starts_with(&format!("{name} ")));
        let lines: Vec<&str> = help.lines().filter(is_entry).collect();
        let [line] = lines[..] else { panic!("{name} has the lines {lines:?}: {help}") };
        line.len() - line[2 + name.len()..].trim_start().len()
    };
    let commands = commands();
    let columns = commands.iter().filter(|(words, _)| words.len() == 1).map(|(words, _)| entry(&words[0]));
    let columns: BTreeSet<usize> = columns.collect();
    assert_eq!(columns.len(), 1, "they are aligned: {help}");

    let nothing = call(&[]).run().await;
    assert_eq!((nothing.status.code(), nothing.stdout.as_str()), (Some(2), ""));
    for same in [nothing.stderr, call(&["-h"]).run().await.succeeded()] {
        assert!(headings.iter().all(|heading| same.lines().any(|line| line == *heading)), "{same}");
    }
    let colourful = call(&["--help"]).env("TERM", "xterm").run_on_terminal().await.succeeded();
    assert!(colourful.contains("\u{1b}[1m\u{1b}[4mAccounts:\u{1b}[0m"), "{colourful:?}");
    assert!(colourful.contains("\u{1b}[1mget\u{1b}[0m"), "{colourful:?}");
}

#[test]
fn every_example_is_a_valid_command_line() {
    for (words, command) in commands() {
        let lines = examples(&command).replace("\\\n", "");
        let pieces = lines.lines().flat_map(|line| line.split(['|', '>', '&'])).map(str::trim);
        let calls: Vec<&str> = pieces.filter(|piece| piece.starts_with("opsadmin ")).collect();
        let own = format!("opsadmin {}", words.join(" "));
        assert!(command.has_subcommands() || calls.iter().any(|call| call.starts_with(&own)), "{own}: {lines}");
        for call in calls {
            let understood = Cli::command().try_get_matches_from(shell_words(call));
            understood.unwrap_or_else(|error| panic!("{call}\n{error}"));
        }
    }
}

/// Splits a line into words. A word may be in double quotes.
fn shell_words(line: &str) -> Vec<&str> {
    let parts = line.split('"').enumerate();
    parts.flat_map(|(at, part)| if at % 2 == 0 { part.split_whitespace().collect() } else { vec![part] }).collect()
}
