//! Tests of the metrics, and of `docs/metrics.md`, which must describe exactly the metrics that exist.

use super::*;
use crate::account::{KeyId, RotationReason};
use crate::reconcile::{NotReady, OverlapHalf};
use crate::secrets::SecretRef;
use crate::telemetry::{ControllerStats, Fleet, Telemetry};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

const WHOLE_PAGE: &str = include_str!("../../../docs/metrics.md");
const RUNBOOKS: &str = include_str!("../../../docs/runbooks.md");
const ALERTS: &str = include_str!("../../../charts/opsadmin-operator/files/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../charts/opsadmin-operator/files/dashboard.json");

/// A fake controller with these stats.
#[derive(Default)]
struct FakeController {
    fleet: Mutex<Option<Fleet>>,
    held: usize,
}

impl ControllerStats for FakeController {
    fn fleet(&self) -> Option<Fleet> {
        self.fleet.lock().unwrap().clone()
    }

    fn held_deletions(&self) -> Option<usize> {
        Some(self.held)
    }

    fn is_leader(&self) -> bool {
        true
    }

    fn is_frozen(&self) -> bool {
        false
    }

    fn missing_for_readiness(&self) -> Vec<&'static str> {
        Vec::new()
    }
}

/// Returns telemetry of a fake controller with these stats. The controller lives until the second value is dropped.
fn about(accounts: &[(Option<Reason>, usize)], held: usize) -> (Arc<Telemetry>, Arc<FakeController>) {
    let (telemetry, _pulse) = Telemetry::new();
    let fleet = Fleet {
        accounts: accounts.iter().copied().collect(),
        old_keys_in_use: HashMap::from([(OverlapHalf::Second, 2)]),
        next_used_key_expiry: Some(Timestamp::from_second(1_900_000_000).unwrap()),
        oldest_active_key: Some(Timestamp::from_second(1_700_000_000).unwrap()),
        next_rotation: Some(Timestamp::from_second(1_800_000_000).unwrap()),
    };
    let fake = Arc::new(FakeController { fleet: Mutex::new(Some(fleet)), held });
    let controller: Arc<dyn ControllerStats> = Arc::clone(&fake) as _;
    telemetry.set_controller(Arc::downgrade(&controller));
    (telemetry, fake)
}

/// Returns the lines with this beginning whose value is not zero.
fn lines(metrics: &Metrics, beginning: &str) -> Vec<String> {
    let text = metrics.openmetrics().unwrap();
    let found = text.lines().filter(|line| line.starts_with(beginning) && !line.ends_with(" 0"));
    found.map(ToOwned::to_owned).collect()
}

/// Returns what the metrics say about the availability of the database.
fn outage(metrics: &Metrics) -> Vec<String> {
    let mut found = lines(metrics, "opsadmin_database_up");
    found.extend(lines(metrics, "opsadmin_database_errors"));
    found
}

fn at() -> SecretRef {
    SecretRef { namespace: "ns".to_owned(), name: "acme-opsadmin".to_owned() }
}

fn key(number: u8) -> KeyId {
    KeyId::from_random([number; 16])
}

#[test]
fn reconciles_are_counted_by_their_result() {
    let (telemetry, _fake) = about(&[], 0);
    let metrics = &telemetry.metrics;
    let took = Duration::from_millis(30);
    metrics.reconciled(&Outcome::default(), took);
    metrics.reconciled(&Outcome::default(), took);
    metrics.reconciled(&Outcome { done: vec![Done::Adopted], ..Outcome::default() }, took);
    metrics.reconciled(&Outcome::blocked(NotReady::Paused), took);
    metrics.reconciled(&Outcome::blocked(NotReady::DeletionHeld { percent: 20 }), took);
    let unavailable = DatabaseError::Unavailable { reason: "gone".to_owned() };
    metrics.reconciled(&Outcome::blocked(NotReady::Database(unavailable)), took);
    metrics.write_refused(Duration::from_secs(3));
    let mut counted = lines(metrics, "opsadmin_reconciles_total");
    counted.sort();
    let expected = [
        r#"opsadmin_reconciles_total{result="changed",reason="Reconciled"} 1"#,
        r#"opsadmin_reconciles_total{result="failed",reason="DatabaseUnavailable"} 1"#,
        r#"opsadmin_reconciles_total{result="failed",reason="NotTaken"} 1"#,
        r#"opsadmin_reconciles_total{result="refused",reason="DeletionHeld"} 1"#,
        r#"opsadmin_reconciles_total{result="refused",reason="Paused"} 1"#,
        r#"opsadmin_reconciles_total{result="unchanged",reason="Reconciled"} 2"#,
    ];
    assert_eq!(counted, expected);
    let measured = lines(metrics, "opsadmin_reconcile_duration_seconds");
    for line in ["_count 7", r#"_bucket{le="0.05"} 6"#, r#"_bucket{le="2.5"} 6"#, r#"_bucket{le="5.0"} 7"#] {
        assert!(measured.contains(&format!("opsadmin_reconcile_duration_seconds{line}")), "{line}: {measured:#?}");
    }
}

