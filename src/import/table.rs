//! Reads CSV as spreadsheet programs write it: a heading, and a row for each account.
//!
//! The separator is never guessed: if the file does not show it, the file is refused. A row that is split at wrong
//! places would give an account the keys of another account.

use super::quotes::{self, Misquoted};
use super::record::{FIELDS, Line, Record};
use super::secrecy::word;
use serde_json::{Map, Value};
use std::collections::HashSet;

/// The separators between cells. The first is used if the heading contains none of them.
const SEPARATORS: [char; 3] = [',', ';', '\t'];

/// The error texts that spreadsheet programs show instead of a value.
const ERROR_TEXTS: [&str; 7] = ["#NAME?", "#N/A", "#REF!", "#VALUE!", "#DIV/0!", "#NUM!", "#NULL!"];

/// Reads every row that is not empty.
pub fn read(text: &str) -> Vec<Line> {
    let (separator, skipped) = match separator(text) {
        Ok(found) => found,
        Err((number, message)) => return vec![Line { number, record: Err(vec![message]) }],
    };
    let first = 1 + line_ends(&text[..skipped]);
    let text = &text[skipped..];
    // After a cell with wrong quotes, it is unknown where the next rows begin, so no row is read.
    if let Err(Misquoted { line, message }) = quotes::check(text, separator) {
        return vec![Line { number: line + first - 1, record: Err(vec![message]) }];
    }
    let delimiter = u8::try_from(separator).unwrap_or(b',');
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let mut counter = LineCounter { text, at: 0, number: first };
    let Ok(headings) = reader.headers().cloned() else {
        let number = counter.line_after(None);
        return vec![Line { number, record: Err(vec!["is not a heading in CSV".to_owned()]) }];
    };
    let number = counter.line_after(headings.position());
    let wrong = wrong_with_heading(&headings);
    if !wrong.is_empty() {
        return vec![Line { number, record: Err(wrong) }];
    }
    let mut lines = Vec::new();
    for row in reader.records() {
        match row {
            Ok(row) => {
                let number = counter.line_after(row.position());
                // Spreadsheet programs still write a row that was emptied and not deleted.
                if row.iter().any(|cell| !cell.is_empty()) {
                    lines.push(Line { number, record: record(&headings, &row) });
                }
            }
            Err(error) => {
                let number = counter.line_after(error.position());
                let message = match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => format!(
                        "has {len} cells, and the heading has {expected_len}; quote cells that have {}",
                        in_words(separator)
                    ),
                    _ => "is not valid CSV in UTF-8".to_owned(),
                };
                lines.push(Line { number, record: Err(vec![message]) });
            }
        }
    }
    lines
}

/// Returns the separator, and the byte offset at which the heading begins: after a `sep=` line, if there is one.
///
/// # Errors
/// The `sep=` line names another character: its line number and a message.
fn separator(text: &str) -> Result<(char, usize), (usize, String)> {
    let start = text.len() - text.trim_start_matches(['\r', '\n']).len();
    let line = text[start..].split(['\r', '\n']).next().unwrap_or_default();
    if let Some(named) = line.strip_prefix("sep=") {
        let named = named.chars().next().filter(|_| named.chars().count() == 1);
        return match named.filter(|named| SEPARATORS.contains(named)) {
            Some(named) => Ok((named, start + line.len())),
            None => Err((
                1 + line_ends(&text[..start]),
                "the separator that sep= names must be a comma, a semicolon or a tab".to_owned(),
            )),
        };
    }
    // No column name contains a separator, so a heading with several separators is refused as an unknown column name.
    let mut there = SEPARATORS.into_iter().filter(|&separator| line.contains(separator));
    let found = there.next().unwrap_or(',');
    Ok((if there.next().is_none() { found } else { ',' }, 0))
}

fn in_words(separator: char) -> &'static str {
    match separator {
        ';' => "semicolons",
        '\t' => "tabs",
        _ => "commas",
    }
}

fn record(headings: &csv::StringRecord, row: &csv::StringRecord) -> Result<Record, Vec<String>> {
    let fault = |heading: &str, cell: &str| {
        match cell {
        _ if heading.is_empty() => Some("has a value but no heading".to_owned()),
        _ if is_error_text(cell) => Some("shows an error of a spreadsheet program instead of a value".to_owned()),
        _ if matches!(heading, "name" | "apiKey" | "secretKey") && is_shortened(cell) => Some(
            "is a number that a spreadsheet program has shortened; format its column as text, and enter the value again"
                .to_owned(),
        ),
        _ => None,
    }
    };
    let wrong = (1..).zip(headings.iter().zip(row.iter())).filter(|(_, (_, cell))| !cell.is_empty());
    let wrong = wrong.filter_map(|(number, (heading, cell))| {
        let column = if heading.is_empty() { format!("column {number}") } else { heading.to_owned() };
        Some(format!("{column}: {}", fault(heading, cell)?))
    });
    let wrong: Vec<String> = wrong.collect();
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let cells = headings.iter().zip(row.iter()).filter(|(_, cell)| !cell.is_empty());
    let fields: Map<String, Value> = cells.map(|(heading, cell)| (heading.to_owned(), value(heading, cell))).collect();
    Record::parse(&fields)
}

