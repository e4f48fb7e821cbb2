//! Reads an import file, JSON Lines or CSV, into one record for each line. `table.rs` reads CSV.

use super::json::Json;
use super::record::{FIELDS, Line, Record};
use super::secrecy;
use super::table;
use clap::ValueEnum;
use serde_json::Value;

/// The format of an import file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FileFormat {
    /// A JSON object on each line.
    Jsonl,
    /// A heading, and a row for each account; spaces separate the entries of a list.
    Csv,
}

/// Reads every line that is not empty.
pub fn read(text: &str, format: FileFormat) -> Vec<Line> {
    match format {
        FileFormat::Jsonl => read_json_lines(text),
        FileFormat::Csv => table::read(text),
    }
}

fn read_json_lines(text: &str) -> Vec<Line> {
    let lines = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    if let Some((number, _)) = lines.clone().next().filter(|(_, line)| is_heading(line)) {
        return vec![Line { number, record: Err(vec!["is the heading of CSV; give --format csv".to_owned()]) }];
    }
    let parse = |line: &str| match serde_json::from_str(line) {
        Ok(Json { value: Value::Object(fields), repeated_fields: twice }) if twice.is_empty() => Record::parse(&fields),
        Ok(Json { value: Value::Object(_), repeated_fields: twice }) => {
            let message = |name: &String| format!("{} occurs twice: keep one of the two", secrecy::field(name));
            Err(twice.iter().map(message).collect())
        }
        Ok(_) => Err(vec!["must be a JSON object".to_owned()]),
        // Only the column of the parser's message is used: the message may quote a key.
        Err(error) => Err(vec![format!("is not valid JSON (column {})", error.column())]),
    };
    lines.map(|(number, line)| Line { number, record: parse(line) }).collect()
}

/// Returns whether a line is a CSV heading. A line of JSON never is.
fn is_heading(line: &str) -> bool {
    line.starts_with("sep=") || line.split([',', ';', '\t']).all(|word| FIELDS.contains(&word.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str, format: FileFormat) -> Vec<(usize, Result<String, Vec<String>>)> {
        let told = |line: Line| (line.number, line.record.map(|record| record.settings.name.as_str().to_owned()));
        read(text, format).into_iter().map(told).collect()
    }

    #[test]
    fn both_formats_give_the_same_records_and_line_numbers() {
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
        let short = "has 2 cells, and the heading has 5; quote cells that have commas".to_owned();
        assert_eq!(names(csv, FileFormat::Csv), [(2, acme), (3, Err(vec![short]))]);
    }

    #[test]
    fn a_file_without_its_heading_shows_no_key() {
        let told = names("Acme,opsa_pk_x,opsa_sk_y\n", FileFormat::Csv);
        assert!(matches!(&told[..], [(1, Err(wrong))] if !wrong[0].contains("opsa_sk")), "{told:?}");
    }

    #[test]
    fn an_unknown_column_is_reported_by_its_number_and_by_its_name_if_that_is_a_word() {
        let told = names("name,colour,abcdefghijklmnop,apiKey,secretKey\n", FileFormat::Csv);
        let [(1, Err(wrong))] = &told[..] else { panic!("{told:?}") };
        assert!(
            wrong[0].starts_with(
                "unknown column \"colour\", number 2 of the heading; unknown column, number 3 of the heading; "
            ),
            "{wrong:?}"
        );
    }

    #[test]
    fn a_repeated_field_is_refused_with_its_line() {
        let csv = "name,apiKey,apiKey,secretKey\nAcme,legacy-1,legacy-2,0123456789abcdef\n";
        let message = "column \"apiKey\" occurs twice, the second time as number 3 of the heading: keep one of the two";
        assert_eq!(names(csv, FileFormat::Csv), [(1, Err(vec![message.to_owned()]))]);
        let json = "\n{\"name\": \"a\", \"name\": \"b\", \"opsa_sk_x\": {\"y\": 1, \"y\": 2}, \"opsa_sk_x\": 1}\n";
        let twice = |field: &str| format!("field {field} occurs twice: keep one of the two");
        assert_eq!(
            names(json, FileFormat::Jsonl),
            [(2, Err(vec![twice("\"name\""), twice("\"y\""), twice("of 9 characters")]))]
        );
        let csv = "name,roles,apiKey,secretKey\nAcme,Customer Customer,legacy-1,0123456789abcdef\n";
        let twice = "roles: entry 2 is the same as one before it".to_owned();
        assert_eq!(names(csv, FileFormat::Csv), [(2, Err(vec![twice]))]);
    }

    #[test]
    fn a_row_of_csv_has_the_number_of_the_line_that_it_begins_on() {
        let text = "\n\nname,description,apiKey,secretKey\n\n\n\
                    Acme,\"two\nlines\",legacy-1,0123456789abcdef\na,b\n\n\nCedar,,short,0123456789abcdef";
        for end in ["\n", "\r\n", "\r"] {
            let told = names(&text.replace('\n', end), FileFormat::Csv);
            let numbers: Vec<_> = told.iter().map(|(number, record)| (*number, record.is_ok())).collect();
            assert_eq!(numbers, [(6, true), (8, false), (11, false)], "{end:?}: {told:?}");
            let told = names(&format!("{end}{end}name,colour{end}"), FileFormat::Csv);
            assert_eq!(told[0].0, 3, "{end:?}: {told:?}");
        }
    }

    #[test]
    fn a_row_that_would_include_the_next_row_is_refused_without_its_cells() {
        let acme = "Acme,ak12345678,sk1234567890123456,\"Acme portal\nBright,ak87654321,sk6543210987654321,Bright\n";
        let told = names(&format!("name,apiKey,secretKey,description\n{acme}"), FileFormat::Csv);
        let unclosed = "cell 4 begins with a quote and has no closing quote".to_owned();
        assert_eq!(told, [(2, Err(vec![unclosed]))]);
        let acme = "Acme,\"portal,ak12345678,sk1234567890123456\nBright,\"desc,ak87654321,sk6543210987654321\n";
        let told = names(&format!("name,description,apiKey,secretKey\n{acme}Cedar,x,ak,sk\n"), FileFormat::Csv);
        let [(2, Err(wrong))] = &told[..] else { panic!("{told:?}") };
        assert!(wrong[0].starts_with("cell 2 continues after its closing quote on line 3; "), "{wrong:?}");
        assert!(!wrong.concat().contains("desc"), "{wrong:?}");
    }

    #[test]
    fn csv_that_is_read_as_json_is_reported_as_csv() {
        for heading in ["name,apiKey,secretKey", "\"name\";\"apiKey\"", "name\tapiKey", "sep=;"] {
            let told = names(&format!("\n{heading}\nAcme,legacy-1,0123456789abcdef\n"), FileFormat::Jsonl);
            assert_eq!(told, [(2, Err(vec!["is the heading of CSV; give --format csv".to_owned()]))]);
        }
    }

    #[test]
    fn an_empty_cell_is_the_default_and_an_unreadable_flag_is_not() {
        let csv = "name,enabled,allowedIPs,apiKey,secretKey\nAcme,,,legacy-1,0123456789abcdef\n\
                   Cedar,yes,,legacy-2,0123456789abcdef\n";
        let told = names(csv, FileFormat::Csv);
        assert!(told[0].1.is_ok(), "{told:?}");
        assert_eq!(told[1].1, Err(vec!["enabled: must be true or false".to_owned()]));
    }
}
