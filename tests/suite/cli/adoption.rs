//! Which namespace may adopt an account that no resource declares: the namespace that had it, the namespace that it was
//! imported for, and the namespace that OpsAdmin staff named.

use std::fs;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::working_folder::{WorkingFolder, account};
use crate::support::opsadmin::Opsadmin;
use crate::support::run::Finished;

impl WorkingFolder {
    async fn call(&self, arguments: &[&str]) -> Finished {
        let call = Opsadmin::new().args(arguments).args(["--database", &self.database, "--actor", "maria"]);
        call.run().await
    }

    /// Writes the manifest of an account in this namespace, with `adoptionPolicy: IfUnowned`.
    fn write_adopting_account(&self, namespace: &str, name: &str) {
        let text = account(name, "{ name: Acme, roles: [Administrator], adoptionPolicy: IfUnowned }");
        self.write("wants.yaml", &text.replace("metadata:\n", &format!("metadata:\n  namespace: {namespace}\n")));
    }
}

#[tokio::test]
async fn a_retained_account_is_given_to_another_namespace_only_once_staff_have_named_it() {
    let desk = WorkingFolder::new();
    desk.write_adopting_account("partners", "acme");
    desk.apply(&[]).await.succeeded();
    let file = SqliteConnectOptions::new().filename(desk.path("opsadmin.db"));
    let sql = SqlitePool::connect_with(file).await.expect("it is there");
    sqlx::query("UPDATE accounts SET retained_at = 5").execute(&sql).await.expect("it is let go");
    sql.close().await;

    desk.write_adopting_account("tenant", "acme");
    let refused = desk.apply(&[]).await;
    let said = "it is kept for the namespace partners of the cluster local, which had it. To let another resource take it \
                over, OpsAdmin's staff run `opsadmin allow-adoption ";
    assert!(refused.stderr.contains(said), "{refused:?}");
    let taken = desk.path("secrets/tenant.acme-opsadmin.yaml");
    assert!(!taken.exists(), "its keys stay where they are");
    let command = refused.stderr.split('`').nth(1).expect("it names a command").to_owned();
    let allowed = desk.call(&command.split(' ').skip(1).collect::<Vec<_>>()).await.succeeded();
    assert_eq!(allowed, "Acme may be taken over by local/tenant\n");
    desk.apply(&[]).await.succeeded();
    let key = |file: &str| {
        let text = fs::read_to_string(desk.path(file)).expect("it is there");
        text.lines().find(|line| line.contains("OPSADMIN_API_KEY:")).expect("it has a key").to_owned()
    };
    assert_eq!(key("secrets/tenant.acme-opsadmin.yaml"), key("secrets/partners.acme-opsadmin.yaml"));
    let history = Opsadmin::new().args(["history", "Acme", "--database", &desk.database]).run().await.succeeded();
    assert!(history.contains("adoption allowed") && history.contains("cli:maria"), "{history}");

    let declared = desk.call(&["allow-adoption", "tenant/acme", "--to", "other", "--cluster-id", "x"]).await;
    assert!(declared.stderr.contains("the ApiAccount local/tenant/acme declares the account Acme"), "{declared:?}");
}

#[tokio::test]
async fn only_the_intended_namespace_can_adopt_an_imported_account() {
    let desk = WorkingFolder::new();
    let line = r#"{"name": "Acme", "roles": ["Administrator"], "apiKey": "legacy-1", "secretKey": "legacy-secret-0123456789"}"#;
    fs::write(desk.path("fleet.jsonl"), format!("{line}\n")).expect("it can be written");
    let import = Opsadmin::new().args(["import", "--for", "partners", "--cluster-id", "local"]);
    let import = import.args(["--database", &desk.database]).args([desk.path("fleet.jsonl")]);
    import.run().await.succeeded();
    let exported = Opsadmin::new().args(["export", "--database", &desk.database]).run().await.succeeded();
    assert!(exported.contains("namespace: partners"), "{exported}");

    desk.write_adopting_account("tenant", "acme");
    let refused = desk.apply(&[]).await;
    assert!(
        refused.stderr.contains("it is for local/partners. To let another resource take it over, OpsAdmin's staff run"),
        "{refused:?}"
    );
    desk.write_adopting_account("partners", "any-name");
    desk.apply(&[]).await.succeeded();
}

#[tokio::test]
async fn a_permission_to_adopt_can_be_withdrawn_and_a_controller_requires_it() {
    let desk = WorkingFolder::new();
    let line = r#"{"name": "Acme", "apiKey": "legacy-1", "secretKey": "legacy-secret-0123456789"}"#;
    fs::write(desk.path("fleet.jsonl"), format!("{line}\n")).expect("it can be written");
    let import = Opsadmin::new().args(["import", "--database", &desk.database]).args([desk.path("fleet.jsonl")]);
    import.run().await.succeeded();
    desk.call(&["allow-adoption", "Acme", "--to", "partners/acme", "--cluster-id", "local"]).await.succeeded();
    desk.write_adopting_account("partners", "other");
    assert_eq!(desk.apply(&[]).await.status.code(), Some(1));
    desk.call(&["allow-adoption", "Acme", "--nobody"]).await.succeeded();
    let refused = desk.apply(&["--unassigned-accounts", "refuse"]).await;
    assert!(
        refused
            .stderr
            .contains("it was imported for no namespace. To let another resource take it over, OpsAdmin's staff run"),
        "{refused:?}"
    );
    desk.apply(&[]).await.succeeded();
}
