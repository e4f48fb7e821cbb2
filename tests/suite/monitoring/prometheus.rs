//! A real Prometheus that scrapes the controllers of a test.

use std::fmt::Write as _;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use url::Url;

use crate::support::http::get;
use crate::support::ports::free_port;
use crate::support::process::{Folder, Supervised};
use crate::support::wait::eventually;

const READY_WITHIN: Duration = Duration::from_secs(30);

/// A Prometheus. It ends when this value is dropped.
pub struct Prometheus {
    address: String,
    server: Supervised,
}

/// One series of an answer.
#[derive(Debug, Clone)]
pub struct Series {
    /// The labels.
    pub labels: Value,
    /// Times in seconds since 1970, and values.
    pub points: Vec<(f64, f64)>,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes these pods (name and address) at this interval, and evaluates these rules.
    pub async fn start(pods: &[(String, String)], interval: Duration, rules: &str) -> Self {
        let folder = Folder::new("prometheus");
        folder.write("alerts.yaml", rules);
        let mut configuration = format!(
            "global: {{scrape_interval: {0}ms, scrape_timeout: {0}ms, evaluation_interval: {0}ms}}\n\
             rule_files: [alerts.yaml]\n\
             scrape_configs:\n- job_name: opsadmin-operator\n  static_configs:\n",
            interval.as_millis()
        );
        for (pod, address) in pods {
            let labels = format!("{{namespace: opsadmin-system, pod: {pod}}}");
            writeln!(configuration, "  - {{targets: ['{address}'], labels: {labels}}}").expect("text takes text");
        }
        let file = folder.write("prometheus.yaml", configuration);
        let address = format!("127.0.0.1:{}", free_port());
        let mut program = Command::new("prometheus");
        program
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"));
        let server = Supervised::spawn(&folder, "prometheus", "KILL", &program);
        let mut this = Self { address, server };
        let address = this.address.clone();
        eventually("Prometheus to be ready (tests/setup.sh installs it)", READY_WITHIN, async || {
            assert_eq!(this.server.ended(), None, "Prometheus has ended:\n{}", this.server.tail());
            let answer = get(&address, "/-/ready").await?;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
        this
    }

    /// Returns the data of an answer of Prometheus' API.
    pub async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let url = Url::parse_with_params(&format!("http://{}/api/v1/{path}", self.address), parameters);
        let url = url.expect("it is a URL");
        let path = format!("{}?{}", url.path(), url.query().unwrap_or_default());
        let answer = get(&self.address, &path).await.unwrap_or_else(|error| panic!("{error}\n{}", self.server.tail()));
        let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
        assert!(answer.status == 200 && body["status"] == "success", "{parameters:?}: {body}");
        assert!(body["warnings"].is_null(), "{parameters:?}: {body}");
        body["data"].clone()
    }

    /// Returns the present answer to a query: the labels and the value of each series.
    pub async fn now(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.ask("query", &[("query", query)]).await;
        let series = data["result"].as_array().expect("a vector").iter();
        series.map(|series| (series["metric"].clone(), point(&series["value"]).1)).collect()
    }

    /// Returns the answer to a query for a range of time, in seconds since 1970.
    pub async fn range(&self, query: &str, (from, to): (f64, f64), step: Duration) -> Vec<Series> {
        let (from, to, step) = (from.to_string(), to.to_string(), step.as_secs_f64().to_string());
        let data = self.ask("query_range", &[("query", query), ("start", &from), ("end", &to), ("step", &step)]).await;
        let series = data["result"].as_array().expect("a matrix").iter();
        let points = |series: &Value| series["values"].as_array().expect("a list").iter().map(point).collect();
        series.map(|series| Series { labels: series["metric"].clone(), points: points(series) }).collect()
    }

    /// Waits until a query has an answer that satisfies `is`.
    pub async fn eventually(&self, query: &str, within: Duration, is: impl Fn(&[(Value, f64)]) -> bool) {
        eventually(&format!("{query} to have its answer"), within, async || {
            let answer = self.now(query).await;
            if is(&answer) { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }
}

/// Returns the time and the value of a point. Prometheus writes values as text, because of `NaN` and `+Inf`.
fn point(pair: &Value) -> (f64, f64) {
    let value = pair[1].as_str().expect("a value is text").replace("Inf", "inf");
    (pair[0].as_f64().expect("a time is a number"), value.parse().expect("a value is a number"))
}

/// Returns the present time in seconds since 1970.
pub fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").as_secs_f64()
}
