//! The dashboard of the chart: its panels and queries, and that Grafana's own types accept it.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::guides::page;
use crate::support::programs::built;
use crate::support::run::{Finished, run};

const DASHBOARD: &str = "charts/opsadmin-operator/files/dashboard.json";
const WITHIN: Duration = Duration::from_secs(30);

/// One query of a panel.
pub struct Query {
    /// The query with Grafana's variables.
    pub text: String,
    /// The name of a series: `{{label}}` is the value of a label.
    pub legend: String,
}

/// Returns the panels of the dashboard, rows included, as JSON.
pub fn panels() -> Vec<Value> {
    let dashboard: Value = serde_json::from_str(&page(DASHBOARD)).expect("it is JSON");
    dashboard["panels"].as_array().expect("a list").clone()
}

/// Returns the title of a panel.
pub fn title(panel: &Value) -> &str {
    panel["title"].as_str().expect("each panel has a title")
}

/// Returns the queries of a panel. A row has none.
pub fn queries(panel: &Value) -> Vec<Query> {
    let text = |target: &Value, field: &str| target[field].as_str().expect("a text").to_owned();
    let query = |target: &Value| Query { text: text(target, "expr"), legend: text(target, "legendFormat") };
    panel["targets"].as_array().into_iter().flatten().map(query).collect()
}

/// Decodes a dashboard with the types of Grafana's own SDK.
async fn decode(dashboard: String) -> Finished {
    let folder = tokio::task::spawn_blocking(|| built("dashboard/build.sh", &[])).await.expect("it does not panic");
    let program = folder.unwrap_or_else(|problem| panic!("no decoder: {problem}")).join("check");
    run(Command::new(program), dashboard, WITHIN).await
}

#[tokio::test]
async fn grafanas_own_types_accept_the_dashboard_and_find_each_query() {
    let decoded = decode(page(DASHBOARD)).await.succeeded();
    let found: Vec<Value> =
        decoded.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let found: Vec<&str> = found.iter().map(|query| query["expr"].as_str().expect("a text")).collect();
    let ours: Vec<String> = panels().iter().flat_map(queries).map(|query| query.text).collect();
    assert_eq!(found, ours);
    assert!(ours.len() > 20, "{ours:?}");
}

#[tokio::test]
async fn grafanas_own_types_refuse_a_field_that_they_do_not_know() {
    let mistyped = page(DASHBOARD).replacen("\"legendFormat\"", "\"legend\"", 1);
    let refused = decode(mistyped).await;
    assert!(!refused.status.success() && refused.stderr.contains("unexpected field 'legend'"), "{refused:?}");
}

#[test]
fn a_number_has_its_colours_from_the_dashboard_and_not_from_grafanas_defaults() {
    // By default, Grafana shows each number above 80 in red.
    for panel in panels().iter().filter(|panel| panel["type"] == "stat") {
        let steps = &panel["fieldConfig"]["defaults"]["thresholds"]["steps"];
        assert!(steps.as_array().is_some_and(|steps| !steps.is_empty()), "{} has no thresholds", title(panel));
    }
}
