//! `opsadmin validate`: each problem is reported with its place, and the exit code suits a check of a pull request.

use std::path::Path;

use crate::support::opsadmin::Opsadmin;

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path).display().to_string()
}

#[tokio::test]
async fn an_interval_below_the_minimum_of_the_installation_is_refused() {
    let manifest = "apiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata: { name: acme }\n\
                    spec: { rotation: { interval: 9m59s, overlap: 0s } }\n";
    let validate = || Opsadmin::new().args(["validate", "-f", "-"]).stdin(manifest);
    let refused = validate().run().await;
    assert_eq!(refused.status.code(), Some(1));
    let expected = "spec.rotation.interval: must be at least 10m here (--least-rotation-interval), and this is 9m59s; write 10m or more";
    assert!(refused.stderr.contains(expected), "{refused:?}");
    validate().args(["--least-rotation-interval", "5m"]).run().await.succeeded();
    validate().env("OPSADMIN_LEAST_ROTATION_INTERVAL", "1m").run().await.succeeded();
}

/// Returns `-f` and the folder, for each folder of examples that has manifests. Those for logins are of other programs.
fn examples() -> Vec<String> {
    let folders = std::fs::read_dir(repository("examples")).expect("the folder of examples");
    let folders = folders.map(|folder| folder.expect("its entries").path());
    let folders = folders.filter(|folder| !folder.ends_with("login"));
    folders.flat_map(|folder| ["-f".to_owned(), folder.display().to_string()]).collect()
}

#[tokio::test]
async fn every_example_is_valid() {
    let out = Opsadmin::new().args(["validate"]).args(examples()).run().await.succeeded();
    assert!(out.ends_with(" accounts are valid\n"), "{out}");
}

#[tokio::test]
async fn every_problem_is_listed_with_its_place() {
    let manifests = "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec:\n  enabled: yes\n---\n\
                     kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: b\nspec:\n  affiliate: ' '\n";
    let finished = Opsadmin::new().args(["validate", "-f", "-"]).stdin(manifests).run().await;
    assert_eq!(finished.status.code(), Some(1));
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains("<stdin>:6:12: default/a: spec.enabled: "), "{}", finished.stderr);
    assert!(finished.stderr.contains("<stdin>:13:14: default/b: spec.affiliate: "), "{}", finished.stderr);
}

#[tokio::test]
async fn validating_no_manifest_is_an_error() {
    let finished = Opsadmin::new().args(["validate", "-f", "-"]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("ApiAccount"), "{}", finished.stderr);
}

const WRONG: &str = "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec:\n  roles: [Admin]\n---\n\
                     kind: ConfigMap\napiVersion: v1\nmetadata:\n  name: c\n";

/// Validates an invalid manifest in a folder with a name that is hard to quote. Returns the output in this format.
async fn validate_as(format: &str) -> String {
    let call = Opsadmin::new();
    let file = "accounts, 100%/a b.yaml";
    std::fs::create_dir(call.folder().join("accounts, 100%")).expect("a new folder");
    std::fs::write(call.folder().join(file), WRONG).expect("it can be written");
    let finished = call.args(["validate", "-f", file, "-o", format]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    finished.stdout
}

#[tokio::test]
async fn a_pull_request_is_annotated_at_the_line() {
    let out = validate_as("github").await;
    let place = "::error file=accounts%2C 100%25/a b.yaml,line=6,col=11,title=ApiAccount::default/a: spec.roles[0]: ";
    assert!(out.starts_with(place), "{out}");
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[tokio::test]
async fn code_scanning_gets_a_sarif_log() {
    let log: serde_json::Value = serde_json::from_str(&validate_as("sarif").await).expect("it is JSON");
    let result = &log["runs"][0]["results"][0];
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(log["runs"][0]["tool"]["driver"]["rules"][0]["id"], result["ruleId"]);
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "accounts%2C%20100%25/a%20b.yaml");
    assert_eq!(place["region"], serde_json::json!({ "startLine": 6, "startColumn": 11 }));
    let none = Opsadmin::new().args(["validate", "-o", "sarif"]).args(examples()).run().await;
    let none: serde_json::Value = serde_json::from_str(&none.succeeded()).expect("it is JSON");
    assert_eq!(none["runs"][0]["results"], serde_json::json!([]));
}

#[tokio::test]
async fn problems_above_the_limit_of_code_scanning_are_left_out_and_counted() {
    let mistakes =
        (0..25_002).map(|_| "---\nkind: ApiAccount\napiVersion: ops-admin.com/v1\nspec: {}\n").collect::<String>();
    let finished = Opsadmin::new().args(["validate", "-f", "-", "-o", "sarif"]).stdin(mistakes).run().await;
    assert_eq!(finished.status.code(), Some(1));
    let said =
        "left out 2 of 25002 problems: code scanning takes no more than 25000 in one log; `-o text` lists them all\n";
    assert_eq!(finished.stderr, said);
    let log: serde_json::Value = serde_json::from_str(&finished.stdout).expect("it is JSON");
    assert_eq!(log["runs"][0]["results"].as_array().map(Vec::len), Some(25_000));
}

#[tokio::test]
async fn the_junit_report_has_a_test_for_each_file() {
    let text = validate_as("junit").await;
    let report = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let case = report.descendants().find(|node| node.has_tag_name("testcase")).expect("a test case");
    assert_eq!((case.attribute("file"), case.attribute("line")), (Some("accounts, 100%/a b.yaml"), Some("6")));
    let failure = case.first_element_child().expect("it failed");
    let told = failure.text().unwrap_or_default();
    assert!(told.starts_with("accounts, 100%/a b.yaml:6:11: default/a: spec.roles[0]: must be "), "{text}");
    assert!(told.ends_with(failure.attribute("message").expect("a message")), "{text}");

    let call = Opsadmin::new().args(["validate", "-f", &repository("examples/quickstart"), "-o", "junit"]);
    let text = call.run().await.succeeded();
    let report = roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let cases: Vec<_> = report.descendants().filter(|node| node.has_tag_name("testcase")).collect();
    assert!(cases.len() == 3 && cases.iter().all(|case| !case.has_children()), "{text}");
    let suite = cases[0].parent().expect("a suite");
    assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("3"), Some("0")));
}

