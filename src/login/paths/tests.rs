//! Tests of paths: the corpus of hostile ones, the table of the examples, and mistakes in a table.

use super::*;
use proptest::prelude::*;

const EXAMPLE: &str = include_str!("../../../examples/login/paths.yaml");

fn table(yaml: &str) -> PathTable {
    PathTable::parse(yaml).unwrap()
}

fn group(table: &PathTable, method: &str, target: &str) -> EndpointGroup {
    table.group(method, &RequestPath::parse(target).unwrap())
}

#[test]
fn hostile_paths_are_refused_with_their_reason() {
    let lines = include_str!("hostile.txt").lines().filter(|line| !line.starts_with("# "));
    let mut count = 0;
    for line in lines {
        let (reason, target) = line.split_once(' ').unwrap_or((line, ""));
        assert_eq!(RequestPath::parse(target).map_err(AmbiguousPath::as_str), Err(reason), "{target}");
        count += 1;
    }
    assert!(count > 50);
}

#[test]
fn plain_paths_are_decoded() {
    for (target, segments) in [
        ("/", vec![""]),
        ("/plans", vec!["plans"]),
        ("/plans/", vec!["plans", ""]),
        ("/plans/1.2.3?a=../..//;\\%zz", vec!["plans", "1.2.3"]),
        ("/plans/.../..a", vec!["plans", "...", "..a"]),
        ("/my%2Daccount/%c3%a9%20x", vec!["my-account", "é x"]),
        ("/a:b@c/~d_e/!$&'()*+,=", vec!["a:b@c", "~d_e", "!$&'()*+,="]),
    ] {
        assert_eq!(RequestPath::parse(target).unwrap().segments(), segments, "{target}");
    }
}

#[test]
fn the_example_has_the_three_groups_and_all_below_them() {
    let table = table(EXAMPLE);
    for (target, expected) in [
        ("/my-account", EndpointGroup::MyAccount),
        ("/my-account/", EndpointGroup::MyAccount),
        ("/my-account/payment/methods?x=/plans", EndpointGroup::MyAccount),
        ("/my%2daccount", EndpointGroup::MyAccount),
        ("/plans", EndpointGroup::Plans),
        ("/plans/12/rates", EndpointGroup::Plans),
        ("/enrollments/12", EndpointGroup::Enrollments),
        ("/", EndpointGroup::Everything),
        ("/plansx", EndpointGroup::Everything),
        ("/Plans", EndpointGroup::Everything),
        ("/v1/plans", EndpointGroup::Everything),
        ("/plans%20", EndpointGroup::Everything),
    ] {
        for method in ["GET", "DELETE", "PURGE"] {
            assert_eq!(group(&table, method, target), expected, "{method} {target}");
        }
    }
}

#[test]
fn without_a_table_everything_is_everything() {
    assert_eq!(group(&PathTable::default(), "GET", "/plans"), EndpointGroup::Everything);
    for nothing in ["{}", "Plans:", "Plans: []"] {
        assert_eq!(group(&table(nothing), "GET", "/plans"), EndpointGroup::Everything, "{nothing}");
    }
}

