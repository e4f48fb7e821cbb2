//! Every message that advises a command of this program has a test that follows the advice. Without a test, the advice
//! could be wrong.

use std::fs;
use std::path::{Path, PathBuf};

use super::repository;

/// The advice in messages, each with the file and the name of the test that follows it. A renamed test must be renamed
/// here too.
const DONE: [(&str, &str, &str); 24] = [
    (
        "confirm with `opsadmin release` that they are created again",
        "controller/creation.rs",
        "another_database_is_refused_for_all_until_somebody_confirms_it",
    ),
    (
        "`opsadmin release --only creations` confirms that it is created again",
        "controller/creation.rs",
        "another_database_is_refused_for_all_until_somebody_confirms_it",
    ),
    (
        "or rotate the account's keys with `opsadmin rotate`",
        "cli/advice.rs",
        "what_the_doctor_says_of_keys_puts_them_right",
    ),
    (
        "make one with `opsadmin keyring init --keyring FILE`",
        "cli/advice.rs",
        "a_sealed_database_without_its_keyring_is_told_to_restore_the_backup",
    ),
    ("run `opsadmin migrate`", "cli/advice.rs", "an_older_schema_is_migrated_with_the_command_that_is_named"),
    (
        "name the one that `opsadmin controller` or `opsadmin apply` works with",
        "cli/advice.rs",
        "an_account_that_is_not_found_is_in_the_list_that_is_named",
    ),
    ("`opsadmin get` lists them", "cli/advice.rs", "an_account_that_is_not_found_is_in_the_list_that_is_named"),
    (
        "`opsadmin get --unowned` names them; nothing was allowed",
        "cli/queries.rs",
        "an_account_that_cannot_be_read_hides_no_other",
    ),
    (
        "not known whether they were imported: check with `opsadmin get --unowned`",
        "faults/imports.rs",
        "what_cannot_be_looked_for_is_said_not_to_be_known",
    ),
    (
        "check with `opsadmin history {}`",
        "faults/imports.rs",
        "a_suspension_that_cannot_be_looked_for_is_in_the_history_that_is_named",
    ),
    (
        "`opsadmin crd | kubectl apply --server-side -f -`",
        "controller/rights.rs",
        "from_an_empty_cluster_its_role_is_all_that_it_needs",
    ),
    (
        "a controller needs it: `opsadmin render` prints its role",
        "controller/rights.rs",
        "from_an_empty_cluster_its_role_is_all_that_it_needs",
    ),
    (
        "`opsadmin render --plan-rights NAMESPACE` prints the rights",
        "controller/plan_reads.rs",
        "what_it_may_not_list_is_said_with_the_way_out",
    ),
    ("its controller or `opsadmin apply` restores it", "cli/advice.rs", "what_the_doctor_says_of_keys_puts_them_right"),
    (
        "is written by the next `opsadmin apply`",
        "cli/staff_commands.rs",
        "a_rotation_makes_one_pair_that_the_next_apply_hands_out",
    ),
    (
        "hand the keys over with `opsadmin get {} --show-secret`",
        "cli/queries.rs",
        "a_secret_key_is_shown_on_a_terminal_and_nowhere_else",
    ),
    (
        "more did not fit in here: run `opsadmin plan` to see them",
        "cli/plan.rs",
        "a_comment_for_a_pull_request_shows_one_good_and_one_bad_change",
    ),
    (
        "remove its manifest and run `opsadmin apply --prune`; `opsadmin suspend NAME` stops it",
        "cli/advice.rs",
        "whoever_wants_to_delete_an_account_is_not_sent_to_release_deletions",
    ),
    ("`opsadmin export` writes {manifests}", "cli/fleet.rs", "a_fleet_moves_in_and_every_partner_keeps_its_keys"),
    (
        "`opsadmin apply --prune` disables an account instead of retaining it",
        "controller/ownership.rs",
        "accounts_of_apply_move_to_a_controller_and_back_with_their_keys",
    ),
    (
        "import them with `opsadmin import` and set spec.adoptionPolicy",
        "cli/advice.rs",
        "keys_that_nothing_proves_are_brought_in_or_left_as_the_message_says",
    ),
    (
        "`keyring rotate --only reseal` seals them with the new key",
        "cli/keyring.rs",
        "a_key_that_is_still_needed_stays_and_the_rest_is_done",
    ),
    (
        "run with --confirm-creation",
        "cli/creation.rs",
        "a_mistyped_database_makes_nothing_anew_beside_the_secrets_of_another",
    ),
    (
        "To let another resource take it over, OpsAdmin's staff run `{command}`",
        "cli/adoption.rs",
        "a_retained_account_is_given_to_another_namespace_only_once_staff_have_named_it",
    ),
];

/// Texts that name a command and give no advice.
const NO_STEP: [&str; 2] =
    ["the JSON that `opsadmin keyring init` writes", "if `opsadmin keyring rotate` removed it for another database"];

#[test]
fn every_advised_command_is_run_by_a_test() {
    for (said, file, test) in DONE {
        let text = fs::read_to_string(repository("tests/suite").join(file)).expect(file);
        assert!(text.contains(&format!("fn {test}(")), "{said}: {file} has no test {test}");
    }
    let mut files = Vec::new();
    collect(&repository("src"), &mut files);
    let (mut unknown, mut found) = (Vec::new(), Vec::new());
    for file in files {
        let messages = messages(&fs::read_to_string(&file).expect("it is text"));
        found.extend(DONE.iter().map(|(said, ..)| *said).filter(|said| messages.contains(said)));
        let known = DONE.iter().map(|(said, ..)| *said).chain(NO_STEP);
        let rest = known.fold(messages, |rest, said| rest.replace(said, ""));
        for (at, _) in rest.match_indices("`opsadmin ") {
            let around: String = rest[..at].chars().rev().take(60).collect::<Vec<_>>().into_iter().rev().collect();
            let after: String = rest[at..].chars().take(60).collect();
            unknown.push(format!("{}: …{around}{after}…", file.display()));
        }
    }
    assert!(unknown.is_empty(), "no test does what these say:\n{}", unknown.join("\n"));
    let gone: Vec<&str> = DONE.iter().map(|(said, ..)| *said).filter(|said| !found.contains(said)).collect();
    assert!(gone.is_empty(), "no message says this any more: {gone:?}");
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_dir() && !path.ends_with("tests") {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// Returns the lines of a source file without comments and tests. Texts that span several lines are joined.
fn messages(source: &str) -> String {
    let program = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut text = String::new();
    for line in program.lines().filter(|line| !line.trim_start().starts_with("//")) {
        let begun = line.strip_suffix('\\');
        text += begun.unwrap_or(line).trim_start();
        if begun.is_none() {
            text.push('\n');
        }
    }
    text
}