#[tokio::test]
async fn texts_of_manifests_stay_text_in_the_report() {
    let name = "\\u0001]]>\\u001b[31m\\uFFFF\\u202E<failure/>&amp;\\\"";
    let manifests = format!(
        "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec:\n  \"{name}\": 1\n  roles: [\"{name}\"]\n"
    );
    let call = Opsadmin::new();
    let file = "a\u{1b}[31m\"><failure>&#0;]]>.yaml";
    std::fs::write(call.folder().join(file), manifests).expect("it can be written");
    let finished = call.args(["validate", "-f", file, "-o", "junit"]).run().await;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(!finished.stdout.contains(|c: char| c != '\n' && c.is_control()), "{finished:?}");
    let report = roxmltree::Document::parse(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let failures: Vec<_> = report.descendants().filter(|node| node.has_tag_name("failure")).collect();
    assert_eq!(failures.len(), 1, "{finished:?}");
    assert!(failures[0].text().is_some_and(|text| text.contains("<failure/>&amp;") && text.contains("]]>")));
}

#[tokio::test]
async fn the_json_report_has_every_problem_with_its_place() {
    let found: serde_json::Value = serde_json::from_str(&validate_as("json").await).expect("it is JSON");
    assert_eq!(found["accounts"], 0);
    let problem = &found["problems"][0];
    assert_eq!((&problem["line"], &problem["column"]), (&6.into(), &11.into()));
    assert_eq!((&problem["object"], &problem["field"]), (&"default/a".into(), &"spec.roles[0]".into()));
    assert_eq!(found["skipped"][0]["object"], "ConfigMap c");
    let yaml: serde_json::Value = serde_saphyr::from_str(&validate_as("yaml").await).expect("it is YAML");
    assert_eq!(yaml, found);
}

#[tokio::test]
async fn the_pre_commit_hook_runs_an_existing_command() {
    let hooks = std::fs::read_to_string(repository(".pre-commit-hooks.yaml")).expect("it is there");
    let hooks: serde_json::Value = serde_saphyr::from_str(&hooks).expect("it is YAML");
    let text = |value: &serde_json::Value| value.as_str().expect("a text").to_owned();
    let mut words = text(&hooks[0]["entry"]).split(' ').map(str::to_owned).collect::<Vec<_>>();
    words.extend(hooks[0]["args"].as_array().expect("a list").iter().map(text));
    assert_eq!(words.remove(0), "opsadmin");
    let call = Opsadmin::new();
    let manifest = "kind: ApiAccount\napiVersion: ops-admin.com/v1\nmetadata:\n  name: a\nspec: {}\n";
    std::fs::write(call.folder().join("a.yaml"), manifest).expect("it can be written");
    assert_eq!(call.args(words).run().await.succeeded(), "1 account is valid\n");
}
