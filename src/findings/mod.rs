//! The problems of manifests in the formats that continuous integration systems read.

mod junit;

pub use junit::junit;

use crate::manifests::{Place, Problem, Skipped};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

/// The result of `opsadmin validate` for JSON and YAML.
#[derive(Serialize)]
pub struct Findings {
    /// The number of declared accounts; 0 if any manifest has a problem.
    pub accounts: usize,
    /// The problems.
    pub problems: Vec<Finding>,
    /// The objects that were left out.
    pub skipped: Vec<Finding>,
}

/// A problem, or an object that was left out.
#[derive(Serialize)]
pub struct Finding {
    /// The file as the user named it, or `<stdin>`.
    file: String,
    /// The line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// The column in characters, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The resource as `NAMESPACE/NAME`. For an object that was left out, its kind and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// The field.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong, and what to write instead.
    message: String,
}

impl Finding {
    fn at(place: &Place, object: Option<String>, field: Option<String>, message: String) -> Self {
        let (line, column) = (place.position.map(|at| at.line), place.position.map(|at| at.column));
        Self { file: place.file.to_string(), line, column, object, field, message }
    }
}

impl From<&Problem> for Finding {
    fn from(problem: &Problem) -> Self {
        Self::at(&problem.place, problem.object.clone(), problem.field.clone(), problem.message.clone())
    }
}

impl From<&Skipped> for Finding {
    fn from(skipped: &Skipped) -> Self {
        let parts: Vec<&str> = [&skipped.kind, &skipped.name].into_iter().flatten().map(String::as_str).collect();
        Self::at(&skipped.place, (!parts.is_empty()).then(|| parts.join(" ")), None, skipped.why.clone())
    }
}

/// Returns the text of the problem without its place.
fn message(problem: &Problem) -> String {
    let parts = [problem.object.as_deref(), problem.field.as_deref(), Some(&problem.message)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// Returns a workflow command of GitHub Actions for each problem. It annotates the line in the pull request.
/// <https://docs.github.com/actions/reference/workflows-and-actions/workflow-commands#setting-an-error-message>
pub fn github(problems: &[Problem]) -> Vec<String> {
    let data = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| data(text).replace(':', "%3A").replace(',', "%2C");
    let command = |problem: &Problem| {
        let at = problem.place.position.map(|at| format!(",line={},col={}", at.line, at.column)).unwrap_or_default();
        format!("::error file={}{at},title=ApiAccount::{}", property(&problem.place.file), data(&message(problem)))
    };
    problems.iter().map(command).collect()
}

/// The characters that are escaped when a path is written into a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// The maximum number of results that GitHub code scanning accepts. It refuses a log with more results.
/// <https://docs.github.com/code-security/reference/code-scanning/sarif-files/troubleshoot-sarif-uploads/results-exceed-limit>
pub const MOST_RESULTS: usize = 25_000;

/// Returns a log in the Static Analysis Results Interchange Format, version 2.1.0 (OASIS), with the first
/// [`MOST_RESULTS`] problems.
pub fn sarif(problems: &[Problem]) -> Value {
    let result = |problem: &Problem| {
        // Code scanning refuses a result without a line, so a problem of a whole file gets line 1.
        let region = match problem.place.position {
            Some(at) => json!({ "startLine": at.line, "startColumn": at.column }),
            None => json!({ "startLine": 1 }),
        };
        let uri = utf8_percent_encode(problem.place.file.trim_start_matches("./"), PATH).to_string();
        json!({
            "ruleId": "invalid-api-account",
            "level": "error",
            "message": { "text": message(problem) },
            "locations": [{ "physicalLocation": { "artifactLocation": { "uri": uri }, "region": region } }],
        })
    };
    let rule = json!({
        "id": "invalid-api-account",
        "shortDescription": { "text": "An ApiAccount that a cluster would refuse, or that could not work." },
    });
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "opsadmin", "version": env!("CARGO_PKG_VERSION"), "rules": [rule] } },
            "columnKind": "unicodeCodePoints",
            "results": problems.iter().take(MOST_RESULTS).map(result).collect::<Vec<_>>(),
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Position;

    fn problem(position: Option<Position>) -> Problem {
        let place = Place { file: "accounts/a.yaml".into(), position };
        Problem { place, object: None, field: None, message: "is wrong".to_owned() }
    }

    #[test]
    fn every_problem_in_sarif_has_a_line() {
        let log = sarif(&[problem(Some(Position { line: 6, column: 11 })), problem(None)]);
        let region = |at: usize| log["runs"][0]["results"][at]["locations"][0]["physicalLocation"]["region"].clone();
        assert_eq!([region(0), region(1)], [json!({ "startLine": 6, "startColumn": 11 }), json!({ "startLine": 1 })]);
    }

    #[test]
    fn sarif_has_no_more_results_than_code_scanning_accepts() {
        let results = |problems: usize| {
            let log = sarif(&vec![problem(None); problems]);
            log["runs"][0]["results"].as_array().unwrap().len()
        };
        assert_eq!([MOST_RESULTS, MOST_RESULTS + 1].map(results), [MOST_RESULTS; 2]);
    }
}