#[test]
fn changes_rotations_and_revoked_keys_are_counted() {
    let (telemetry, _fake) = about(&[], 0);
    let metrics = &telemetry.metrics;
    let rotated = |reason, revoked| Done::Rotated { reason, new: key(9), old_expires: None, revoked };
    metrics.done(&Done::SecretWritten(at()));
    metrics.done(&rotated(RotationReason::Due, vec![key(1)]));
    metrics.done(&rotated(RotationReason::Trigger, Vec::new()));
    metrics.done(&Done::Revoked(vec![key(2), key(3)]));
    let expected = [
        r#"opsadmin_changes_total{change="Revoked"} 1"#,
        r#"opsadmin_changes_total{change="Rotated"} 2"#,
        r#"opsadmin_changes_total{change="SecretWritten"} 1"#,
    ];
    let mut counted = lines(metrics, "opsadmin_changes_total");
    counted.sort();
    assert_eq!(counted, expected);
    let mut rotations = lines(metrics, "opsadmin_rotations_total");
    rotations.sort();
    let expected =
        [r#"opsadmin_rotations_total{cause="interval"} 1"#, r#"opsadmin_rotations_total{cause="trigger"} 1"#];
    assert_eq!(rotations, expected);
    assert_eq!(lines(metrics, "opsadmin_keys_revoked"), ["opsadmin_keys_revoked_total 3"]);
}

#[test]
fn a_database_that_refuses_a_call_is_up_and_an_unavailable_one_is_not() {
    let (telemetry, _fake) = about(&[], 0);
    let metrics = &telemetry.metrics;
    assert_eq!(outage(metrics), [""; 0], "not before it answered");
    let call = |error: Option<&DatabaseError>| metrics.database(DatabaseCall::Commit, error, Duration::from_millis(2));
    call(Some(&DatabaseError::Conflict));
    call(Some(&DatabaseError::Refused { reason: "no".to_owned() }));
    let refused = r#"opsadmin_database_errors_total{kind="refused"} 1"#;
    assert_eq!(outage(metrics), ["opsadmin_database_up 1", refused]);
    call(Some(&DatabaseError::Unavailable { reason: "gone".to_owned() }));
    let unavailable = r#"opsadmin_database_errors_total{kind="unavailable"} 1"#;
    let mut seen = outage(metrics);
    seen.sort();
    assert_eq!(seen, [refused, unavailable]);
    call(None);
    assert_eq!(lines(metrics, "opsadmin_database_up"), ["opsadmin_database_up 1"]);
}

#[test]
fn calls_and_pickups_are_measured() {
    let (telemetry, _fake) = about(&[], 0);
    let metrics = &telemetry.metrics;
    metrics.picked_up(Duration::from_secs(2));
    metrics.database(DatabaseCall::Commit, None, Duration::from_millis(2));
    metrics.kubernetes(Verb::Patch, KubernetesResult::Done, Duration::from_millis(30));
    metrics.kubernetes(Verb::Watch, KubernetesResult::Unanswered, Duration::from_secs(30));
    let text = metrics.openmetrics().unwrap();
    for line in [
        r#"opsadmin_pickup_duration_seconds_bucket{le="1.0"} 0"#,
        r#"opsadmin_pickup_duration_seconds_bucket{le="2.5"} 1"#,
        r#"opsadmin_database_call_duration_seconds_bucket{le="0.0025",call="commit"} 1"#,
        r#"opsadmin_database_call_duration_seconds_count{call="read"} 0"#,
        r#"opsadmin_kubernetes_requests_total{verb="patch",result="done"} 1"#,
        r#"opsadmin_kubernetes_requests_total{verb="watch",result="unanswered"} 1"#,
        r#"opsadmin_kubernetes_request_duration_seconds_count{verb="patch"} 1"#,
        "opsadmin_oldest_active_key_timestamp_seconds 1700000000",
        "opsadmin_next_rotation_timestamp_seconds 1800000000",
        r#"opsadmin_old_keys_in_use{overlap_half="first"} 0"#,
        r#"opsadmin_old_keys_in_use{overlap_half="second"} 2"#,
        "opsadmin_used_old_key_expiry_timestamp_seconds 1900000000",
    ] {
        assert!(text.lines().any(|written| written == line), "{line}: {text}");
    }
}

#[test]
fn a_metric_whose_value_is_not_known_yet_is_absent() {
    let (telemetry, _pulse) = Telemetry::new();
    let text = || telemetry.metrics.openmetrics().unwrap();
    let late = ["opsadmin_accounts", "opsadmin_orphans", "opsadmin_last_sweep_timestamp_seconds"];
    for name in late.into_iter().chain(["opsadmin_deletions_held"]) {
        assert!(!text().contains(name), "{name}: {}", text());
    }
    let fake = Arc::new(FakeController::default());
    let controller: Arc<dyn ControllerStats> = Arc::clone(&fake) as _;
    telemetry.set_controller(Arc::downgrade(&controller));
    assert!(text().contains("\nopsadmin_deletions_held 0\n"));
    for name in late {
        assert!(!text().contains(name), "{name}: {}", text());
    }
    let accounts = HashMap::from([(None, 2), (Some(Reason::Reconciled), 3)]);
    *fake.fleet.lock().unwrap() = Some(Fleet { accounts, ..Fleet::default() });
    assert!(!text().contains("opsadmin_oldest_active_key") && !text().contains("opsadmin_next_rotation"), "{}", text());
    telemetry.metrics.orphans(0);
    telemetry.metrics.swept(SweepResult::Failed, Timestamp::UNIX_EPOCH);
    assert!(!text().contains("opsadmin_last_sweep_timestamp_seconds"), "it failed");
    telemetry.metrics.swept(SweepResult::Done, Timestamp::from_second(1_700_000_000).unwrap());
    for line in [
        r#"opsadmin_accounts{reason="Pending"} 2"#,
        r#"opsadmin_accounts{reason="Reconciled"} 3"#,
        r#"opsadmin_accounts{reason="DeletionHeld"} 0"#,
        "opsadmin_orphans 0",
        "opsadmin_last_sweep_timestamp_seconds 1700000000",
        r#"opsadmin_sweeps_total{result="failed"} 1"#,
        r#"opsadmin_sweeps_total{result="empty"} 0"#,
    ] {
        assert!(text().lines().any(|written| written == line), "{line}: {}", text());
    }
}

#[test]
fn both_formats_have_the_same_samples() {
    let (telemetry, _fake) = about(&[], 2);
    let (open, text) = (telemetry.metrics.openmetrics().unwrap(), telemetry.metrics.text().unwrap());
    // The two formats write the bounds of buckets differently.
    let is_same = |line: &&str| {
        !line.starts_with('#') && !line.contains("_duration_seconds_") && !line.contains("_duration_seconds{")
    };
    let samples = |text: &str| text.lines().filter(is_same).map(ToOwned::to_owned).collect::<Vec<_>>();
    assert_eq!(samples(&open), samples(&text));
    assert!(open.contains("# TYPE opsadmin_changes counter\n") && open.ends_with("# EOF\n"), "{open}");
    assert!(text.contains("# TYPE opsadmin_changes_total counter\n") && !text.contains("EOF"), "{text}");
    let version = format!(r#"opsadmin_build_info{{version="{}"}} 1"#, env!("CARGO_PKG_VERSION"));
    assert!(samples(&open).contains(&version), "{open}");
}

/// Returns the page without the section about auth servers, and that section. The suite compares the section with a
/// running auth server.
fn pages() -> (String, String) {
    let (before, rest) = WHOLE_PAGE.split_once("\n## Metrics of an auth server\n").unwrap();
    let (section, after) = rest.split_once("\n## ").unwrap();
    (format!("{before}\n## {after}"), section.to_owned())
}

/// Returns the text of each code span.
fn code_spans(text: &str) -> BTreeSet<String> {
    text.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect()
}

/// The type and labels of each metric, by its name.
type Described = BTreeMap<String, (String, BTreeSet<String>)>;

/// Returns every metric, and the values of all labels.
fn exposed() -> (Described, BTreeSet<String>) {
    let (telemetry, _fake) = about(&[], 0);
    telemetry.metrics.orphans(0);
    telemetry.metrics.swept(SweepResult::Done, Timestamp::UNIX_EPOCH);
    let text = telemetry.metrics.text().unwrap();
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let mut metrics: Described =
        types.map(|(name, type_)| (name.to_owned(), (type_.to_owned(), BTreeSet::new()))).collect();
    let mut values = BTreeSet::new();
    for sample in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((name, labels)) = sample.split_once('{') else { continue };
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        let name = histogram.filter(|histogram| metrics.contains_key(*histogram)).unwrap_or(name);
        for label in labels.split_once('}').unwrap().0.split(',') {
            let (label, value) = label.split_once('=').unwrap();
            if label != "le" {
                metrics.get_mut(name).unwrap().1.insert(label.to_owned());
                values.insert(value.trim_matches('"').to_owned());
            }
        }
    }
    values.remove(env!("CARGO_PKG_VERSION"));
    (metrics, values)
}

#[test]
fn the_page_describes_exactly_the_existing_metrics() {
    let (page, _) = pages();
    let rows = page.lines().filter(|line| line.starts_with("| `opsadmin_"));
    let described: Described = rows
        .map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), code_spans(cells[3])))
        })
        .collect();
    let (exposed, values) = exposed();
    assert_eq!(described, exposed);
    let mentioned = code_spans(&page);
    let missing: Vec<_> = values.difference(&mentioned).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not say what these label values mean: {missing:?}");
}

