//! Reads the arguments of a command, and the environment variables that can replace its options. The same rules hold
//! for all commands: white space around a value is removed, an empty argument is an error, an empty variable counts as
//! not set, and an error in the value of a variable names the variable.

use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command, Error};
use std::ffi::{OsStr, OsString};

/// The parsed arguments, and the environment variables that replaced some of them.
#[derive(Debug)]
pub struct ParsedArguments {
    /// The parsed arguments.
    pub matches: ArgMatches,
    /// The names of the variables whose values were used.
    pub variables: Vec<String>,
}

/// An option whose value comes from an environment variable.
struct VariableOption {
    variable: String,
    argument: OsString,
}

/// Parses the arguments, and takes the values of missing options from environment variables.
///
/// # Errors
/// The arguments are wrong, or ask for the help.
pub fn read(
    command: &Command,
    arguments: Vec<OsString>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<ParsedArguments, Error> {
    let arguments: Vec<OsString> = arguments.into_iter().map(trimmed_argument).collect();
    let without = without_variables(command.clone());
    let parse = |arguments: &[OsString]| without.clone().try_get_matches_from(arguments);
    let matches = parse(&arguments).map_err(|error| match error.kind() {
        // The help must show the variables, so it comes from the original command.
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            command.clone().try_get_matches_from(&arguments).err().unwrap_or(error)
        }
        _ => error,
    })?;
    // Error messages can name the arguments only after the command is built.
    let mut built = command.clone();
    built.build();
    refuse_empty(&built, &matches)?;
    let (depth, variable_options) = variable_options(&built, &matches, variable);
    if variable_options.is_empty() {
        return Ok(ParsedArguments { matches, variables: Vec::new() });
    }
    let with = |variable_options: &[VariableOption]| {
        // The options are inserted after the words that name the command: after `--`, they would not be options.
        let (words, rest) = arguments.split_at(arguments.len().min(1 + depth));
        let given = variable_options.iter().map(|option| option.argument.clone());
        parse(&words.iter().cloned().chain(given).chain(rest.iter().cloned()).collect::<Vec<_>>())
    };
    match with(&variable_options) {
        Ok(matches) => Ok(ParsedArguments {
            matches,
            variables: variable_options.into_iter().map(|option| option.variable).collect(),
        }),
        // The arguments alone were valid, so a variable is wrong.
        Err(together) => {
            let alone =
                variable_options.iter().find_map(|option| Some((option, with(std::slice::from_ref(option)).err()?)));
            Err(alone.map_or(together, |(option, error)| name_variable(&built, &option.variable, &error)))
        }
    }
}

/// Removes the variables from the command. This module reads them, because clap does not trim their values.
fn without_variables(command: Command) -> Command {
    command.mut_args(|argument| argument.env(None::<&'static str>)).mut_subcommands(without_variables)
}

/// Trims an argument. For `--option= value `, trims the value.
fn trimmed_argument(argument: OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument };
    match text.split_once('=').filter(|(option, _)| option.starts_with("--")) {
        Some((option, value)) => format!("{option}={}", value.trim()).into(),
        None => text.trim().into(),
    }
}

/// Returns the program, and each subcommand down to the called one, with its parsed arguments.
fn levels<'a>(command: &'a Command, matches: &'a ArgMatches) -> Vec<(&'a Command, &'a ArgMatches)> {
    let mut levels = vec![(command, matches)];
    while let Some(&(command, matches)) = levels.last() {
        let below = matches.subcommand().and_then(|(name, below)| Some((command.find_subcommand(name)?, below)));
        match below {
            Some(below) => levels.push(below),
            None => break,
        }
    }
    levels
}

/// Returns the arguments that take values, with their values from the command line.
fn valued<'a>(command: &'a Command, matches: &'a ArgMatches) -> impl Iterator<Item = (&'a Arg, Vec<&'a OsStr>)> {
    let taking = command.get_arguments().filter(|argument| argument.get_action().takes_values());
    taking.map(move |argument| {
        let id = argument.get_id().as_str();
        let is_given = matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
        let values = matches.get_raw(id).filter(|_| is_given);
        (argument, values.map(Iterator::collect).unwrap_or_default())
    })
}

fn refuse_empty(command: &Command, matches: &ArgMatches) -> Result<(), Error> {
    for (command, matches) in levels(command, matches) {
        for (argument, values) in valued(command, matches) {
            let fault = if values.iter().any(|value| value.is_empty()) {
                "must not be empty; leave out the option to give no value"
            } else if values.iter().any(|value| value.to_str().is_some_and(|text| text.trim() != text)) {
                "has white space around its value; remove the white space"
            } else {
                continue;
            };
            return Err(command.clone().error(ErrorKind::InvalidValue, format!("'{argument}' {fault}")));
        }
    }
    Ok(())
}