/// Returns whether a cell has an error text, or `###` because its column was too narrow.
fn is_error_text(cell: &str) -> bool {
    ERROR_TEXTS.contains(&cell) || (cell.len() > 2 && cell.chars().all(|letter| letter == '#'))
}

/// Returns whether a cell is a shortened number such as `1.23457E+17`, whose other digits are lost.
fn is_shortened(cell: &str) -> bool {
    let Some((number, exponent)) = cell.split_once("E+") else { return false };
    let are_digits = |text: &str| !text.is_empty() && text.chars().all(|letter| letter.is_ascii_digit());
    are_digits(exponent) && are_digits(&number.replacen(['.', ','], "", 1))
}

/// Returns the number of line ends in a text. `\r\n` is one line end.
fn line_ends(text: &str) -> usize {
    let ends = |end: &str| text.matches(end).count();
    ends("\n") + ends("\r") - ends("\r\n")
}

/// Counts the lines of a text up to a row. The `csv` crate reports the position before the empty lines that precede a
/// row, not the position of the row.
struct LineCounter<'a> {
    text: &'a str,
    /// The byte offset of the last row.
    at: usize,
    /// The line number of the last row.
    number: usize,
}

impl LineCounter<'_> {
    /// Returns the line number of the first row after this position. Must be called in the order of the rows.
    fn line_after(&mut self, position: Option<&csv::Position>) -> usize {
        let from = position.and_then(|position| usize::try_from(position.byte()).ok()).unwrap_or(self.at);
        let rest = self.text.get(from..).unwrap_or_default().trim_start_matches(['\r', '\n']);
        let start = self.text.len() - rest.len();
        let passed = self.text.get(self.at..start).unwrap_or_default();
        self.number += line_ends(passed);
        self.at = start;
        self.number
    }
}

/// Returns the problems with the names of the columns.
fn wrong_with_heading(headings: &csv::StringRecord) -> Vec<String> {
    // Spreadsheet programs still write a column that was emptied and not deleted, so an empty name is allowed.
    let columns = || (1..).zip(headings);
    let mut wrong: Vec<String> = columns()
        .filter(|(_, heading)| !FIELDS.contains(heading) && !heading.is_empty())
        .map(|(number, heading)| {
            let name = word(heading).map(|word| format!(" {word}")).unwrap_or_default();
            format!("unknown column{name}, number {number} of the heading")
        })
        .collect();
    if !wrong.is_empty() {
        let hint =
            if headings.iter().any(|heading| heading.starts_with("opsa_")) { "the heading is missing; " } else { "" };
        wrong = vec![format!("{hint}{}; the first line must name the columns: {}", wrong.join("; "), FIELDS.join(","))];
    }
    let mut seen = HashSet::new();
    let twice = columns().filter(|(_, heading)| FIELDS.contains(heading) && !seen.insert(*heading));
    wrong.extend(twice.map(|(number, heading)| {
        format!(
            "column {heading:?} occurs twice, the second time as number {number} of the heading: keep one of the two"
        )
    }));
    wrong
}

