//! The context of the image's build has every file that the program contains: its code, and what `include_str!` and other
//! macros read. `.dockerignore` leaves files out.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::guides::{page, repository};

/// The macros that put a file or a folder into the program. Each takes one path.
const MACROS: [&str; 4] = ["include_str!(\"", "include_bytes!(\"", "include!(\"", "migrate!(\""];

/// What a build needs beside the code.
const ALWAYS: [&str; 6] = ["Cargo.toml", "Cargo.lock", "build.rs", "clippy.toml", "release/root.sh", "src/main.rs"];

/// A line of `.dockerignore`. The last one that matches a path decides.
struct Pattern {
    parts: Vec<String>,
    keeps: bool,
}

fn patterns(text: &str) -> Vec<Pattern> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let pattern = |line: &str| {
        let (keeps, path) = line.strip_prefix('!').map_or((false, line), |path| (true, path));
        Pattern { parts: path.split('/').map(str::to_owned).collect(), keeps }
    };
    lines.map(pattern).collect()
}

/// Returns whether the context lacks a file. A pattern that matches a folder matches everything in it.
fn is_left_out(path: &str, patterns: &[Pattern]) -> bool {
    let parts: Vec<&str> = path.split('/').collect();
    let matches = |pattern: &&Pattern| (1..=parts.len()).any(|end| matches_path(&pattern.parts, &parts[..end]));
    patterns.iter().rfind(matches).is_some_and(|pattern| !pattern.keeps)
}

fn matches_path(pattern: &[String], parts: &[&str]) -> bool {
    match (pattern.split_first(), parts.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => (0..=parts.len()).any(|skip| matches_path(rest, &parts[skip..])),
        (Some((first, rest)), Some((part, below))) => matches_name(first, part) && matches_path(rest, below),
        _ => false,
    }
}

/// Matches a name with a pattern in which `*` is any text.
fn matches_name(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => name.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).any(|at| rest.is_char_boundary(at) && matches_name(after, &rest[at..]))
        }),
    }
}

/// Returns every file below a folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("it can be listed").path());
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Returns the paths that the macros in a file of code name, as they are written. What is for tests only does not count.
fn included(code: &str) -> Vec<String> {
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap_or(code);
    let of = |name: &str| {
        let calls = code.split(name).skip(1).filter_map(|rest| rest.split_once('"'));
        calls.map(|(path, _)| path.to_owned()).collect::<Vec<_>>()
    };
    MACROS.iter().flat_map(|name| of(name)).collect()
}

/// Removes `..` from a path, and returns it relative to the repository.
fn in_repository(path: &Path) -> String {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
    }
    let relative = plain.strip_prefix(repository("")).unwrap_or_else(|_| panic!("{} is elsewhere", plain.display()));
    relative.to_str().expect("a path of this repository is text").to_owned()
}

#[test]
fn the_context_has_every_file_that_the_program_contains() {
    let ignored = patterns(&page(".dockerignore"));
    let mut needed: Vec<String> = ALWAYS.map(str::to_owned).into();
    let code: Vec<PathBuf> = files_below(&repository("src")).into_iter().chain([repository("build.rs")]).collect();
    for file in &code {
        needed.push(in_repository(file));
        let is_test = file.file_name().is_some_and(|name| name == "tests.rs");
        if file.extension().is_none_or(|extension| extension != "rs") || is_test {
            continue;
        }
        for path in included(&fs::read_to_string(file).expect("it can be read")) {
            // The folder of a migration is relative to the repository.
            let here = file.parent().expect("a folder").join(&path);
            let found = [here, repository(&path)].into_iter().find(|path| path.exists());
            let found = found.unwrap_or_else(|| panic!("{}: no file {path}", file.display()));
            let files = if found.is_dir() { files_below(&found) } else { vec![found] };
            needed.extend(files.iter().map(|file| in_repository(file)));
        }
    }
    for expected in ["examples/login/paths.yaml", "deploy/rbac.yaml", "src/database/sqlite/migrations"] {
        assert!(needed.iter().any(|path| path.starts_with(expected)), "{expected} is not found any more");
    }
    let lacking: Vec<&String> = needed.iter().filter(|path| is_left_out(path, &ignored)).collect();
    assert!(lacking.is_empty(), ".dockerignore leaves out {lacking:?}");
}

#[test]
fn a_later_line_of_the_patterns_decides() {
    let ignored = patterns("# About.\nexamples\n!examples/login/paths.yaml\n**/*.db*\ntarget\n");
    for (path, expected) in [
        ("examples/login/paths.yaml", false),
        ("examples/login/other.yaml", true),
        ("examples", true),
        ("src/examples/mod.rs", false),
        ("opsadmin.db", true),
        ("a/b/opsadmin.db-wal", true),
        ("a/b/opsadmin.yaml", false),
        ("target/debug/opsadmin", true),
        ("targets", false),
    ] {
        assert_eq!(is_left_out(path, &ignored), expected, "{path}");
    }
    assert!(is_left_out("examples/login/paths.yaml", &patterns("!examples/login/paths.yaml\nexamples\n")));
}