/// Returns the number of words that name the called command, and an option for each variable whose option is not given.
fn variable_options(
    command: &Command,
    matches: &ArgMatches,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> (usize, Vec<VariableOption>) {
    let levels = levels(command, matches);
    let depth = levels.len() - 1;
    let Some((command, matches)) = levels.last() else { return (depth, Vec::new()) };
    let missing = valued(command, matches).filter(|(_, values)| values.is_empty()).map(|(argument, _)| argument);
    let option_of_variable = |argument: &Arg| {
        let (name, option) = (argument.get_env()?.to_str()?, argument.get_long()?);
        let value = variable(name)?;
        let value = value.to_str().map_or_else(|| value.clone(), |text| text.trim().into());
        if value.is_empty() {
            return None;
        }
        let mut given = OsString::from(format!("--{option}="));
        given.push(value);
        Some(VariableOption { variable: name.to_owned(), argument: given })
    };
    (depth, missing.filter_map(option_of_variable).collect())
}

fn name_variable(command: &Command, variable: &str, error: &Error) -> Error {
    let text = error.render().to_string();
    let fault = text.lines().next().unwrap_or_default();
    let fault = fault.strip_prefix("error: ").unwrap_or(fault);
    command.clone().error(error.kind(), format!("{fault}\n\n  the value comes from the variable {variable}"))
}

#[cfg(test)]
mod tests {
    use crate::cli::{Cli, try_parse};
    use clap::{Arg, Command, CommandFactory};
    use std::ffi::OsString;

    /// Returns every command that can be called, with the words of its shortest example.
    fn calls() -> Vec<(Vec<String>, Command)> {
        fn collect(command: &Command, words: &[String], found: &mut Vec<(Vec<String>, Command)>) {
            for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
                collect(below, &[words, &[below.get_name().to_owned()]].concat(), found);
            }
            if command.has_subcommands() {
                return;
            }
            let own = words.join(" ");
            let examples = command.get_after_help().unwrap().to_string().replace("\\\n", "");
            let calls = examples.split(['\n', '|', '>', '&']).map(str::trim).filter(|call| call.starts_with(&own));
            let calls = calls.map(|call| call.split_whitespace().map(ToOwned::to_owned).collect::<Vec<_>>());
            let call = calls.min_by_key(Vec::len).unwrap_or_else(|| panic!("{own} has no example"));
            found.push((call, command.clone()));
        }
        let mut found = Vec::new();
        collect(&Cli::command(), &["opsadmin".to_owned()], &mut found);
        assert!(found.len() > 15, "{found:?}");
        found
    }

    /// Returns the parsed command, or the error message.
    fn understood(call: &[String], more: &[&str], variables: &[(&str, &str)]) -> Result<String, String> {
        let arguments = call.iter().map(String::as_str).chain(more.iter().copied()).map(OsString::from);
        let variable = |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        let cli = try_parse(arguments, &variable).map_err(|error| error.to_string())?;
        Ok(format!("{:?}", cli.command))
    }

    /// Returns a value that the argument accepts.
    fn value(argument: &Arg) -> String {
        let default = argument.get_default_values().first().and_then(|value| value.to_str()).map(ToOwned::to_owned);
        let possible = || argument.get_possible_values().first().map(|value| value.get_name().to_owned());
        let by_name =
            || match argument.get_value_names().and_then(|names| names.first()).map(clap::builder::Str::as_str) {
                Some("IP") => "192.0.2.1".to_owned(),
                Some("TIME") => "1h".to_owned(),
                Some("NUMBER" | "PERCENT") => "7".to_owned(),
                _ => "x".to_owned(),
            };
        default.or_else(possible).unwrap_or_else(by_name)
    }

    /// Returns the options that take values and that the call does not have.
    fn options<'a>(call: &'a [String], command: &'a Command) -> impl Iterator<Item = (&'a Arg, String)> {
        let options = command.get_arguments().filter(|argument| argument.get_action().takes_values());
        let options = options.filter_map(|argument| Some((argument, format!("--{}", argument.get_long()?))));
        options.filter(|(argument, option)| {
            let short = argument.get_short().map(|short| format!("-{short}")).unwrap_or_default();
            !call.iter().any(|word| word == option || *word == short)
        })
    }

    #[test]
    fn white_space_around_a_value_is_removed_and_an_empty_option_is_refused_by_name() {
        let mut tried = 0;
        for (call, command) in calls() {
            for (argument, option) in options(&call, &command) {
                let value = value(argument);
                let plain = understood(&call, &[&option, &value], &[]);
                let spaced = format!("\t{value} \r\n");
                assert_eq!(understood(&call, &[&option, &spaced], &[]), plain, "{call:?} {option}");
                assert_eq!(understood(&call, &[&format!("{option}={spaced}")], &[]), plain, "{call:?} {option}");
                for empty in ["", " \n"] {
                    for more in [vec![option.clone(), empty.to_owned()], vec![format!("{option}={empty}")]] {
                        let more = more.iter().map(String::as_str).collect::<Vec<_>>();
                        let said = understood(&call, &more, &[]).expect_err(&format!("{call:?} {more:?} is taken"));
                        assert!(said.contains(&format!("{option} <")), "{call:?} {more:?}: {said}");
                    }
                }
                tried += usize::from(plain.is_ok());
            }
        }
        assert!(tried > 60, "only {tried} could be tried with a value");
    }

    #[test]
    fn an_empty_name_is_refused() {
        for (words, argument) in [(vec!["get", ""], "[NAME]"), (vec!["suspend", "a", "--reason", "b", " "], "<NAME>")] {
            let call = ["opsadmin"].into_iter().chain(words).map(ToOwned::to_owned).collect::<Vec<_>>();
            let said = understood(&call, &[], &[]).unwrap_err();
            assert!(said.contains(argument) || said.contains("NAME"), "{call:?}: {said}");
        }
    }

    #[test]
    fn a_variable_replaces_its_option_and_an_empty_variable_is_ignored() {
        let mut tried = 0;
        for (call, command) in calls() {
            for (argument, option) in options(&call, &command) {
                let Some(variable) = argument.get_env().and_then(|name| name.to_str()) else { continue };
                let value = "sqlite://x";
                let (given, without) = (understood(&call, &[&option, value], &[]), understood(&call, &[], &[]));
                // A cluster id contains no slash. Other options accept only values of their own form.
                let (value, given) = match given {
                    Ok(_) => (value, given),
                    Err(_) => ["x", "7m", "off", "7", "json", "192.0.2.0/24", "https://a.example"]
                        .map(|value| (value, understood(&call, &[&option, value], &[])))
                        .into_iter()
                        .find(|(_, given)| given.is_ok())
                        .unwrap_or((value, given)),
                };
                let other = match value {
                    "7m" => "6m",
                    "off" => "on",
                    "7" => "8",
                    "json" => "text",
                    "192.0.2.0/24" => "198.51.100.0/24",
                    "https://a.example" => "https://b.example",
                    _ => "other",
                };
                assert!(given.is_ok() && without.is_ok() && given != without, "{call:?} {option}: {given:?}");
                for spaced in [value.to_owned(), format!(" {value}\r\n")] {
                    assert_eq!(understood(&call, &[], &[(variable, &spaced)]), given, "{call:?} {variable}");
                }
                for empty in ["", " ", "\r\n"] {
                    assert_eq!(understood(&call, &[], &[(variable, empty)]), without, "{call:?} {variable}");
                }
                assert_eq!(understood(&call, &[&option, value], &[(variable, other)]), given, "{call:?} {variable}");
                tried += 1;
            }
        }
        assert!(tried > 20, "only {tried} were tried");
    }

    #[test]
    fn an_error_in_a_variable_names_the_variable() {
        let call = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let set = [("OPSADMIN_CLUSTER_ID", "a/b"), ("OPSADMIN_DATABASE_URL", "sqlite://a.db")];
        let said = understood(&call(&["opsadmin", "get"]), &[], &set).unwrap_err();
        for part in ["'--cluster-id <ID>'", "must not contain a slash", "comes from the variable OPSADMIN_CLUSTER_ID"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(!said.contains("DATABASE"), "{said}");
        let suspend = call(&["opsadmin", "suspend", "acme", "--reason", "unpaid"]);
        let said = understood(&suspend, &[], &[("OPSADMIN_ACTOR", "a\u{1b}b")]).unwrap_err();
        assert!(said.contains("is not a valid name") && said.contains("OPSADMIN_ACTOR"), "{said}");
        // An error in an argument does not name a variable.
        let said = understood(&call(&["opsadmin", "get", "--cluster-id", "c/d"]), &[], &set).unwrap_err();
        assert!(said.contains("slash") && !said.contains("OPSADMIN_"), "{said}");
    }
}
