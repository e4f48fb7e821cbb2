//! The commands that only read work with the right to read, and leave no file behind.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::staff_database::{StaffDatabase, refused};
use crate::database_contract::page::statements;
use crate::support::names::unique;
use crate::support::opsadmin::Opsadmin;
use crate::support::run::{Finished, run};

const READ_COMMANDS: [&[&str]; 5] =
    [&["get"], &["get", "acme"], &["check", "acme"], &["history", "acme"], &["affiliates", "list"]];

#[tokio::test]
async fn a_read_only_user_can_run_only_the_commands_that_read() {
    let office = StaffDatabase::postgres("reader").await;
    office.apply(&[("acme", json!({}))]).await;
    let reader = unique("reader");
    for sql in [
        format!(r#"CREATE ROLE "{reader}" LOGIN PASSWORD 'reads'"#),
        format!(r#"GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{reader}""#),
    ] {
        office.by_hand(&sql).await;
    }
    let (_, server) = office.database.url().rsplit_once('@').expect("somebody logs in");
    let url = format!("postgres://{reader}:reads@{server}");
    let call = async |arguments: &[&str]| Opsadmin::new().args(arguments).args(["--database", &url]).run().await;
    for read_command in READ_COMMANDS {
        call(read_command).await.succeeded();
    }
    refused(&call(&["affiliates", "add", "North"]).await, 1, "permission denied for table affiliates");
    office.by_hand(&format!(r#"DROP OWNED BY "{reader}""#)).await;
    office.by_hand(&format!(r#"DROP ROLE "{reader}""#)).await;
}

#[tokio::test]
async fn the_doctor_reports_missing_database_rights_until_they_are_granted() {
    let office = StaffDatabase::postgres("few rights").await;
    office.apply(&[("acme", json!({}))]).await;
    let user = unique("writer");
    office.by_hand(&format!(r#"CREATE ROLE "{user}" LOGIN PASSWORD 'writes'"#)).await;
    office.by_hand(&format!(r#"GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{user}""#)).await;
    office.by_hand(&format!(r#"REVOKE SELECT ON key_uses FROM PUBLIC, "{user}""#)).await;
    let (_, server) = office.database.url().rsplit_once('@').expect("somebody logs in");
    let url = format!("postgres://{user}:writes@{server}");
    let doctor = async || {
        let call = Opsadmin::new().args(["doctor", "--database", &url, "--keyring"]).args([office.keyring()]);
        call.args(["--secrets"]).args([office.secrets()]).run().await
    };
    let few = doctor().await;
    assert_eq!(few.status.code(), Some(2), "{few:?}");
    for missing in
        ["UPDATE accounts", "DELETE account_keys", "INSERT revoked_keys", "INSERT account_journal", "SELECT key_uses"]
    {
        let said = format!("rights: the database: the database's user may not {missing}; grant it");
        assert!(few.stdout.contains(&said), "{said}: {few:?}");
    }
    let without_uses = Opsadmin::new().args(["get", "acme", "--database", &url]).run().await;
    assert!(without_uses.stderr.contains("cannot show when the key pairs were used"), "{without_uses:?}");
    assert!(without_uses.succeeded().contains("LAST USED"));
    office.by_hand(&format!(r#"GRANT ALL ON ALL TABLES IN SCHEMA public TO "{user}""#)).await;
    doctor().await.succeeded();
    office.by_hand(&format!(r#"DROP OWNED BY "{user}""#)).await;
    office.by_hand(&format!(r#"DROP ROLE "{user}""#)).await;
}

async fn doctor_of_auth_server(office: &StaffDatabase, role: &str) -> Finished {
    let call = Opsadmin::new().args(["doctor", "--auth-server-role", role, "--database", office.database.url()]);
    call.args(["--keyring"]).args([office.keyring()]).args(["--secrets"]).args([office.secrets()]).run().await
}

fn finding(role: &str, problem: &str, remedy: &str) -> String {
    format!("rights: the role {role} of an auth server: it {problem}; run `{remedy}` in the database\n")
}

async fn grant_what_is_on_the_page(office: &StaffDatabase, role: &str) {
    let page = statements()["The rights of an auth server"].replace("opsadmin_auth", &format!("\"{role}\""));
    for grant in page.split_inclusive(';').filter(|grant| !grant.trim().is_empty()) {
        office.by_hand(grant).await;
    }
}

#[tokio::test]
async fn the_doctor_says_which_statement_takes_from_an_auth_server_what_it_does_not_need() {
    let office = StaffDatabase::postgres("auth role excess").await;
    office.apply(&[("acme", json!({}))]).await;
    let (role, group) = (unique("auth"), unique("group"));
    office.by_hand(&format!(r#"CREATE ROLE "{role}" LOGIN"#)).await;
    office.by_hand(&format!(r#"CREATE ROLE "{group}""#)).await;
    grant_what_is_on_the_page(&office, &role).await;
    for excess in [
        format!(r#"GRANT UPDATE (enabled) ON accounts TO "{role}""#),
        "GRANT INSERT ON account_journal TO PUBLIC".to_owned(),
        format!(r#"GRANT DELETE ON account_keys TO "{group}""#),
        format!(r#"GRANT "{group}" TO "{role}""#),
        format!(r#"GRANT pg_read_all_data TO "{role}""#),
        format!(r#"ALTER TABLE affiliates OWNER TO "{role}""#),
    ] {
        office.by_hand(&excess).await;
    }
    let found = doctor_of_auth_server(&office, &role).await;
    assert_eq!(found.status.code(), Some(2), "{found:?}");
    for (problem, remedy) in [
        ("may UPDATE accounts, which it does not need", format!(r#"REVOKE UPDATE ON accounts FROM "{role}""#)),
        (
            "may INSERT account_journal, which it does not need",
            "REVOKE INSERT ON account_journal FROM PUBLIC".to_owned(),
        ),
        ("may DELETE account_keys, which it does not need", format!(r#"REVOKE "{group}" FROM "{role}""#)),
        ("may SELECT account_journal, which it does not need", format!(r#"REVOKE pg_read_all_data FROM "{role}""#)),
        ("owns affiliates", "ALTER TABLE affiliates OWNER TO".to_owned()),
    ] {
        let said = finding(&role, problem, &remedy);
        let beginning = said.split_once("` in").map_or(said.as_str(), |(beginning, _)| beginning);
        assert!(found.stdout.contains(beginning), "{beginning}: {found:?}");
    }
    for remedy in found.stdout.lines().filter_map(|line| line.split('`').nth(1)) {
        office.by_hand(remedy).await;
    }
    doctor_of_auth_server(&office, &role).await.succeeded();

    office.by_hand(&format!(r#"ALTER ROLE "{role}" SUPERUSER"#)).await;
    let found = doctor_of_auth_server(&office, &role).await;
    let only = finding(&role, "is a superuser", &format!(r#"ALTER ROLE "{role}" NOSUPERUSER"#));
    assert!(found.stdout.starts_with(&only) && found.stdout.contains("1 finding"), "{found:?}");
    for role in [role, group] {
        office.by_hand(&format!(r#"DROP OWNED BY "{role}""#)).await;
        office.by_hand(&format!(r#"DROP ROLE "{role}""#)).await;
    }
}

#[tokio::test]
async fn the_doctor_says_which_statement_gives_an_auth_server_what_it_lacks() {
    let office = StaffDatabase::postgres("auth role rights").await;
    office.apply(&[("acme", json!({}))]).await;
    let role = unique("auth");
    let doctor = async || doctor_of_auth_server(&office, &role).await;
    let said = |problem: &str, remedy: &str| finding(&role, problem, remedy);
    let missing = doctor().await;
    assert_eq!(missing.status.code(), Some(2), "{missing:?}");
    let create = format!(r#"CREATE ROLE "{role}" LOGIN"#);
    assert!(missing.stdout.contains(&said("does not exist", &create)), "{missing:?}");

    office.by_hand(&format!(r#"CREATE ROLE "{role}" NOLOGIN"#)).await;
    office.by_hand("REVOKE USAGE ON SCHEMA public FROM PUBLIC").await;
    let few = doctor().await;
    for (problem, remedy) in [
        ("may not log in", format!(r#"ALTER ROLE "{role}" LOGIN"#)),
        ("may not use the schema public", format!(r#"GRANT USAGE ON SCHEMA public TO "{role}""#)),
        ("may not SELECT account_keys", format!(r#"GRANT SELECT ON account_keys TO "{role}""#)),
        ("may not DELETE login_assertions", format!(r#"GRANT DELETE ON login_assertions TO "{role}""#)),
    ] {
        assert!(few.stdout.contains(&said(problem, &remedy)), "{problem}: {few:?}");
    }
    let remedies: Vec<&str> = few.stdout.lines().filter_map(|line| line.split('`').nth(1)).collect();
    for remedy in remedies.iter().filter(|remedy| !remedy.contains(" ON ") || remedy.contains("SCHEMA")) {
        office.by_hand(remedy).await;
    }
    // The rights on the page suffice, and it asks for no others.
    let page = &statements()["The rights of an auth server"];
    grant_what_is_on_the_page(&office, &role).await;
    doctor().await.succeeded();
    let granted: Vec<(BTreeSet<&str>, BTreeSet<&str>)> = page.split(';').filter_map(privileges).collect();
    for remedy in remedies.iter().filter(|remedy| remedy.contains(" ON ") && !remedy.contains("SCHEMA")) {
        let (privilege, table) = privileges(remedy).expect("it grants something");
        let is_on_the_page =
            granted.iter().any(|(privileges, tables)| privilege.is_subset(privileges) && table.is_subset(tables));
        assert!(is_on_the_page, "{remedy}: {granted:?}");
    }
    office.by_hand(&format!(r#"DROP OWNED BY "{role}""#)).await;
    office.by_hand(&format!(r#"DROP ROLE "{role}""#)).await;

    let file = StaffDatabase::sqlite().await;
    file.apply(&[("acme", json!({}))]).await;
    let call = Opsadmin::new().args(["doctor", "--auth-server-role", "a", "--database", file.database.url()]);
    let unchecked = call.args(["--keyring"]).args([file.keyring()]).run().await;
    assert_eq!(unchecked.status.code(), Some(1), "{unchecked:?}");
    assert!(unchecked.stderr.contains("leave --auth-server-role out"), "{unchecked:?}");
}

/// Returns which privileges a statement grants, and on which tables.
fn privileges(grant: &str) -> Option<(BTreeSet<&str>, BTreeSet<&str>)> {
    let (privileges, rest) = grant.split_once("GRANT ")?.1.split_once(" ON ")?;
    let (tables, _) = rest.split_once(" TO ")?;
    Some((privileges.split(',').map(str::trim).collect(), tables.split(',').map(str::trim).collect()))
}

#[tokio::test]
async fn a_read_only_database_file_is_read_without_new_files() {
    let office = StaffDatabase::sqlite().await;
    office.apply(&[("acme", json!({}))]).await;
    let file = office.database.file().expect("a file");
    let folder = file.parent().expect("a folder");
    let before = fs::read(&file).expect("it can be read");
    let program = folder.join("opsadmin");
    fs::copy(env!("CARGO_BIN_EXE_opsadmin"), &program).expect("it can be copied");
    for path in [folder, &program] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).expect("it is ours");
    }
    fs::set_permissions(&file, fs::Permissions::from_mode(0o444)).expect("it is ours");
    // File modes do not restrict root, so root runs the program as another user.
    let as_reader = |arguments: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", r#"if [ "$(id -u)" = 0 ]; then exec setpriv --reuid=65534 --regid=65534 --clear-groups -- "$@"; fi; exec "$@""#, "sh"]);
        command.arg(&program).args(arguments).args(["--database", office.database.url()]).current_dir(folder);
        run(command, "", Duration::from_mins(1))
    };
    for read_command in READ_COMMANDS {
        as_reader(read_command).await.succeeded();
    }
    refused(&as_reader(&["affiliates", "add", "North"]).await, 1, "attempt to write a readonly database");
    assert!(fs::read(&file).expect("it can be read") == before);
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).expect("it is ours");
    assert_eq!(fs::read_dir(folder).expect("it can be listed").count(), 2);
}

#[tokio::test]
async fn the_commands_that_read_create_no_database_and_no_tables() {
    let office = StaffDatabase::sqlite().await;
    let folder = office.keyring().parent().expect("a folder").to_owned();
    for (name, said) in [
        ("none.db", "there is no such file, and this command makes none"),
        ("empty.db", "of this program's migrations; run `opsadmin migrate`"),
    ] {
        if name == "empty.db" {
            fs::write(folder.join(name), "").expect("it can be written");
        }
        let url = format!("sqlite://{}", folder.join(name).display());
        let before = fs::read_dir(&folder).expect("it can be listed").count();
        for read_command in READ_COMMANDS {
            refused(&Opsadmin::new().args(read_command).args(["--database", &url]).run().await, 1, said);
        }
        assert_eq!(fs::read_dir(&folder).expect("it can be listed").count(), before);
    }
    assert_eq!(fs::metadata(folder.join("empty.db")).expect("it is there").len(), 0);
}