/// Returns the JSON value of a cell.
fn value(heading: &str, cell: &str) -> Value {
    match (heading, cell) {
        ("enabled" | "useRefreshToken", flag) if flag.eq_ignore_ascii_case("true") => Value::Bool(true),
        ("enabled" | "useRefreshToken", flag) if flag.eq_ignore_ascii_case("false") => Value::Bool(false),
        ("roles" | "allowedIPs", list) => list.split_whitespace().map(Value::from).collect(),
        (_, text) => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<(usize, Result<String, Vec<String>>)> {
        let told = |line: Line| (line.number, line.record.map(|record| record.settings.name.as_str().to_owned()));
        read(text).into_iter().map(told).collect()
    }

    fn acme(line: usize) -> Vec<(usize, Result<String, Vec<String>>)> {
        vec![(line, Ok("Acme, Inc.".to_owned()))]
    }

    #[test]
    fn the_heading_or_a_sep_line_shows_the_separator() {
        let with = |separator: &str| {
            let cells = ["name", "enabled", "roles", "apiKey", "secretKey"].join(separator);
            let row =
                ["\"Acme, Inc.\"", "TRUE", "Customer PlansAndRates", "legacy-1", "0123456789abcdef"].join(separator);
            format!("{cells}\r\n{row}\r\n")
        };
        for separator in [",", ";", "\t"] {
            assert_eq!(names(&with(separator)), acme(2), "{separator:?}");
            assert_eq!(names(&format!("sep={separator}\r\n{}", with(separator))), acme(3), "{separator:?}");
            assert_eq!(names(&format!("\n\nsep={separator}\n\n{}", with(separator))), acme(6), "{separator:?}");
        }
        let unquoted = with(";").replace('"', "");
        assert_eq!(names(&unquoted), acme(2), "a comma is a letter there");
    }

    #[test]
    fn the_separator_is_not_guessed() {
        let refused = |text: &str, line: usize, said: &str| {
            let told = names(text);
            assert!(
                matches!(&told[..], [(number, Err(wrong))] if *number == line && wrong[0].contains(said)),
                "{text:?}: {told:?}"
            );
        };
        refused("name;apiKey,secretKey\nAcme;a,b\n", 1, "unknown column, number 1 of the heading");
        refused("sep=,\nname;apiKey;secretKey\nAcme;legacy-1;0123456789abcdef\n", 2, "unknown column, number 1");
        refused("sep=|\nname|apiKey|secretKey\n", 1, "must be a comma, a semicolon or a tab");
        refused("sep=\nname\n", 1, "must be a comma, a semicolon or a tab");
        // Only the separator of the heading ends a cell; a comma is part of the text here.
        let short = "name;apiKey;secretKey\nAcme;legacy-1,0123456789abcdef\n";
        refused(short, 2, "has 2 cells, and the heading has 3; quote cells that have semicolons");
        let misquoted = "sep=;\nname;apiKey;secretKey\n\"Acme;legacy-1;0123456789abcdef\n";
        refused(misquoted, 3, "cell 1 begins with a quote and has no closing quote");
    }

    #[test]
    fn empty_rows_and_columns_are_skipped() {
        let text = "name;apiKey;secretKey;;\n;;;;\nAcme, Inc.;legacy-1;0123456789abcdef;;\n;;;;\n;;;;\n";
        assert_eq!(names(text), acme(3));
        let told = names("name;apiKey;secretKey;;\nAcme;legacy-1;0123456789abcdef;;x\n");
        assert_eq!(told, [(2, Err(vec!["column 5: has a value but no heading".to_owned()]))]);
        let told = names("name;apiKey;secretKey\n;legacy-1;0123456789abcdef\n");
        assert_eq!(told, [(2, Err(vec!["name: is missing".to_owned()]))]);
    }

    #[test]
    fn flags_are_english_and_in_any_case() {
        let enabled = |flag: &str| {
            let lines = read(&format!("name;enabled;apiKey;secretKey\nAcme;{flag};legacy-1;0123456789abcdef\n"));
            lines.into_iter().next().unwrap().record.map(|record| record.settings.enabled)
        };
        for (flag, is_enabled) in
            [("TRUE", true), ("True", true), ("true", true), ("FALSE", false), ("false", false), ("", true)]
        {
            assert_eq!(enabled(flag).ok(), Some(is_enabled), "{flag}");
        }
        for flag in ["WAHR", "VRAI", "1", "0", "yes", "x", "#N/A"] {
            assert!(enabled(flag).is_err(), "{flag}");
        }
    }

    #[test]
    fn a_value_that_a_spreadsheet_program_has_lost_is_refused() {
        let row = |name: &str, key: &str, addresses: &str| {
            let text = format!("name;apiKey;secretKey;allowedIPs\n{name};{key};0123456789abcdef;{addresses}\n");
            read(&text).into_iter().next().unwrap().record.err().unwrap_or_default()
        };
        assert_eq!(row("Acme", "12345678901234567890", "10.0.0.1"), Vec::<String>::new());
        for key in ["1.23457E+17", "1,23457E+17", "1E+20"] {
            let told = row("Acme", key, "");
            assert!(told[0].starts_with("apiKey: is a number that a spreadsheet program has shortened"), "{told:?}");
        }
        for lost in ["########", "#NAME?", "#N/A"] {
            let failure = "shows an error of a spreadsheet program instead of a value";
            assert_eq!(row("Acme", lost, ""), [format!("apiKey: {failure}")]);
            assert_eq!(row(lost, "legacy-1", lost), [format!("name: {failure}"), format!("allowedIPs: {failure}")]);
        }
    }
}
