//! The alert rules of the chart, checked by Prometheus' own `promtool` with the unit tests in `tests/prometheus`.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::guides::{page, repository};
use crate::support::run::{Finished, run};

const RULES: &str = "charts/opsadmin-operator/files/alerts.yaml";
const CASES: &str = "tests/prometheus/alerts.test.yaml";
const WITHIN: Duration = Duration::from_mins(3);

/// Runs `promtool`.
async fn promtool(arguments: &[&str]) -> Finished {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join("promtool").is_file()));
    assert!(found, "promtool is missing: run tests/setup.sh, which installs it or says how");
    let mut command = Command::new("promtool");
    command.args(arguments).current_dir(repository("."));
    run(command, "", WITHIN).await
}

#[tokio::test]
async fn prometheus_accepts_the_rules_and_each_of_their_tests_passes() {
    let checked = promtool(&["check", "rules", "--lint-fatal", RULES]).await.succeeded();
    let rules = alerts().len();
    assert!(checked.contains(&format!("SUCCESS: {rules} rules found")), "{checked}");
    promtool(&["test", "rules", CASES]).await.succeeded();
}

/// Returns the names of all alerts.
fn alerts() -> Vec<String> {
    let rules: Value = serde_saphyr::from_str(&page(RULES)).expect("it is YAML");
    let rules = rules["groups"].as_array().expect("a list").iter().filter_map(|group| group["rules"].as_array());
    rules.flatten().map(|rule| rule["alert"].as_str().expect("each rule is an alert").to_owned()).collect()
}

#[test]
fn each_alert_has_tests_in_both_directions() {
    let tests: Value = serde_saphyr::from_str(&page(CASES)).expect("it is YAML");
    let mut directions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for case in tests["tests"].as_array().expect("a list") {
        let name = case["name"].as_str().expect("each test has a name");
        let (alert, direction) = name.split_once(' ').expect("a name begins with the alert");
        let checks = case["promql_expr_test"].as_array().expect("each test has checks");
        assert!(!checks.is_empty(), "{name} checks nothing");
        let fires = direction.starts_with("fires: ");
        assert!(fires || direction.starts_with("does not fire: "), "{name} names no direction");
        for check in checks {
            let asked = format!("(ALERTS{{alertname=\"{alert}\", alertstate=\"firing\"}})");
            assert!(check["expr"].as_str().expect("a query").ends_with(&asked), "{name} asks about another alert");
            let expected = check["exp_samples"].as_array().expect("a list");
            assert_eq!(!expected.is_empty(), fires, "{name} expects the other direction");
        }
        let count = directions.entry(alert.to_owned()).or_default();
        if fires { count.0 += 1 } else { count.1 += 1 }
    }
    for alert in alerts() {
        let (fires, silent) = directions.remove(&alert).unwrap_or_default();
        assert!(fires > 0 && silent > 0, "{CASES} has {fires} tests in which {alert} fires, and {silent} others");
    }
    assert!(directions.is_empty(), "{RULES} lacks these alerts: {directions:?}");
}