#[test]
fn the_most_exact_pattern_decides_whatever_the_order_is() {
    let table = table(
        "Plans:
- methods: [GET, HEAD]
  paths: [/plans/**, /plans/*/rates]
- methods: [PATCH]
  paths: [/*]
Enrollments:
- paths: [/plans/*/enrollments/**, /plans/all]
- methods: [POST]
  paths: [/plans/*/rates]
Everything:
- paths: [/plans/all/audit]
MyAccount:
- paths: [/me, /plans/**]
  methods: [POST]
",
    );
    for (method, target, expected) in [
        ("GET", "/plans", EndpointGroup::Plans),
        ("GET", "/plans/", EndpointGroup::Plans),
        ("DELETE", "/plans", EndpointGroup::Everything),
        ("get", "/plans", EndpointGroup::Everything),
        ("GET", "/plans/7/enrollments", EndpointGroup::Enrollments),
        ("GET", "/plans/7/enrollments/8", EndpointGroup::Enrollments),
        ("GET", "/plans//enrollments", EndpointGroup::Everything),
        ("GET", "/plans/all", EndpointGroup::Enrollments),
        ("GET", "/plans/all/x", EndpointGroup::Plans),
        ("GET", "/plans/all/audit", EndpointGroup::Everything),
        ("GET", "/plans/7/rates", EndpointGroup::Plans),
        ("POST", "/plans/7/rates", EndpointGroup::Enrollments),
        ("POST", "/plans/7", EndpointGroup::MyAccount),
        ("POST", "/me", EndpointGroup::MyAccount),
        ("POST", "/me/x", EndpointGroup::Everything),
        ("PATCH", "/anything", EndpointGroup::Plans),
        ("PATCH", "/", EndpointGroup::Everything),
    ] {
        let found = RequestPath::parse(target).map_or(EndpointGroup::Everything, |path| table.group(method, &path));
        assert_eq!(found, expected, "{method} {target}");
    }
}

#[test]
fn a_mistake_is_reported_with_its_line_and_what_to_do() {
    for (yaml, line, reason) in [
        ("Plans:\n- paths:\n  - plans\n", 3, "\"plans\" is no pattern of paths: it does not begin with /"),
        ("Plans:\n- paths: [/a/../b]\n", 2, "it has a segment . or .."),
        ("Plans:\n- paths: [/a?x]\n", 2, "leave the query out"),
        ("Plans:\n- paths:\n  - /a\n  - /a*\n", 4, "write * alone for one segment"),
        ("Plans:\n- paths: [/**/a]\n", 2, "write * alone for one segment"),
        ("Plans:\n- paths: [/a]\n  methods: [get]\n", 3, "write methods in capitals, such as GET"),
        ("Plans:\n- paths: [/a]\n  methods: []\n", 3, "no method is listed"),
        ("Plans:\n- paths: [/a]\n  methods:\n", 3, ""),
        ("Plans:\n- path: [/a]\n", 2, "unknown field `path`"),
        ("Plans:\n- methods: [GET]\n", 2, "missing field `paths`"),
        ("plans:\n- paths: [/a]\n", 1, "unknown field `plans`"),
        ("Plans:\n- paths: [/a]\nPlans:\n- paths: [/b]\n", 3, "duplicate"),
        ("Plans:\n- paths: [/a]\nEnrollments:\n- paths: [/b, /a]\n", 4, "Enrollments has the same pattern as Plans"),
        (
            "Plans:\n- paths: [/a]\n  methods: [GET]\nMyAccount:\n- paths: [/a]\n",
            2,
            "Plans has the same pattern as MyAccount",
        ),
        ("Plans: [\n", 1, ""),
        ("Plans: /a\n", 1, ""),
    ] {
        let error = PathTable::parse(yaml).expect_err(yaml);
        assert!(error.line == line && error.reason.contains(reason), "{yaml}{error}");
        assert!(!error.reason.contains('\n') && !error.reason.is_empty(), "{error}");
    }
    let two_methods = "Plans:\n- paths: [/a]\n  methods: [GET]\nMyAccount:\n- paths: [/a]\n  methods: [PUT]\n";
    assert_eq!(group(&table(two_methods), "PUT", "/a"), EndpointGroup::MyAccount);
}

proptest! {
    #[test]
    fn no_target_makes_the_parser_panic(target in "/?\\PC*") {
        if let Ok(path) = RequestPath::parse(&target) {
            let joined = path.segments().join("/");
            prop_assert!(!joined.contains([';', '\\', '#', '?', '%']) && !joined.contains("//"), "{joined}");
            prop_assert!(path.segments().iter().all(|segment| segment != "." && segment != ".."));
        }
    }

    /// Whatever a path is made of, a program that decodes it once more, resolves dots or merges slashes sees the same.
    #[test]
    fn an_accepted_path_is_the_same_for_every_program(
        parts in prop::collection::vec(
            prop::sample::select(vec!["/", ".", "..", "%2e", "%2f", "%5c", "\\", ";", "%", "%25", "2e", "a", "plans", "?", "#", "%41"]),
            0..12,
        ),
    ) {
        let target = format!("/{}", parts.concat());
        if let Ok(path) = RequestPath::parse(&target) {
            let decoded = format!("/{}", path.segments().join("/"));
            prop_assert_eq!(RequestPath::parse(&decoded), Ok(path.clone()), "decoding twice changes it");
            let resolved = url::Url::parse("http://api.example.com").unwrap().join(&target).unwrap();
            let resolved = RequestPath::parse(resolved.path());
            prop_assert_eq!(resolved, Ok(path), "a browser's parser reads it otherwise");
        }
    }

    #[test]
    fn no_file_makes_the_parser_panic(yaml in "\\PC*") {
        drop(PathTable::parse(&yaml));
    }
}