#[test]
fn alerts_dashboard_and_pages_use_existing_metrics_and_labels() {
    let (exposed, mut values) = exposed();
    let (page, of_auth_servers) = pages();
    let of_auth_servers = code_spans(&of_auth_servers);
    let exists = |name: &str| exposed.contains_key(name) || of_auth_servers.contains(name);
    let known = |name: &str| {
        let histogram = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end));
        exists(name) || histogram.is_some_and(exists)
    };
    values.extend(of_auth_servers.iter().cloned());
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    for (file, text) in [
        ("metrics.md", page.as_str()),
        ("runbooks.md", RUNBOOKS),
        ("alerts.yaml", ALERTS),
        ("dashboard.json", DASHBOARD),
    ] {
        for name in text.split(|character| !is_name(character)).filter(|word| word.starts_with("opsadmin_")) {
            assert!(known(name), "{file} uses {name}, which does not exist");
        }
    }
    for rule in rules() {
        let quoted = rule["expr"].as_str().unwrap().split('"').skip(1).step_by(2);
        for value in quoted.flat_map(|text| text.split('|')) {
            assert!(values.contains(value), "no label has the value {value}: {rule}");
        }
    }
}

fn rules() -> Vec<serde_json::Value> {
    let rules: serde_json::Value = serde_saphyr::from_str(ALERTS).unwrap();
    rules["groups"][0]["rules"].as_array().unwrap().clone()
}

#[test]
fn each_alert_has_a_runbook_and_a_row_on_the_page() {
    let (page, _) = pages();
    let mut sections: BTreeSet<_> = RUNBOOKS.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        assert!(sections.remove(name), "docs/runbooks.md has no section {name}");
        let (_, section) = RUNBOOKS.split_once(&format!("## {name}\n")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        for part in ["Meaning", "Impact", "Look at", "Do", "Ends"] {
            assert!(section.contains(&format!("- **{part}.** ")), "{name} has no {part}");
        }
        let anchor = name.to_lowercase();
        let annotations = &rule["annotations"];
        assert_eq!(annotations["runbook_url"], format!("docs/runbooks.md#{anchor}").as_str());
        assert!(annotations["summary"].is_string() && annotations["description"].is_string(), "{rule}");
        let (severity, after) =
            (rule["labels"]["severity"].as_str().unwrap(), rule["for"].as_str().unwrap_or("at once"));
        let row = format!("| [`{name}`](runbooks.md#{anchor}) | {severity} | {after} |");
        assert!(page.contains(&row), "docs/metrics.md has no {row}");
    }
    assert!(sections.is_empty(), "these sections have no alert: {sections:?}");
}
