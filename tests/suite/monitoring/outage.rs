//! A real Prometheus scrapes two controllers and an auth server through an outage of the database. The alert of the outage fires and ends,
//! no other alert fires, and each query of the dashboard has its answer.
//!
//! With `OPSADMIN_TEST_WRITE=1`, the run takes longer and draws the picture of the dashboard from these answers.

use std::ops::Range;
use std::time::Duration;

use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::dashboard::{panels, queries, title};
use super::picture::{Drawing, Panel};
use super::prometheus::{Prometheus, now};
use crate::controller::scene::{SOON, Scene};
use crate::guides::{page, repository};
use crate::login::scene::{AuthServer, ISSUER, sign, tokens};
use crate::support::opsadmin::{Opsadmin, spawn_controller};
use crate::support::postgres::Postgres;

const PICTURE: &str = "docs/pictures/dashboard.svg";
const DOWN: &str = "OpsAdminDatabaseDown";

/// How long a run takes, and how closely Prometheus observes it.
struct Pace {
    interval: Duration,
    /// What Grafana puts into `$__rate_interval`.
    rate_interval: &'static str,
    /// The number of accounts that are created before the outage, during it, and after it.
    rounds: [usize; 3],
    /// The pause after each account, which gives the picture its width.
    pause: Duration,
}

const BRIEF: Pace =
    Pace { interval: Duration::from_millis(500), rate_interval: "10s", rounds: [4, 0, 1], pause: Duration::ZERO };
const LONG: Pace = Pace {
    interval: Duration::from_secs(1),
    rate_interval: "10s",
    rounds: [30, 12, 20],
    pause: Duration::from_secs(1),
};

/// Returns the alert rules, with a shorter delay of the alert about the database.
fn rules() -> String {
    let rules = page("charts/opsadmin-operator/files/alerts.yaml");
    let (before, alert) = rules.split_once(&format!("- alert: {DOWN}\n")).expect("there is such an alert");
    assert!(alert.find("for: 5m").is_some_and(|at| at < alert.find("- alert:").expect("others follow")), "{alert}");
    format!("{before}- alert: {DOWN}\n{}", alert.replacen("for: 5m", "for: 2s", 1))
}

/// A partner at an auth server.
struct Partner {
    server: AuthServer,
    api_key: String,
    secret_key: String,
}

