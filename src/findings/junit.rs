//! Writes JUnit XML, which most continuous integration systems show with a merge request. Each file with accounts is a
//! test case that passes or fails.

use super::message;
use crate::manifests::Problem;
use crate::yaml::is_harmless;
use anyhow::Result;
use quick_xml::Writer;
use quick_xml::events::{BytesDecl, BytesText, Event};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

/// The class name of the test cases. Jenkins uses the part before the dot as the package.
const CLASS: &str = "opsadmin.validate";

/// Returns the document for the files with valid accounts, and for all problems. A file is one test case with all of
/// its problems in the text, because systems recognise a test case by its name from one run to the next.
pub fn junit(files: &[Arc<str>], problems: &[Problem]) -> Result<String> {
    let mut wrong: BTreeMap<&str, Vec<&Problem>> = BTreeMap::new();
    for problem in problems {
        wrong.entry(&problem.place.file).or_default().push(problem);
    }
    let cases = cases(files, problems);
    let (tests, failures) = (cases.len().to_string(), wrong.len().to_string());
    let totals = [("tests", tests.as_str()), ("failures", &failures), ("errors", "0"), ("skipped", "0")];

    let mut xml = Writer::new_with_indent(Vec::new(), b' ', 2);
    xml.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let suites = xml.create_element("testsuites").with_attribute(("name", "opsadmin")).with_attributes(totals);
    suites.write_inner_content(|xml| {
        let suite = xml.create_element("testsuite").with_attribute(("name", "opsadmin validate"));
        suite.with_attributes(totals).write_inner_content(|xml| {
            cases.iter().try_for_each(|file| case(xml, file, wrong.get(file).map_or(&[][..], Vec::as_slice)))
        })?;
        Ok(())
    })?;
    Ok(String::from_utf8(xml.into_inner())?)
}

/// Returns the files of the report, each once.
fn cases<'a>(files: &'a [Arc<str>], problems: &'a [Problem]) -> Vec<&'a str> {
    let all = files.iter().map(|file| &**file).chain(problems.iter().map(|problem| &*problem.place.file));
    let mut seen = BTreeSet::new();
    all.filter(|file| seen.insert(*file)).collect()
}

fn case(xml: &mut Writer<Vec<u8>>, file: &str, problems: &[&Problem]) -> io::Result<()> {
    let name = writable(file);
    let case = xml.create_element("testcase").with_attributes([("classname", CLASS), ("name", &name), ("file", &name)]);
    let Some(first) = problems.first() else {
        case.write_empty()?;
        return Ok(());
    };
    let line = first.place.position.map(|at| at.line.to_string());
    let case = case.with_attributes(line.as_deref().map(|line| ("line", line)));
    let told = match problems.len() {
        1 => message(first),
        several => format!("{several} mistakes, the first: {}", message(first)),
    };
    let all = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    case.write_inner_content(|xml| {
        let failure = xml.create_element("failure").with_attribute(("type", "invalid-api-account"));
        failure.with_attribute(("message", &*writable(&told))).write_text_content(BytesText::new(&writable(&all)))?;
        Ok(())
    })?;
    Ok(())
}

/// Returns the text with the characters escaped that XML 1.0 cannot contain or that control a terminal.
fn writable(text: &str) -> String {
    let written = |c: char| match c {
        '\u{fffe}' | '\u{ffff}' => c.escape_unicode().to_string(),
        c if is_harmless(c) => c.to_string(),
        c => c.escape_unicode().to_string(),
    };
    text.chars().map(written).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::{Place, Position};
    use proptest::prelude::*;

    fn problem(file: &str, line: usize, object: &str, message: &str) -> Problem {
        let place = Place { file: file.into(), position: Some(Position { line, column: 1 }) };
        Problem { place, object: Some(object.to_owned()), field: Some("spec".to_owned()), message: message.to_owned() }
    }

    #[test]
    fn a_file_is_reported_once_with_all_its_problems() {
        let files = ["a".into(), "b".into()];
        let problems = [problem("broken", 1, "x", "1"), problem("a", 2, "x", "2"), problem("folder", 3, "x", "3")];
        let xml = junit(&files, &[problems.as_slice(), &[problem("a", 4, "y", "4")]].concat()).unwrap();
        let document = roxmltree::Document::parse(&xml).unwrap();
        let cases: Vec<_> = document.descendants().filter(|node| node.has_tag_name("testcase")).collect();
        let of = |name| cases.iter().map(|case| case.attribute(name)).collect::<Vec<_>>();
        assert_eq!(of("name"), [Some("a"), Some("b"), Some("broken"), Some("folder")]);
        assert_eq!(of("line"), [Some("2"), None, Some("1"), Some("3")]);
        let failure = cases[0].first_element_child().unwrap();
        assert_eq!(failure.attribute("message"), Some("2 mistakes, the first: x: spec: 2"));
        assert_eq!(failure.text(), Some("a:2:1: x: spec: 2\na:4:1: y: spec: 4"));
        let suite = cases[0].parent().unwrap();
        assert_eq!((suite.attribute("tests"), suite.attribute("failures")), (Some("4"), Some("3")));
    }

    proptest! {
        #[test]
        fn any_name_and_message_is_in_the_document(
            text: String,
            hidden in "[\u{0}-\u{1f}\u{7f}-\u{9f}\u{202e}\u{fffe}\u{ffff}]*",
            markup in r#"(]]>|<!--|-->|<\?|&#0;|&x;|"|'|\t|\n|\r)*"#,
        ) {
            let text = [text, hidden, markup].concat();
            let xml = junit(&[], &[problem(&text, 7, &text, &text)]).unwrap();
            prop_assert!(!xml.contains(|c: char| c != '\n' && c.is_control()));
            let document = roxmltree::Document::parse(&xml).unwrap();
            let case = document.descendants().find(|node| node.has_tag_name("testcase")).unwrap();
            let told = writable(&text);
            prop_assert_eq!(case.attribute("file"), Some(told.as_str()));
            let failure = case.first_element_child().unwrap();
            let message = format!("{told}: spec: {told}");
            prop_assert_eq!(failure.attribute("message"), Some(message.as_str()));
            let whole = format!("{told}:7:1: {message}");
            prop_assert_eq!(failure.text(), Some(whole.as_str()));
        }
    }
}
