//! `docs/reference.md` is generated from the code. The test fails if the page lacks a field, a reason or an event.

use std::collections::BTreeMap;
use std::env;
use std::fs;

use clap::CommandFactory as _;
use opsadmin_operator::api::{
    ACCOUNT_LABEL, ACCOUNT_LABEL_VALUE, APPLIED_ANNOTATION, CHANGED_BY_ANNOTATION, CONFIRM_CREATION_ANNOTATION,
    CONFIRM_DELETION_ANNOTATION, FINALIZER, IMPORTED_ANNOTATION, MANAGED_BY_LABEL, MANAGER, MARK_ANNOTATION,
    OLD_KEYS_IN_USE, OWNER_ANNOTATION, PAUSED_ANNOTATION, ROTATE_ANNOTATION, Reason, condition,
};
use opsadmin_operator::cli::Cli;
use opsadmin_operator::reconcile::Done;

use super::schema::{cell, fields, rules, schema};
use super::{page, repository};

const PAGE: &str = "docs/reference.md";
const WRITE: &str = "OPSADMIN_TEST_WRITE";
const REGENERATE: &str = "OPSADMIN_TEST_WRITE=1 cargo test --test suite guides::reference";

const OPENING: &str = "# Reference

Fields, conditions, events, annotations, variables and exit codes. This page is made from the code by a test, and held to it:
do not edit it. Commands and what they print are in [commands.md](commands.md), metrics in [metrics.md](metrics.md), tables in
[database.md](database.md).
";

#[test]
fn the_page_is_current() {
    let text = reference();
    if env::var_os(WRITE).is_some() {
        fs::write(repository(PAGE), &text).expect("it can be written");
    }
    let found = fs::read_to_string(repository(PAGE)).unwrap_or_default();
    let differs = text.lines().zip(found.lines()).find(|(new, old)| new != old);
    assert!(text == found, "{PAGE} is not current: {differs:?}; make it anew with: {REGENERATE}");
}

#[test]
fn the_readme_and_the_metrics_page_have_every_reason() {
    let (readme, metrics) = (page("README.md"), page("docs/metrics.md"));
    for reason in Reason::ALL {
        assert!(readme.contains(&format!("| `{reason}` |")), "README.md has no row for {reason}");
        assert!(metrics.contains(&format!("`{reason}`")), "docs/metrics.md has no {reason}");
    }
    for reason in Done::REASONS {
        assert!(metrics.contains(&format!("`{reason}`")), "docs/metrics.md has no {reason}");
    }
}

fn reference() -> String {
    let sections = [spec(), status(), conditions(), events(), annotations(), variables(), exit_codes()];
    format!("{OPENING}\n{}", sections.join("\n"))
}

fn table(head: &str, rows: impl IntoIterator<Item = String>) -> String {
    let line = head.split(" | ").map(|_| "---").collect::<Vec<_>>().join("|");
    rows.into_iter().fold(format!("| {head} |\n|{line}|\n"), |table, row| table + "| " + &row + " |\n")
}

fn spec() -> String {
    let schema = schema("spec");
    let mut text = String::from("## Spec\n\nWhat `kubectl explain apiaccount.spec` says, in one table.\n\n");
    text += &table("field | type | default | limits | meaning", []);
    fields("", &schema, &mut text);
    text += "\nThe API server and `opsadmin validate` also refuse what breaks one of these:\n\n";
    rules("", &schema, &mut text);
    text
}

fn status() -> String {
    let mut text = String::from("## Status\n\n");
    text += &table("field | type | default | limits | meaning", []);
    fields("", &schema("status"), &mut text);
    text
}

fn conditions() -> String {
    let types = [
        (
            condition::READY,
            "whether account and Secret are as declared; always present. Unknown: they could not be read",
        ),
        (condition::RECONCILING, "true while work goes on by itself, and else not there"),
        (
            condition::STALLED,
            "true while something is wrong that stays so until a person does something, and else not there",
        ),
        (
            condition::CANNOT_LOG_IN,
            "true while nobody can log in at an auth server with the key pair in the Secret, and else not there; the reason \
             `SecretKeyTooShort`: an imported secret key has fewer than 32 characters, so rotate the keys. Ready is not \
             affected, because account and Secret are as declared",
        ),
    ];
    let types = types.map(|(name, meaning)| format!("`{name}` | {meaning}"));
    let reasons = Reason::ALL.map(|reason| {
        let (ready, meaning, way_out) = reason_in_words(reason);
        format!("`{reason}` | {ready} | {meaning} | {way_out}")
    });
    format!(
        "## Conditions\n\n{}\nThe first three give the same reason, and a message that says which field, who and what:\n\n{}",
        table("type | meaning", types),
        table("reason | Ready | meaning | what to do", reasons)
    )
}

