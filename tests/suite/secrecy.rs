//! Secret values appear in no log, output, event, metric or status. The test runs the whole life of accounts with trace
//! logs, and searches all text.

mod auth_server;

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use crate::controller::scene::{SOON, Scene, texts};
use crate::support::http::get;
use crate::support::opsadmin::{Opsadmin, RunningController};
use crate::support::postgres::Postgres;

/// The prefix of every generated secret key.
const SECRET_KEY: &str = "opsa_sk_";
/// The value in a foreign Secret whose name an account wants.
const THEIRS: &str = "what-others-keep-in-their-Secrets";

/// The texts that must not be found, each with its description.
#[derive(Default)]
struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// Adds a text, as it is and in base64, in hexadecimal and as a list of bytes.
    fn add(&mut self, what: &str, text: &str) {
        self.0.push((what.to_owned(), text.to_owned()));
        self.0.push((format!("{what}, in base64"), BASE64_STANDARD_NO_PAD.encode(text)));
        self.add_bytes(what, text.as_bytes());
    }

    fn add_bytes(&mut self, what: &str, bytes: &[u8]) {
        let hex: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.push((format!("{what}, in hexadecimal"), hex.concat()));
        self.0.push((format!("{what}, as a list of bytes"), format!("{bytes:?}").trim_matches(['[', ']']).to_owned()));
    }

    /// Adds the values of all present Secrets. API keys go to `public`, and all other values are secret.
    async fn add_keys(&mut self, scene: &Scene, public: &mut Self) {
        for secret in scene.secrets().list(&ListParams::default()).await.expect("a list") {
            for (key, value) in texts(&secret) {
                if value.starts_with("opsa_pk_") {
                    public.0.push((format!("the API key in {key}"), value));
                } else {
                    self.add(&format!("the value of {key}"), &value);
                }
            }
        }
    }

    fn found_in(&self, text: &str) -> Vec<&str> {
        self.0.iter().filter(|(_, secret)| text.contains(secret)).map(|(what, _)| what.as_str()).collect()
    }
}

/// All collected text, each with its source.
#[derive(Default)]
struct Said(Vec<(String, String)>);

impl Said {
    fn add(&mut self, who: &str, text: String) {
        self.0.push((who.to_owned(), text));
    }

    /// Runs a command, checks whether it succeeds, and adds its output.
    async fn command(&mut self, arguments: &[&str], success: bool) {
        let finished = Opsadmin::new().args(arguments).env("RUST_LOG", "trace").run().await;
        assert_eq!(finished.status.success(), success, "{arguments:?}: {finished:?}");
        self.add(&arguments.join(" "), format!("{}{}", finished.stdout, finished.stderr));
    }

    async fn kubectl(&mut self, scene: &Scene, arguments: &[&str]) {
        let said = scene.cluster.kubectl(scene.namespace.name(), arguments).await.succeeded();
        self.add(&format!("kubectl {}", arguments.join(" ")), said);
    }
}

