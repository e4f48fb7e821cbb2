//! `docs/pictures`: pictures of a terminal after real commands. This test generates them, and fails when they are not
//! current.
//!
//! `suite/monitoring` draws the picture of the dashboard.
//!
//! Values that differ in each run (ids, keys, times) are replaced by fixed values of the same length.

use std::collections::BTreeMap;
use std::env;
use std::fs;

use anstyle::{AnsiColor, RgbColor};
use anstyle_svg::{Term, VGA};

use super::{page, repository};
use crate::support::opsadmin::Opsadmin;

const FOLDER: &str = "docs/pictures";
const WRITE: &str = "OPSADMIN_TEST_WRITE";
const REMAKE: &str = "OPSADMIN_TEST_WRITE=1 cargo test --test suite guides::pictures";

/// The width of the terminal, in characters.
const COLUMNS: usize = 100;

/// The manifests of the pictures: `before` is the present state, `accounts` is a pull request, and `wrong` is invalid.
const MANIFESTS: [(&str, &str); 10] = [
    (
        "before/acme-portal",
        "  description: Acme's customer portal\n  roles: [Customer]\n  allowedIPs: [203.0.113.0/24]\n",
    ),
    ("before/bright", "  affiliate: Bright\n  roles: [PlansAndRates]\n  rotation:\n    trigger: January\n"),
    ("before/cedar", "  roles: [Customer]\n"),
    ("before/reports", "  roles: [Administrator]\n  allowedIPs: [198.51.100.7/32]\n"),
    (
        "accounts/acme-portal",
        "  description: Acme's customer portal\n  roles: [Customer, PlansAndRates]\n  allowedIPs: [198.51.100.0/24, 203.0.113.0/24]\n",
    ),
    ("accounts/bright", "  affiliate: Bright\n  roles: [PlansAndRates]\n  rotation:\n    trigger: February\n"),
    ("accounts/elm-billing", "  roles: [Customer]\n  allowedIPs: [192.0.2.0/24]\n"),
    ("accounts/fern-app", "  affiliate: Birch\n  roles: [PlansAndRates]\n"),
    ("accounts/reports", "  roles: [Administrator]\n  allowedIPs: [198.51.100.7/32]\n"),
    (
        "wrong/elm-billing",
        "  descripton: Elm's billing run\n  roles: [Customer, Plans]\n  allowedIPs: [192.0.2.7/24]\n",
    ),
];

/// The commands that run before the pictures are made.
const BEFORE: &str = "opsadmin apply -f before --secrets secrets --unknown-affiliate register
opsadmin suspend reports --reason 'unusual traffic, ticket 4711' --actor on-call
cp before/acme-portal.yaml wrong/other.yaml
sed -i 's/name: acme-portal/name: acme-shop/; s/^spec:/spec:\\n  name: bright/' wrong/other.yaml
cp before/bright.yaml wrong/bright.yaml";

/// The name of each picture, and its commands.
const PICTURES: [(&str, &[&str]); 6] = [
    ("plan", &["opsadmin plan -f accounts --secrets secrets --prune"]),
    ("validate", &["opsadmin validate -f wrong"]),
    ("get", &["opsadmin get", "opsadmin get acme-portal"]),
    ("check", &["opsadmin check acme-portal --ip 192.0.2.1 --endpoint plans"]),
    ("history", &["opsadmin history reports"]),
    (
        "keyring",
        &["opsadmin keyring rotate --only add", "opsadmin keyring rotate --only use", "opsadmin keyring status"],
    ),
];

/// Creates a working folder with the manifests, and runs the commands of `BEFORE` in it.
async fn desk() -> Opsadmin {
    let desk = Opsadmin::new();
    for (path, spec) in MANIFESTS {
        let (folder, name) = path.split_once('/').expect("a folder");
        fs::create_dir_all(desk.folder().join(folder)).expect("a folder");
        let head = format!(
            "apiVersion: ops-admin.com/v1\nkind: ApiAccount\nmetadata:\n  name: {name}\n  namespace: partners\n"
        );
        fs::write(desk.folder().join(format!("{path}.yaml")), format!("{head}spec:\n{spec}"))
            .expect("it can be written");
    }
    let said = desk.shell(&format!("set -e\n{BEFORE}\necho all of it")).await;
    assert!(said.ends_with("all of it\n"), "{said}");
    desk
}

/// Returns a command and its output, as a terminal of this width shows it.
async fn shown(desk: &Opsadmin, command: &str) -> String {
    let said = desk
        .shell(&format!(
            "script --quiet --command 'export TERM=xterm; stty cols {COLUMNS} rows 50; {command}' /dev/null </dev/null"
        ))
        .await;
    let prompt = format!("\u{1b}[90m$\u{1b}[0m \u{1b}[1m{command}\u{1b}[0m\n");
    // A slow run prints its progress in a line, and overwrites that line.
    let last = |line: &str| line.rsplit("\r\u{1b}[K").next().unwrap_or_default().to_owned() + "\n";
    let said: String = said.replace("\r\n", "\n").lines().map(last).collect();
    let plain = anstream::adapter::strip_str(&said).to_string();
    for line in plain.lines() {
        assert!(line.chars().count() <= COLUMNS, "$ {command}\n{line:?} is broken by the terminal");
    }
    prompt + &said
}