/// Returns the status of the Ready condition for a reason, the meaning of the reason, and how to solve it.
#[expect(clippy::too_many_lines, reason = "a table with one row for each reason")]
fn reason_in_words(reason: Reason) -> (&'static str, &'static str, &'static str) {
    match reason {
        Reason::Reconciled => ("True", "account and Secret are as declared", "nothing"),
        Reason::InvalidSpec => (
            "False",
            "a field says what no account can be, and got past the API server; the account stays as it was",
            "correct the field",
        ),
        Reason::NameTaken => (
            "False",
            "another account has the name: of another resource of this cluster, or of none if this resource has an account already",
            "choose another `spec.name`, or rename or delete the holder; goes on by itself when the name is free",
        ),
        Reason::AdoptionRequired => (
            "False",
            "an account of the name exists that no resource declares",
            "set `spec.adoptionPolicy: IfUnowned` to take it over with its keys; if it is for another namespace, have staff run \
             the command that the message names; or choose another name: \
             [adoption](lifecycle.md#accounts-that-exist-already)",
        ),
        Reason::OwnedElsewhere => (
            "False",
            "another cluster declares the account, or another resource of this one does and it was to be adopted",
            "retain the account there first: [moving](lifecycle.md#moving-an-account-to-another-cluster)",
        ),
        Reason::AllowedIPsMissing => (
            "False",
            "the account has a list of addresses and the resource has no `allowedIPs`, not even an empty list; the account keeps its list, and everything else is as declared",
            "write `spec.allowedIPs` with the list, or `[]` if any address is meant: [wider access](lifecycle.md#wider-access)",
        ),
        Reason::UnknownAffiliate => (
            "False",
            "OpsAdmin does not know the affiliate; nothing was changed",
            "correct `spec.affiliate`, or have it registered in OpsAdmin",
        ),
        Reason::SecretConflict => (
            "False",
            "a foreign Secret has the name and is not changed, or the Secret holds the API key of another account",
            "delete or rename that Secret, or choose another `spec.secret.name`",
        ),
        Reason::SecretUnavailable => (
            "False",
            "the API server refuses the Secret: permissions, a quota, an admission policy, a namespace that is being deleted",
            "do what the message says; the controller tries again by itself",
        ),
        Reason::SecretRewritten => (
            "False",
            "something changes the Secret while it is written, and what it changes is not as declared",
            "exempt Secrets with the label `ops-admin.com/account` from that policy or webhook: \
             [policies](platform-team.md#policies-that-change-secrets)",
        ),
        Reason::DatabaseUnavailable => (
            "Unknown",
            "the account database does not answer or refuses",
            "check the database; if `Stalled` is also true, check what the message names",
        ),
        Reason::AccountRewritten => (
            "False",
            "something in the account database, such as a trigger, changes what is written; what would let in more than declared is \
             not written at all",
            "the message names each field; change the trigger, or declare what it stores",
        ),
        Reason::RepeatedDrift => (
            "False",
            "something else changes the account in the database, or its Secret, again and again; the controller corrects it less and less often: \
             [drift](reliability.md#drift-that-comes-again-and-again)",
            "find what writes there, and stop it; the condition ends by itself ten minutes after the last change",
        ),
        Reason::KeyringMismatch => (
            "False",
            "the keyring lacks the key that the account's secret key is sealed with, or the sealed key was altered",
            "start the controller with the correct keyring, or restore the row, as the message says",
        ),
        Reason::KeysMissing => (
            "False",
            "somebody removed the account's keys from the database, and its Secret does not hold them either",
            "restore the account's row in `account_keys` from a backup",
        ),
        Reason::NoRandomness => (
            "False",
            "the controller's machine returns no random bytes, which new keys need",
            "check that machine; the controller tries again by itself",
        ),
        Reason::Contended => (
            "Unknown",
            "other programs changed the same account, Secret or resource during each attempt",
            "nothing, unless it stays: then find what writes there",
        ),
        Reason::DeletionHeld => (
            "False",
            "too many accounts would lose access at once, or other deletions already wait for a confirmation; this account stays as it is",
            "find out who deleted the resources; confirm the deletion (of `apply --prune`: `--deletion-brake 100`) or bring the resources back: \
             [mass deletions](reliability.md#mass-deletions)",
        ),
        Reason::CreationHeld => (
            "False",
            "the database lacks the account that the resource had, and it is not the same database as before, or it lacks many other \
             accounts too; no account is created",
            "correct `--database` or restore the database, and it ends by itself; if a new account is meant, confirm it: \
             [the wrong database](reliability.md#the-wrong-database)",
        ),
        Reason::Suspended => (
            "False",
            "OpsAdmin staff suspended the account, whatever its resource says; the message has their reason",
            "only OpsAdmin staff can resume it",
        ),
        Reason::Paused => (
            "Unknown",
            "an annotation pauses the resource: the controller changes nothing, except that it still handles a deletion",
            "remove the annotation",
        ),
        Reason::Drifted => (
            "False",
            "`managementPolicy: Observe`, and something differs: `status.drift` says what",
            "change the spec to what the account is, or set `managementPolicy: Enforce` to change the account to what the spec says",
        ),
        Reason::Frozen => (
            "False",
            "the controller is frozen (`--freeze`), and something is left to do: `status.drift` says what",
            "wait for the end of the freeze, which the operators of the controller decide: [freeze](reliability.md#freeze)",
        ),
        Reason::InternalError => (
            "Unknown",
            "a bug: the controller failed while it reconciled this resource; other resources are not affected",
            "report the bug with the controller's log; the controller tries again by itself",
        ),
    }
}

