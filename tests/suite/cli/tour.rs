//! Follows docs/tour.md: writes each file, runs each command, and compares the output with the page.

use std::fs;
use std::iter::Peekable;

use crate::guides::{auth_server, repository};
use crate::login::scene::AuthServer;
use crate::support::opsadmin::Opsadmin;

const TOUR: &str = include_str!("../../../docs/tour.md");

/// A fenced code block of the page.
struct Block {
    kind: String,
    lines: Vec<String>,
}

fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = TOUR.lines();
    while let Some(line) = lines.next() {
        let ticks: String = line.chars().take_while(|character| *character == '`').collect();
        if ticks.len() >= 3 {
            let kind = line[ticks.len()..].to_owned();
            let lines = lines.by_ref().take_while(|line| *line != ticks).map(str::to_owned).collect();
            blocks.push(Block { kind, lines });
        }
    }
    blocks
}

/// Replaces the values that differ in each run (ids, sealing keys, times) with the name of their kind.
fn normalized(text: &str) -> String {
    let is_hex = |word: &str| word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let word = |word: &str| {
        let (core, end) = word.split_at(word.trim_end_matches([',', ':']).len());
        let core = match core {
            core if core.len() == 36 && core.split('-').all(is_hex) => "ID",
            core if core.len() == 16 && is_hex(core) => "SEALING",
            core if core.len() == 20 && core.ends_with('Z') && core.as_bytes()[10] == b'T' => "TIME",
            core => core,
        };
        format!("{core}{end}")
    };
    text.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// Compares line by line. A line of three dots in the page matches any number of lines.
fn compare(command: &str, expected: &[String], said: &str) {
    let said: Vec<String> = said.lines().map(normalized).collect();
    let mut rest = said.iter().peekable();
    let mut expected = expected.iter().peekable();
    while let Some(line) = expected.next() {
        if line == "..." {
            skip_to(expected.peek().copied(), &mut rest);
        } else {
            assert_eq!(Some(line), rest.next(), "$ {command}\n{said:#?}");
        }
    }
    assert_eq!(rest.next(), None, "$ {command}\n{said:#?}");
}

fn skip_to<'a>(line: Option<&String>, rest: &mut Peekable<impl Iterator<Item = &'a String>>) {
    while rest.next_if(|said| Some(*said) != line).is_some() {}
}

#[tokio::test]
async fn the_commands_of_the_tour_print_what_it_shows() {
    let desk = Opsadmin::new();
    fs::copy(repository("examples/login/login.sh"), desk.folder().join("login.sh")).expect("it can be copied");
    let mut server: Option<AuthServer> = None;
    let mut commands = 0;
    let mut before = String::new();
    for Block { kind, lines } in blocks() {
        if kind != "console" {
            let file = desk.folder().join(lines[0].strip_prefix("# ").expect("a block names its file"));
            fs::create_dir_all(file.parent().expect("a folder")).expect("it can be made");
            // The first line is the file's name. It stays in YAML, where it is a comment, and is removed from CSV.
            let from = usize::from(kind == "csv");
            fs::write(file, lines[from..].join("\n") + "\n").expect("it can be written");
            continue;
        }
        let mut lines = lines.into_iter().peekable();
        while let Some(line) = lines.next() {
            let command = line.strip_prefix("$ ").expect("a command").to_owned();
            let mut expected = Vec::new();
            while let Some(line) = lines.next_if(|line| !line.starts_with("$ ")) {
                expected.push(line);
            }
            if command.starts_with("opsadmin auth-server") {
                server = Some(auth_server::start(&command, desk.folder()).await);
                continue;
            }
            let typed = auth_server::at(server.as_ref(), &command);
            if command.starts_with("export ") {
                before.push_str(&typed);
                before.push(';');
                continue;
            }
            compare(&command, &expected, &desk.shell(&format!("{before} {typed}")).await);
            commands += 1;
        }
    }
    assert!(commands > 20, "{commands}");
}
