//! An import file: JSON Lines or CSV, each account with the number of its line.

use super::record::{FIELDS, Record};
use clap::ValueEnum;
use serde_json::{Map, Value};

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// A JSON object on each line.
    Jsonl,
    /// A heading and a row for each account; lists are separated by spaces.
    Csv,
}

/// What a line says, or everything that is wrong with it.
pub struct Line {
    /// Its number, counted from 1.
    pub number: u64,
    /// The account.
    pub record: Result<Record, Vec<String>>,
}

/// Reads every line that has something on it.
pub fn read(text: &str, format: FileFormat) -> Vec<Line> {
    match format {
        FileFormat::Jsonl => read_json_lines(text),
        FileFormat::Csv => read_csv(text),
    }
}

fn read_json_lines(text: &str) -> Vec<Line> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    let parse = |line: &str| match serde_json::from_str::<Value>(line) {
        Ok(Value::Object(fields)) => Record::parse(&fields),
        Ok(_) => Err(vec!["must be a JSON object".to_owned()]),
        // Of the parser's own message only the place: it may quote what it read.
        Err(error) => Err(vec![format!("is not valid JSON (column {})", error.column())]),
    };
    lines.map(|(number, line)| Line { number, record: parse(line) }).collect()
}

fn read_csv(text: &str) -> Vec<Line> {
    let mut reader = csv::ReaderBuilder::new().from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let headings = match reader.headers() {
        Ok(headings) => headings.clone(),
        Err(_) => return vec![Line { number: 1, record: Err(vec!["is no heading in CSV".to_owned()]) }],
    };
    if let Some(unknown) = headings.iter().find(|heading| !FIELDS.contains(heading)) {
        let hint = if unknown.starts_with("opsa_") { "the heading is missing" } else { "unknown column" };
        let message = format!("{hint}; the first line must name the columns: {}", FIELDS.join(","));
        return vec![Line { number: 1, record: Err(vec![message]) }];
    }
    let mut lines = Vec::new();
    for row in reader.records() {
        lines.push(match row {
            Ok(row) => {
                let number = row.position().map_or(0, csv::Position::line);
                let fields = headings.iter().zip(row.iter()).filter(|(_, cell)| !cell.is_empty());
                let fields: Map<String, Value> =
                    fields.map(|(heading, cell)| (heading.to_owned(), value(heading, cell))).collect();
                Line { number, record: Record::parse(&fields) }
            }
            Err(error) => {
                let number = error.position().map_or(0, csv::Position::line);
                let message = match error.kind() {
                    csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                        format!("has {len} cells and the heading {expected_len}; quote cells that have commas")
                    }
                    _ => "is not valid CSV in UTF-8".to_owned(),
                };
                Line { number, record: Err(vec![message]) }
            }
        });
    }
    lines
}

/// A cell as JSON would have it.
fn value(heading: &str, cell: &str) -> Value {
    match (heading, cell) {
        ("enabled" | "useRefreshToken", "true") => Value::Bool(true),
        ("enabled" | "useRefreshToken", "false") => Value::Bool(false),
        ("roles" | "allowedIPs", list) => list.split_whitespace().map(Value::from).collect(),
        (_, text) => Value::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, format: FileFormat) -> Vec<(u64, Result<String, Vec<String>>)> {
        let told = |line: Line| (line.number, line.record.map(|record| record.settings.name.as_str().to_owned()));
        read(text, format).into_iter().map(told).collect()
    }

    #[test]
    fn both_forms_say_the_same_and_count_lines_alike() {
        let json =
            "\n{\"name\": \"Acme, Inc.\", \"apiKey\": \"legacy-1\", \"secretKey\": \"0123456789abcdef\"}\n{\n7\n";
        let csv = "name,enabled,roles,apiKey,secretKey\n\"Acme, Inc.\",true,Customer PlansAndRates,legacy-1,0123456789abcdef\n\
                   a,b\n";
        let acme = Ok("Acme, Inc.".to_owned());
        assert_eq!(
            names(json, FileFormat::Jsonl),
            [
                (2, acme.clone()),
                (3, Err(vec!["is not valid JSON (column 1)".to_owned()])),
                (4, Err(vec!["must be a JSON object".to_owned()]))
            ]
        );
        let short = "has 2 cells and the heading 5; quote cells that have commas".to_owned();
        assert_eq!(names(csv, FileFormat::Csv), [(2, acme), (3, Err(vec![short]))]);
    }

    #[test]
    fn a_file_without_its_heading_shows_no_key() {
        let told = names("Acme,opsa_pk_x,opsa_sk_y\n", FileFormat::Csv);
        assert!(matches!(&told[..], [(1, Err(wrong))] if !wrong[0].contains("opsa_sk")), "{told:?}");
    }

    #[test]
    fn an_empty_cell_is_the_default_and_an_unreadable_flag_is_not() {
        let csv = "name,enabled,allowedIPs,apiKey,secretKey\nAcme,,,legacy-1,0123456789abcdef\n\
                   Cedar,TRUE,,legacy-2,0123456789abcdef\n";
        let told = names(csv, FileFormat::Csv);
        assert!(told[0].1.is_ok(), "{told:?}");
        assert_eq!(told[1].1, Err(vec!["enabled: must be true or false".to_owned()]));
    }
}
