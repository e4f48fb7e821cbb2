//! Tips for errors in the arguments, in addition to those of clap.

use clap::builder::PossibleValue;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command, Error};
use std::ffi::OsString;

/// Words for a deletion that users try as commands. There is no such command.
const DELETIONS: [&str; 5] = ["delete", "remove", "rm", "destroy", "prune"];

/// The id of the option `-f` of every command that reads manifests.
const MANIFESTS: &str = "filename";

/// Returns the command that the arguments call, if the first of them names one.
pub fn called(command: &Command, arguments: &[OsString]) -> Option<Command> {
    command.find_subcommand(arguments.get(1)?).cloned()
}

/// Returns the error with a tip about what to do instead, if there is one. `called` is the command that was called.
pub fn with_advice(mut error: Error, called: Option<&Command>) -> Error {
    let tip = match (error.kind(), called) {
        (ErrorKind::InvalidSubcommand, _) => instead_of_deletion(&error),
        (ErrorKind::UnknownArgument, Some(called)) => instead_of_path(&error, called),
        (ErrorKind::MissingRequiredArgument, Some(called)) => values_of_missing(&error, called),
        _ => None,
    };
    if let Some(tip) = tip {
        // clap would suggest the similar command `release`, which confirms deletions.
        error.remove(ContextKind::SuggestedSubcommand);
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip.into()]));
    }
    error
}

/// The tip how to delete an account.
fn instead_of_deletion(error: &Error) -> Option<String> {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else { return None };
    DELETIONS.contains(&word.as_str()).then(|| {
        "an account is deleted with what declares it: `kubectl delete apiaccount NAME`, or remove its manifest and run \
         `opsadmin apply --prune`; `opsadmin suspend NAME` stops it at once"
            .to_owned()
    })
}

/// The tip how to give a file or a folder of manifests.
fn instead_of_path(error: &Error, called: &Command) -> Option<String> {
    let Some(ContextValue::String(path)) = error.get(ContextKind::InvalidArg) else { return None };
    let takes_manifests = called.get_arguments().any(|argument| argument.get_long() == Some(MANIFESTS));
    (takes_manifests && !path.starts_with('-')).then(|| format!("to read manifests from it, use `-f {path}`"))
}

/// The tip with the possible values of a missing argument.
fn values_of_missing(error: &Error, called: &Command) -> Option<String> {
    let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
    let is_missing = |argument: &&Arg| missing.contains(&argument.to_string());
    let argument = called.get_positionals().find(is_missing)?;
    let values = argument.get_possible_values();
    let values: Vec<&str> = values.iter().map(PossibleValue::get_name).collect();
    let (last, others) = values.split_last()?;
    Some(format!("{argument} is {} or {last}", others.join(", ")))
}
