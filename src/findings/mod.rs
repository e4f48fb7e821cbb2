//! What is wrong with manifests, in the forms that continuous integration reads.

mod junit;

pub use junit::junit;

use crate::manifests::{Place, Problem, Skipped};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde_json::{Value, json};

/// What `opsadmin validate` found, as a value.
#[derive(Serialize)]
pub struct Findings {
    /// How many accounts are declared without a mistake in any manifest; 0 if there is one.
    pub accounts: usize,
    /// Each mistake.
    pub problems: Vec<Finding>,
    /// What was left out.
    pub skipped: Vec<Finding>,
}

/// A mistake, or an object that was left out.
#[derive(Serialize)]
pub struct Finding {
    /// The file as it was asked for, or `<stdin>`.
    file: String,
    /// Its line, counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<usize>,
    /// Its column, counted from 1 in characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<usize>,
    /// The resource, as `NAMESPACE/NAME`; of what was left out, its kind and name.
    #[serde(skip_serializing_if = "Option::is_none")]
    object: Option<String>,
    /// The field.
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<String>,
    /// What is wrong and what to write.
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

/// The mistake without its place.
fn message(problem: &Problem) -> String {
    let parts = [problem.object.as_deref(), problem.field.as_deref(), Some(&problem.message)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(": ")
}

/// One workflow command of GitHub Actions for each mistake, which annotates the line in the pull request.
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

/// What a path may have as it is in a URI.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// The most results of a run that code scanning takes: of more, it refuses them all.
/// <https://docs.github.com/code-security/reference/code-scanning/sarif-files/troubleshoot-sarif-uploads/results-exceed-limit>
pub const MOST_RESULTS: usize = 25_000;

/// A log in the Static Analysis Results Interchange Format, version 2.1.0 (OASIS), of the first [`MOST_RESULTS`].
pub fn sarif(problems: &[Problem]) -> Value {
    let result = |problem: &Problem| {
        // Code scanning takes no result without a line, also of a file that is wrong as a whole.
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
    fn code_scanning_finds_each_mistake_at_a_line_also_one_of_a_whole_file() {
        let log = sarif(&[problem(Some(Position { line: 6, column: 11 })), problem(None)]);
        let region = |at: usize| log["runs"][0]["results"][at]["locations"][0]["physicalLocation"]["region"].clone();
        assert_eq!([region(0), region(1)], [json!({ "startLine": 6, "startColumn": 11 }), json!({ "startLine": 1 })]);
    }

    #[test]
    fn code_scanning_gets_no_more_results_than_it_takes() {
        let results = |problems: usize| {
            let log = sarif(&vec![problem(None); problems]);
            log["runs"][0]["results"].as_array().unwrap().len()
        };
        assert_eq!([MOST_RESULTS, MOST_RESULTS + 1].map(results), [MOST_RESULTS; 2]);
    }
}