/// Replaces values that differ in each run by fixed values. Equal values get the same replacement.
struct Steady {
    seen: BTreeMap<String, String>,
}

impl Steady {
    fn text(&mut self, text: &str) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || "-_:".contains(c);
        let mut steady = String::new();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            steady += &self.word(word);
            let gap = after.find(is_word).unwrap_or(after.len());
            steady += &after[..gap];
            rest = &after[gap..];
        }
        steady
    }

    fn word(&mut self, text: &str) -> String {
        let word = text.trim_end_matches(':');
        let colon = &text[word.len()..];
        self.steady(word) + colon
    }

    fn steady(&mut self, word: &str) -> String {
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let is_uuid = word.len() == 36 && word.split('-').count() == 5 && word.split('-').all(is_hex);
        let number = self.seen.len() + 1;
        let steady = match word {
            _ if is_uuid => format!("6f1c2a{number:02x}-5b0d-4c1e-9a57-2f1f0e6f7a10"),
            _ if word.len() == 16 && is_hex(word) => format!("7c{number:02x}1e9a572f1f0e"),
            _ if word.starts_with("opsa_pk_") => format!("opsa_pk_1K{number:02}nblQo51Wa3wNnufNST2RjkVp"),
            _ if word.len() == 20 && word.ends_with('Z') && word.contains('T') => {
                return "2026-03-02T09:30:00Z".to_owned();
            }
            _ => return word.to_owned(),
        };
        assert_eq!(steady.len(), word.len(), "{word}");
        self.seen.entry(word.to_owned()).or_insert(steady).clone()
    }
}

/// Draws a dark terminal as SVG. It is a little lighter than a dark page, so that it stands out on dark and light
/// pages.
fn drawn(text: &str) -> String {
    let (page, ink) = (RgbColor(0x1c, 0x21, 0x28), RgbColor(0xd1, 0xd7, 0xe0));
    let mut palette = VGA;
    for (colour, shade) in [
        (AnsiColor::Red, RgbColor(0xf4, 0x70, 0x67)),
        (AnsiColor::Green, RgbColor(0x57, 0xab, 0x5a)),
        (AnsiColor::Yellow, RgbColor(0xd4, 0xa7, 0x2c)),
        (AnsiColor::BrightBlack, RgbColor(0x91, 0x98, 0xa1)),
    ] {
        palette.0[colour as usize] = shade;
    }
    let term = Term::new().palette(palette).fg_color(ink.into()).bg_color(page.into());
    // A lower opacity is hard to read.
    term.min_width_px(COLUMNS * 42 / 5).render_svg(text).replace("opacity: 0.4", "opacity: 0.7")
}

#[tokio::test]
async fn the_pictures_are_current() {
    let desk = desk().await;
    let mut steady = Steady { seen: BTreeMap::new() };
    let mut stale = Vec::new();
    for (name, commands) in PICTURES {
        let mut text = String::new();
        for (number, command) in commands.iter().enumerate() {
            text += if number == 0 { "" } else { "\n" };
            text += &steady.text(&shown(&desk, command).await);
        }
        let picture = drawn(text.trim_end());
        let file = repository(FOLDER).join(format!("{name}.svg"));
        if env::var_os(WRITE).is_some() {
            fs::write(&file, &picture).expect("it can be written");
        }
        if fs::read_to_string(&file).ok().as_ref() != Some(&picture) {
            stale.push((name, text));
        }
    }
    assert!(stale.is_empty(), "not current: {stale:#?}; look at what changed, and make them anew with: {REMAKE}");
}

#[test]
fn every_picture_is_generated_here_and_shown_on_a_page() {
    let pages: String = [
        "README.md",
        "docs/tour.md",
        "docs/platform-team.md",
        "docs/commands-accounts.md",
        "docs/database.md",
        "docs/metrics.md",
    ]
    .iter()
    .map(|path| page(path))
    .collect();
    let mut there: Vec<String> = Vec::new();
    for entry in fs::read_dir(repository(FOLDER)).expect("it can be listed") {
        there.push(entry.expect("it can be listed").file_name().into_string().expect("it is text"));
    }
    there.sort();
    let mut made: Vec<String> = PICTURES.iter().map(|(name, _)| format!("{name}.svg")).collect();
    made.push("dashboard.svg".to_owned());
    made.sort();
    assert_eq!(there, made);
    for picture in made {
        assert!(pages.contains(&format!("pictures/{picture})")), "{picture} is on no page");
    }
}
