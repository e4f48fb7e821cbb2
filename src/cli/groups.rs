//! The groups in which `opsadmin --help` lists the commands. clap has no groups for commands.

use clap::Command;
use std::collections::HashMap;

/// Every command, by the heading of its group.
const GROUPS: [(&str, &[&str]); 5] = [
    ("Accounts", &["get", "check", "history"]),
    ("Manifest files", &["validate", "plan", "apply", "export", "import"]),
    ("OpsAdmin staff", &["suspend", "resume", "rotate", "logins", "logout", "allow-adoption", "affiliates"]),
    ("Running it", &["controller", "auth-server", "release", "doctor", "journal", "migrate", "keyring"]),
    ("Setting up", &["crd", "render", "completion", "help"]),
];

/// What clap prints before the name of a command.
const MARGIN: &str = "  ";

/// Returns the command with its subcommands in groups in its help.
pub fn grouped(command: Command) -> Command {
    let (entries, style) = (entries(&command), *command.get_styles().get_header());
    let heading = |heading: &str| format!("{style}{heading}:{style:#}\n");
    let groups = GROUPS.map(|(title, names)| {
        let lines = names.iter().filter_map(|name| entries.get(*name).map(String::as_str));
        heading(title) + &lines.collect::<String>()
    });
    command.help_template(format!(
        "{{before-help}}{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}\n{}{{options}}{{after-help}}",
        groups.join("\n"),
        heading("Options")
    ))
}

/// The lines that clap prints for each command, by its name: aligned with those of the others, and as wide as the terminal.
fn entries(command: &Command) -> HashMap<String, String> {
    let listed = command.clone().help_template("{subcommands}").render_help().ansi().to_string();
    let mut entries: HashMap<String, String> = HashMap::new();
    let mut name = String::new();
    for line in listed.lines() {
        let plain = anstream::adapter::strip_str(line).to_string();
        // Continuation lines of a command are indented further.
        if let Some(begun) = plain.strip_prefix(MARGIN).filter(|begun| !begun.starts_with(' ')) {
            begun.split(' ').next().unwrap_or_default().clone_into(&mut name);
        }
        let entry = entries.entry(name.clone()).or_default();
        entry.push_str(line);
        entry.push('\n');
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::CommandFactory;

    fn built() -> Command {
        let mut command = Cli::command();
        command.build();
        command
    }

    #[test]
    fn every_command_is_in_exactly_one_group() {
        let command = built();
        let mut commands: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        let mut grouped: Vec<&str> = GROUPS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        commands.sort_unstable();
        grouped.sort_unstable();
        assert_eq!(grouped, commands);
    }

    #[test]
    fn the_help_has_every_command_with_what_it_does_under_its_heading() {
        for width in [40, 100, 0] {
            let command = Cli::command().term_width(width);
            let help = grouped(command).render_help().to_string();
            let lines = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut rest = help.as_str();
            for (heading, names) in GROUPS {
                (_, rest) =
                    rest.split_once(&format!("\n\n{heading}:\n")).unwrap_or_else(|| panic!("{heading}: {help}"));
                let group = rest.split("\n\n").next().unwrap_or_default();
                for name in names {
                    let about = built().find_subcommand(name).unwrap().get_about().unwrap().to_string();
                    assert!(lines(group).contains(&format!("{name} {}", lines(&about))), "{name}: {group}");
                }
            }
            assert!(rest.contains("\n\nOptions:\n  -h, --help"), "{help}");
            assert!(!help.contains(['{', '}']), "{help}");
            assert!(width == 0 || help.lines().all(|line| line.chars().count() <= width), "{help}");
        }
    }
}
