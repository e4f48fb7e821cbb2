//! Every relative link of the pages leads to an existing file, and to an existing heading in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::{page, repository};

/// Below these paths, Markdown files are checked, beside the Markdown files of the root folder.
const WHERE: [&str; 4] = ["charts", "docs", "examples", "tests/README.md"];

fn markdown(at: &Path, found: &mut Vec<PathBuf>) {
    if at.is_dir() {
        for entry in fs::read_dir(at).expect("it can be listed") {
            markdown(&entry.expect("it can be listed").path(), found);
        }
    } else if at.extension().is_some_and(|extension| extension == "md") {
        found.push(at.to_owned());
    }
}

fn pages() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(repository("")).expect("it can be listed") {
        let path = entry.expect("it can be listed").path();
        if path.is_file() {
            markdown(&path, &mut found);
        }
    }
    for at in WHERE {
        markdown(&repository(at), &mut found);
    }
    found
}

/// Returns the text without code, because brackets in code are no links.
fn prose(text: &str) -> String {
    let mut code = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        } else if !code && !line.starts_with("    ") {
            // Every second piece between backticks is code. The text of a link may be code, and its target never is.
            prose.extend(
                line.split('`').enumerate().map(|(number, piece)| if number % 2 == 0 { piece } else { "code" }),
            );
            prose.push('\n');
        }
    }
    prose
}

fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let after = prose.split("](").skip(1);
    after
        .map(|rest| rest.split_once(')').expect("a link ends").0.split(' ').next().unwrap_or_default().to_owned())
        .collect()
}

/// Returns the anchors of a page's headings, by GitHub's rules: lower case; spaces become hyphens; only letters,
/// digits, hyphens and underscores stay; and a repeated anchor gets a number.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut code = false;
    let mut anchors = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            code = !code;
        }
        let heading = line.trim_start_matches('#');
        if code || heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let kept = heading.trim().to_lowercase().replace(' ', "-");
        let anchor: String = kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c)).collect();
        let before = seen.entry(anchor.clone()).or_default();
        anchors.push(if *before == 0 { anchor } else { format!("{anchor}-{before}") });
        *before += 1;
    }
    anchors
}

/// Returns the problem of a link of a page, or `None` if the link works.
fn broken(page: &Path, target: &str) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() { page.to_owned() } else { page.parent().expect("a folder").join(path) };
    if !file.exists() {
        return Some(format!("{}: {target} leads to no file", page.display()));
    }
    let anchor = anchor?;
    let there = anchors(&fs::read_to_string(&file).expect("it is a page"));
    (!there.iter().any(|known| known == anchor))
        .then(|| format!("{}: {target} leads to no heading; there are: {}", page.display(), there.join(" ")))
}

#[test]
fn every_link_works() {
    let pages = pages();
    let mut links = 0;
    let mut wrong = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).expect("it can be read");
        let targets = targets(&text);
        links += targets.len();
        wrong.extend(targets.iter().filter_map(|target| broken(page, target)));
    }
    assert_eq!(wrong, Vec::<String>::new(), "{}", wrong.join("\n"));
    assert!(pages.len() > 10 && links > 50, "{links} links in {} pages: they are not looked at", pages.len());
}

#[test]
fn a_broken_link_is_found() {
    let readme = repository("README.md");
    assert_eq!(targets("[`a`](b.md#c) ```[no](x)` [d](e)\n```\n[no](y)\n```\n"), ["b.md#c", "e"]);
    for (target, wrong) in [("docs/none.md", true), ("#none", true), ("docs/database.md#none", true)] {
        assert_eq!(broken(&readme, target).is_some(), wrong, "{target}");
    }
    for target in ["docs/database.md#logging-in", "docs/database.md#account_journal", "docs", "https://example.com/#a"]
    {
        assert_eq!(broken(&readme, target), None);
    }
    assert_eq!(anchors("# A `b`, c\n```\n# no\n```\n## A b c\n#no\n"), ["a-b-c", "a-b-c-1"]);
}

#[test]
fn every_page_can_be_found_from_the_index() {
    let index = targets(&page("docs/README.md"));
    let mut guides = Vec::new();
    markdown(&repository("docs"), &mut guides);
    for guide in guides {
        let name = guide.file_name().and_then(|name| name.to_str()).expect("it is text");
        let listed = index.iter().any(|target| target.split('#').next() == Some(name));
        assert!(listed || name == "README.md", "docs/README.md lists no {name}");
    }
    assert!(targets(&page("README.md")).iter().any(|target| target == "docs/README.md"), "README.md names no index");
}