impl Partner {
    /// Starts an auth server, for the account in this Secret.
    async fn new(scene: &Scene, database: &str, secret: &str) -> Self {
        let call = Opsadmin::new().args(["auth-server", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
        let call = call.args(["--issuer", ISSUER, "--database", database, "--keyring"]).args([&scene.keyring]);
        let server = AuthServer::listening(call.spawn()).await;
        server.ready().await;
        let mut keys = scene.data(secret).await;
        let mut key = |name: &str| keys.remove(name).expect("the Secret has it");
        Self { server, api_key: key("OPSADMIN_API_KEY"), secret_key: key("OPSADMIN_SECRET_KEY") }
    }

    /// Logs in, rightly and wrongly, and has a proxy ask about a request.
    async fn log_in(&self, round: usize) {
        let now = jiff::Timestamp::now().as_second();
        let mut claims =
            json!({ "iss": self.api_key, "sub": self.api_key, "aud": ISSUER, "iat": now, "exp": now + 60 });
        let mut proof = |key: &str| {
            claims["jti"] = json!(format!("{now}-{round}-{}", key.len()));
            sign(key, &json!({ "alg": "HS256" }), &claims)
        };
        let (right, wrong) = (proof(&self.secret_key), proof(&format!("wrong-{}", self.secret_key)));
        self.server.token(&wrong).await;
        let answer = self.server.token(&right).await;
        let token = if answer.status == 200 { tokens(&answer).access } else { String::new() };
        self.server.authorize(&token, "/my-account").await;
    }
}

/// Creates an account in each round, and changes or rotates the one before it. Waits for each if the database is up.
async fn work(scene: &Scene, partner: &Partner, rounds: Range<usize>, pace: &Pace, is_up: bool) {
    for round in rounds {
        partner.log_in(round).await;
        let name = |round: usize| format!("a{round}");
        let rotation = json!({ "interval": "720h", "overlap": "0s" });
        scene.create(&name(round), json!({ "rotation": rotation })).await;
        let mut changed = vec![name(round)];
        if let Some(before) = round.checked_sub(1) {
            let change = match round % 3 {
                0 => json!({ "roles": ["Customer"] }),
                1 => json!({ "rotation": { "trigger": format!("round {round}") } }),
                _ => json!({ "description": format!("changed in round {round}") }),
            };
            scene.change(&name(before), change).await;
            changed.push(name(before));
        }
        for name in changed.iter().filter(|_| is_up) {
            scene.ready(name).await;
        }
        sleep(pace.pause).await;
    }
}

/// Asks each query of the dashboard for this range of time. Each has an answer with numbers.
async fn answers(prometheus: &Prometheus, span: (f64, f64), pace: &Pace) -> Vec<Panel> {
    let mut answered = Vec::new();
    for definition in panels() {
        let mut series = Vec::new();
        for query in queries(&definition) {
            let text = query.text.replace("$namespace", ".*").replace("$__rate_interval", pace.rate_interval);
            assert!(!text.contains('$'), "{text}: an unknown variable");
            let found = prometheus.range(&text, span, pace.interval).await;
            let is_number = |series: &super::prometheus::Series| series.points.iter().any(|point| point.1.is_finite());
            assert!(found.iter().any(is_number), "{}: {text} has no number: {found:?}", title(&definition));
            for one in found {
                let labels = one.labels.as_object().expect("labels are an object").iter();
                let text = |value: &Value| value.as_str().expect("a label is text").to_owned();
                let legend = labels.fold(query.legend.clone(), |legend, (label, value)| {
                    legend.replace(&format!("{{{{{label}}}}}"), &text(value))
                });
                series.push((legend, one.points));
            }
        }
        answered.push(Panel { definition, series });
    }
    answered
}

/// Returns the values of a panel's series, of all of them if `legend` is empty.
fn values(answers: &[Panel], panel: &str, legend: &str) -> Vec<f64> {
    let panel = answers.iter().find(|answer| title(&answer.definition) == panel).expect("there is such a panel");
    let series = panel.series.iter().filter(|(name, _)| legend.is_empty() || name == legend);
    series.flat_map(|(_, points)| points.iter().map(|point| point.1)).collect()
}

fn firing(alert: &str) -> String {
    format!("ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}}")
}

/// Checks that no other alert fired, and that Prometheus could evaluate each rule.
async fn only_this_alert_fired(prometheus: &Prometheus) {
    let every_alert = "count by (alertname) (max_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
    let fired: Vec<Value> = prometheus.now(every_alert).await.into_iter().map(|(labels, _)| labels).collect();
    assert_eq!(fired, [json!({ "alertname": DOWN })]);
    let answer = prometheus.ask("rules", &[]).await;
    let groups = answer["groups"].as_array().expect("a list").iter();
    let rules: Vec<&Value> = groups.filter_map(|group| group["rules"].as_array()).flatten().collect();
    assert!(!rules.is_empty(), "{answer}");
    for rule in rules {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
}

#[tokio::test]
async fn an_outage_of_the_database_fires_its_alert_and_each_query_of_the_dashboard_has_an_answer() {
    let is_drawn = std::env::var_os("OPSADMIN_TEST_WRITE").is_some();
    let pace = if is_drawn { LONG } else { BRIEF };
    let [before, during, after] = pace.rounds;
    let scene = Scene::set("prometheus").await;
    let mut server = Postgres::new().await;
    let database = server.database("accounts").await;
    let here = scene.namespace.name();
    let election = ["--leader-election", "on", "--lease-namespace", here, "--cluster-id", "here"];
    let arguments = [&election[..], &["--sweep-interval", "1s"]].concat();
    let start = || spawn_controller(scene.cluster.kubeconfig(), &[here], database.url(), &scene.keyring, &arguments);
    let controllers = [start(), start()];
    let mut pods = Vec::new();
    for (number, controller) in controllers.iter().enumerate() {
        pods.push((format!("opsadmin-operator-{number}"), controller.address().await));
    }
    scene.create("partner", json!({ "roles": ["Customer"] })).await;
    scene.ready("partner").await;
    let partner = Partner::new(&scene, database.url(), "partner-opsadmin").await;
    pods.push(("opsadmin-auth-server-0".to_owned(), partner.server.internal.clone()));
    let prometheus = Prometheus::start(&pods, pace.interval, &rules()).await;
    let from = now();
    // A rate needs samples from before the first account.
    let is_one = |answer: &[(Value, f64)]| answer.iter().map(|series| series.1).collect::<Vec<_>>() == [1.0];
    prometheus.eventually("sum(opsadmin_leader) and sum(opsadmin_database_up) == 2", SOON, is_one).await;

    // A series that begins with its first event needs a second one for a rate.
    partner.log_in(usize::MAX).await;
    scene.create("first", json!({ "name": "First" })).await;
    scene.ready("first").await;
    scene.create("twin", json!({ "name": "First" })).await;
    scene.condition("twin", "False", "NameTaken").await;
    work(&scene, &partner, 0..before, &pace, true).await;

    server.stop().await;
    scene.change("first", json!({ "enabled": false })).await;
    scene.condition("first", "Unknown", "DatabaseUnavailable").await;
    work(&scene, &partner, before..before + during, &pace, false).await;
    prometheus.eventually(&firing(DOWN), SOON, |answer| !answer.is_empty()).await;
    server.start().await;
    scene.ready("first").await;
    prometheus.eventually(&firing(DOWN), SOON, <[_]>::is_empty).await;
    work(&scene, &partner, before + during..before + during + after, &pace, true).await;

    only_this_alert_fired(&prometheus).await;
    let namespaces = prometheus.ask("label/namespace/values", &[("match[]", "opsadmin_build_info")]).await;
    assert_eq!(namespaces, json!(["opsadmin-system"]), "the dashboard offers these");

    let accounts = scene.accounts().list(&ListParams::default()).await.expect("a list").items.len();
    let accounts = f64::from(u32::try_from(accounts).expect("they are few"));
    let counts =
        "sum(opsadmin_accounts) - sum(opsadmin_accounts{reason=\"Reconciled\"}) == 1 and sum(opsadmin_accounts)";
    prometheus.eventually(&format!("{counts} == {accounts}"), SOON, |answer| !answer.is_empty()).await;
    // The last point of a range is up to a step before its end. It must not be older than the state that was waited for.
    let span = (from, now() + pace.interval.as_secs_f64());
    let answers = answers(&prometheus, span, &pace).await;
    let last = |panel: &str| *values(&answers, panel, "").last().expect("it has values");
    assert!((last("ApiAccounts") - accounts).abs() < 0.1, "a follower adds none: {}", last("ApiAccounts"));
    assert!((last("Not Ready") - 1.0).abs() < 0.1, "only the twin is not Ready: {}", last("Not Ready"));
    for (panel, legend, least) in [
        ("Not Ready", "", 2.0),
        ("ApiAccounts by reason", "DatabaseUnavailable", 1.0),
        ("ApiAccounts by reason", "Reconciled", 1.0),
        ("Changes", "Created", 0.5),
        ("Reconciles", "failed", 0.01),
        ("Requests to the API server", "done", 0.1),
        ("Calls to the database", "error: unavailable", 0.01),
        ("Rotations and revoked keys", "revoked", 0.5),
        ("Tokens issued", "login", 0.01),
        ("Refused logins", "signature", 0.01),
        ("Answers to proxies", "allowed", 0.01),
        ("Age of the last heartbeat", "opsadmin-auth-server-0", 0.01),
    ] {
        let found = values(&answers, panel, legend);
        assert!(found.iter().any(|value| *value >= least), "{panel} {legend}: {found:?}");
    }
    let database = values(&answers, "Database", "");
    assert!(database.contains(&0.0) && database.contains(&1.0), "{database:?}");

    let picture = Drawing { panels: answers, span, step: pace.interval.as_secs_f64() }.svg();
    if is_drawn {
        std::fs::write(repository(PICTURE), &picture).expect("it can be written");
    }
    let shown = page(PICTURE);
    for panel in panels() {
        let text = format!(">{}<", title(&panel));
        let again = "draw it again: OPSADMIN_TEST_WRITE=1 cargo test --test suite monitoring::outage";
        assert!(picture.contains(&text) && shown.contains(&text), "{PICTURE} lacks {text}; {again}");
    }
}