/// Returns every row of every table as text.
async fn dump(sql: &PgPool) -> String {
    let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename";
    let tables: Vec<String> = sqlx::query_scalar(tables).fetch_all(sql).await.expect("there are tables");
    let mut text = Vec::new();
    for table in tables {
        let rows = AssertSqlSafe(format!(r#"SELECT t::text FROM "{table}" t"#));
        let rows: Vec<String> = sqlx::query_scalar(rows).fetch_all(sql).await.expect("they can be read");
        text.push(table);
        text.extend(rows);
    }
    text.join("\n")
}

fn controller(scene: &Scene, url: &str, keyring: &Path) -> RunningController {
    let kubeconfig = scene.cluster.kubeconfig();
    let call = Opsadmin::new().args(["controller", "--log-format", "json", "--namespace", scene.namespace.name()]);
    let call = call.args(["--metrics-address", "127.0.0.1:0"]);
    let call = call.args(["--kubeconfig".as_ref(), kubeconfig.as_os_str(), "--keyring".as_ref(), keyring.as_os_str()]);
    // A filter that names a library must not widen more than one that names none.
    let filter = keyring.with_extension("filter");
    fs::write(&filter, "trace,kube_client=trace,kube_runtime=trace,sqlx=trace,hyper=trace").expect("it can be written");
    let call = call.args(["--log-filter-file".as_ref(), filter.as_os_str()]);
    call.env("OPSADMIN_DATABASE_URL", url).env("RUST_LOG", "trace").spawn()
}

/// Runs every command that ends by itself, both with success and with failure.
async fn run_every_command(said: &mut Said, url: &str, password: &str, keyring: &str) {
    said.command(&["keyring", "init", "--keyring", keyring], true).await;
    said.command(&["keyring", "init", "--keyring", keyring], false).await;
    said.command(&["crd"], true).await;
    said.command(&["migrate", "--database", url], true).await;
    said.command(&["migrate", "--database", &url.replace(password, &format!("{password}#"))], false).await;
    said.command(&["migrate", "--database", &url.replace("/t-", "/no-t-")], false).await;
    let (examples, folder) =
        (concat!(env!("CARGO_MANIFEST_DIR"), "/examples/quickstart"), format!("{keyring}.secrets"));
    said.command(&["validate", "-f", examples], true).await;
    let apply = ["apply", "-f", examples, "--secrets", &folder, "--database", url, "--keyring", keyring];
    said.command(&apply, false).await;
    said.command(&[&apply[..], &["--unknown-affiliate", "register"]].concat(), true).await;
    for look in [
        &["get"][..],
        &["get", "nightly-reports", "-o", "yaml"],
        &["check", "nightly-reports", "--ip", "192.0.2.10", "-o", "json"],
        &["history", "nightly-reports"],
        &["affiliates", "list"],
    ] {
        said.command(&[look, &["--database", url]].concat(), true).await;
    }
    for step_in in [
        &["suspend", "nightly-reports", "--reason", "unpaid"][..],
        &["resume", "nightly-reports", "-o", "json"],
        &["rotate", "nightly-reports", "--keyring", keyring],
        &["rotate", "nightly-reports", "--keyring", keyring, "--overlap", "0s", "--yes", "-o", "yaml"],
    ] {
        said.command(&[step_in, &["--database", url]].concat(), true).await;
    }
    let show = ["get", "nightly-reports", "--show-secret", "--database", url, "--keyring", keyring];
    said.command(&show, false).await;
    let written =
        fs::read_to_string(format!("{folder}/default.acme-portal-opsadmin.yaml")).expect("a Secret was written");
    assert!(written.contains(&BASE64_STANDARD_NO_PAD.encode(SECRET_KEY)[..10]), "it holds a secret key");
    said.0.iter_mut().for_each(|(who, _)| *who = who.replace(password, "..."));
}

/// Creates accounts that are refused, for a foreign Secret, for a taken name and for an unknown affiliate.
async fn create_refused_accounts(scene: &Scene) {
    let theirs = k8s_openapi::api::core::v1::Secret {
        metadata: ObjectMeta { name: Some("theirs".to_owned()), ..ObjectMeta::default() },
        string_data: Some([("password".to_owned(), THEIRS.to_owned())].into()),
        ..Default::default()
    };
    scene.secrets().create(&PostParams::default(), &theirs).await.expect("it is made");
    scene.create("conflict", json!({ "secret": { "name": "theirs" } })).await;
    scene.condition("conflict", "False", "SecretConflict").await;
    scene.create("taken", json!({ "name": "ACME" })).await;
    scene.condition("taken", "False", "NameTaken").await;
    scene.create("unknown", json!({ "affiliate": "North" })).await;
    scene.condition("unknown", "False", "UnknownAffiliate").await;
}

#[tokio::test]
async fn no_output_of_a_whole_life_contains_a_secret() {
    let mut scene = Scene::set("secrecy").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    let url = database.url().to_owned();
    let (login, _) = url.rsplit_once('@').expect("somebody logs in");
    let (_, password) = login.rsplit_once(':').expect("with a password");
    let password = password.to_owned();
    let keyring = scene.keyring.with_extension("searched");
    let (mut secrets, mut public, mut said) = (Secrets::default(), Secrets::default(), Said::default());
    secrets.add("the database's password", &password);

    run_every_command(&mut said, &url, &password, keyring.to_str().expect("it is text")).await;
    let key: Value = serde_json::from_str(&fs::read_to_string(&keyring).expect("it is there")).expect("it is JSON");
    let key = key["keys"][0]["key"].as_str().expect("it has a key").to_owned();
    secrets.add("the keyring's key", &key);
    secrets.add_bytes("the keyring's key", &BASE64_STANDARD.decode(&key).expect("it is base64"));

    scene.controller = Some(controller(&scene, &url, &keyring));
    for (name, spec) in [
        ("acme", json!({ "roles": ["Customer"] })),
        ("retained", json!({ "deletionPolicy": "Retain" })),
        ("again", json!({})),
    ] {
        scene.create(name, spec).await;
        scene.ready(name).await;
    }
    secrets.add_keys(&scene, &mut public).await;
    scene.change("acme", json!({ "description": "changed", "allowedIPs": ["203.0.113.7"] })).await;
    scene.ready("acme").await;
    let edit = Patch::Merge(json!({ "stringData": { "OPSADMIN_SECRET_KEY": "opsa_sk_wrong" } }));
    scene.secrets().patch("acme-opsadmin", &PatchParams::default(), &edit).await.expect("it is patched");
    scene.event("acme", "SecretPutBack").await;
    scene.change("acme", json!({ "secret": { "name": "moved", "keys": { "secretKey": "key" } } })).await;
    scene.ready("acme").await;

    create_refused_accounts(&scene).await;
    said.kubectl(&scene, &["describe", "apiaccounts"]).await;
    server.stop().await;
    scene.change("acme", json!({ "enabled": false })).await;
    scene.condition("acme", "Unknown", "DatabaseUnavailable").await;
    said.kubectl(&scene, &["describe", "apiaccounts"]).await;
    server.start().await;
    scene.ready("acme").await;
    secrets.add_keys(&scene, &mut public).await;
    scene.delete("retained").await;
    scene.delete("again").await;
    scene.create("again", json!({ "useRefreshToken": true })).await;
    scene.ready("again").await;
    scene.secrets().delete("again-opsadmin", &DeleteParams::default()).await.expect("it is deleted");
    scene.event_with("again", "SecretWritten", "again-opsadmin").await;
    scene.secret_where("again-opsadmin", "to come back", |_| true).await;
    secrets.add_keys(&scene, &mut public).await;
    let partner = texts(&scene.secrets().get("again-opsadmin").await.expect("the Secret is there"));
    auth_server::log_in(&mut said, &mut secrets, &partner, &url, &keyring).await;
    let address = scene.controller.as_ref().expect("a controller is running").address().await;
    for path in ["/metrics", "/livez", "/readyz"] {
        let answer = get(&address, path).await.expect("the controller answers");
        said.add(&format!("the controller's {path}"), format!("{}{}", answer.headers, answer.body));
    }
    let log = scene.stop().await;
    let other_keyring = scene.keyring.clone();
    let (code, refused) = controller(&scene, &url, &other_keyring).wait(SOON).await;
    assert_eq!(code, 1, "{refused}");

    said.add("the controller's log", log.clone());
    said.add("the log of a controller with another keyring", refused);
    said.add("the database server's log", server.log());
    said.add("the database", dump(&sqlx::PgPool::connect(&url).await.expect("it answers")).await);
    said.kubectl(&scene, &["get", "apiaccounts", "-o", "yaml", "--show-managed-fields"]).await;
    said.kubectl(&scene, &["describe", "apiaccounts"]).await;
    said.kubectl(&scene, &["get", "events.events.k8s.io", "-o", "yaml"]).await;

    // Checks the test itself: the search finds the secret values in the Secrets, and the collected text is complete.
    let secret = scene.secrets().get("moved").await.expect("the Secret is there");
    let shown = scene.cluster.kubectl(scene.namespace.name(), &["get", "secrets", "-o", "yaml"]).await.succeeded();
    assert!(secrets.found_in(&texts(&secret)["key"]).contains(&"the value of OPSADMIN_SECRET_KEY"));
    assert!(secrets.found_in(&shown).contains(&"the value of OPSADMIN_SECRET_KEY, in base64"));
    assert!(secrets.found_in(&shown).contains(&"the value of password, in base64"));
    for (who, part) in [
        ("the controller's log", "created the account and its keys"),
        ("the controller's log", "sqlx::query"),
        ("the log of a controller with another keyring", "the keyring lacks the key"),
        ("the database", "account_journal"),
        ("the database", "login_assertions"),
        ("the output of the auth server", "secret-travelled"),
        ("the output of the auth server", "db.statement="),
        ("opsadmin logins", "again"),
        ("the controller's /metrics", r#"opsadmin_changes_total{change="SecretPutBack"} "#),
        ("kubectl get apiaccounts -o yaml --show-managed-fields", "f:apiKey"),
        ("kubectl describe apiaccounts", "UnknownAffiliate"),
        ("kubectl get events.events.k8s.io -o yaml", "SecretPutBack"),
    ] {
        assert!(said.0.iter().any(|(said_by, text)| said_by == who && text.contains(part)), "{who} lacks {part}");
    }
    assert!(public.found_in(&said.0.iter().map(|(_, text)| text.as_str()).collect::<String>()).len() >= 3);

    let beginning = BASE64_STANDARD_NO_PAD.encode(SECRET_KEY);
    for (who, text) in &said.0 {
        assert_eq!(secrets.found_in(text), Vec::<&str>::new(), "{who}");
        for part in [SECRET_KEY, &beginning[..10], THEIRS] {
            let at = text.find(part).map(|at| text[text.floor_char_boundary(at.saturating_sub(300))..at].to_owned());
            assert_eq!(at, None, "{who} holds {part}");
        }
        if ["log", "events", "/metrics"].iter().any(|part| who.contains(part)) {
            assert_eq!(public.found_in(text), Vec::<&str>::new(), "{who}");
        }
    }
}