fn events() -> String {
    let rows = Done::REASONS.map(|reason| format!("`{reason}` | {}", done_in_words(reason)));
    format!(
        "## Events\n\nEach change is reported once, as a Normal event with one of these reasons and a note that lists the fields, \
         old to new; never a key. A change of the Secret that follows from a change of the account is in the note of that \
         change's event: `Created` also says that the Secret was written, and `Disabled` that it was deleted. A new refusal is reported once, as a Warning with the reason of the condition. The Warning \
         `{OLD_KEYS_IN_USE}` is reported once when a partner logs in with an old key pair in the second half of its overlap.\n\n{}",
        table("reason | what was done", rows)
    )
}

fn done_in_words(reason: &str) -> &'static str {
    match reason {
        "Created" => "the account and its keys were created",
        "Recovered" => "somebody had deleted the account's row; it was created again with the keys from its Secret",
        "Restored" => "the account was declared again after a deletion; it works again with its old keys",
        "Updated" => "fields of the account were changed as declared",
        "Adopted" => "an account that no resource declared was adopted with its keys",
        "Rotated" => {
            "the controller gave the account new keys; the note says why, and until when the old key pair works. After `opsadmin rotate` \
             there is `SecretUpdated` alone"
        }
        "Revoked" => "key pairs whose overlap had ended were removed",
        "DriftCorrected" => "somebody had changed the account in the database; the change was corrected",
        "KeyRestored" => "somebody had deleted the account's keys in the database; they were restored from its Secret",
        "Disabled" => "the resource was deleted, and the account stopped authenticating",
        "Retained" => {
            "the resource was deleted with `deletionPolicy: Retain` or `managementPolicy: Observe`; the account stays as it is"
        }
        "SecretWritten" => "the Secret was created for an account that was there",
        "SecretUpdated" => "the Secret was updated after `opsadmin rotate`, or after a change of `spec.secret`",
        "SecretPutBack" => "somebody had changed the Secret; the change was corrected",
        "SecretRemoved" => "the Secret of an account that had lost its access before was deleted",
        "SecretReleased" => "the resource was deleted, and the Secret stays; the account was retained before",
        other => panic!("say here what {other} means"),
    }
}

fn annotations() -> String {
    let ours = format!("{ACCOUNT_LABEL}={ACCOUNT_LABEL_VALUE}");
    let managed = format!("{MANAGED_BY_LABEL}={MANAGER}");
    let rows = [
        (
            ROTATE_ANNOTATION,
            "ApiAccount, by you",
            "any text of up to 256 characters; the keys are replaced whenever it changes to another one",
        ),
        (PAUSED_ANNOTATION, "ApiAccount, by you", "`true`: everything stays as it is, but for a deletion"),
        (
            CONFIRM_CREATION_ANNOTATION,
            "ApiAccount, by you",
            "the account id that its status names: has another account made in that one's place",
        ),
        (CONFIRM_DELETION_ANNOTATION, "ApiAccount, by you", "`true`: lets a deletion go that the brake holds"),
        (CHANGED_BY_ANNOTATION, "ApiAccount, by you or CI", "who changed it, for the journal; nobody checks it"),
        (
            FINALIZER,
            "ApiAccount, a finalizer",
            "keeps a resource that has a live account until that no longer authenticates, or is left as it is",
        ),
        (OWNER_ANNOTATION, "Secret", "whose it is: `CLUSTER/NAMESPACE/NAME`"),
        (
            MARK_ANNOTATION,
            "Secret",
            "shows that this program wrote the keys: a key id of the keyring and an HMAC over owner and pair",
        ),
        (APPLIED_ANNOTATION, "Secret", "which labels and annotations came from `spec.secret`"),
        (IMPORTED_ANNOTATION, "Secret", "that its keys were made elsewhere, and under which data keys they stand"),
        (
            &ours,
            "Secret, a label",
            "that it holds an account's keys; the controller watches Secrets with it, so leave it there",
        ),
        (&managed, "Secret, a label", "which program writes it, for people; the controller does not depend on it"),
    ];
    let rows = rows.map(|(name, on, meaning)| format!("`{name}` | {on} | {meaning}"));
    format!("## Annotations and labels\n\n{}", table("name | on | meaning", rows))
}

/// Returns a table of the environment variables that set an option, each with the commands that have the option.
fn variables() -> String {
    let mut found: BTreeMap<String, (String, Vec<String>)> = BTreeMap::new();
    for command in Cli::command().get_subcommands() {
        collect("", command, &mut found);
    }
    let rows = found.into_iter().map(|(variable, (option, commands))| {
        format!(
            "`{variable}` | `--{option}` | {}",
            commands.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        )
    });
    format!(
        "## Variables\n\nAn option on the command line counts before its variable. `RUST_LOG` narrows or widens what `controller` logs, \
         as in `RUST_LOG=opsadmin_operator=debug`.\n\n{}",
        table("variable | option | commands", rows)
    )
}

fn collect(above: &str, command: &clap::Command, found: &mut BTreeMap<String, (String, Vec<String>)>) {
    let name = if above.is_empty() { command.get_name().to_owned() } else { format!("{above} {}", command.get_name()) };
    for argument in command.get_arguments() {
        if let (Some(variable), Some(option)) = (argument.get_env().and_then(|text| text.to_str()), argument.get_long())
        {
            let entry = found.entry(variable.to_owned()).or_insert_with(|| (option.to_owned(), Vec::new()));
            entry.1.push(name.clone());
        }
    }
    for inner in command.get_subcommands() {
        collect(&name, inner, found);
    }
}

fn exit_codes() -> String {
    let rows = [
        (
            "0",
            "done; let in for `check`; nothing to do for `plan --detailed-exitcode`, nothing missing for `migrate --status`",
        ),
        ("1", "an error or a refusal, which standard error names"),
        (
            "2",
            "the command line was not understood; something to do for `plan --detailed-exitcode`, migrations are missing for \
              `migrate --status`",
        ),
        ("3", "not let in, for `check`"),
        (
            "130",
            "interrupted; `controller` ends with 0 then, once what was in flight is finished, and at once at a second signal \
              (130, or 143 for SIGTERM)",
        ),
    ];
    let rows = rows.map(|(code, meaning)| format!("{code} | {}", cell(meaning)));
    format!("## Exit codes\n\n{}", table("code | meaning", rows))
}
