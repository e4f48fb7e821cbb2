//! Whether the quotes of a CSV file stand where RFC 4180 has them. The reader of CSV takes them as they come: a quote that
//! is not closed would swallow the rows after it, with their keys.

/// How a quote is written that is part of a cell.
const DOUBLE: &str = "write each quote that is part of it twice";

/// A cell whose quotes cannot be understood, and with it the rest of the file.
#[derive(Debug, PartialEq, Eq)]
pub struct Misquoted {
    /// The line on which the cell begins, from 1.
    pub line: usize,
    /// What is wrong, without anything of the file.
    pub message: String,
}

/// How far a cell was read.
#[derive(Clone, Copy)]
enum Within {
    /// Nothing of it yet.
    Start,
    /// Some of it, without quotes.
    Plain,
    /// Some of it, after the quote that opens it.
    Quoted,
    /// A quote in it: its end, or the first half of a quote that is meant.
    Closed,
}

/// Finds the first cell that is wrongly quoted, where this stands between cells.
///
/// # Errors
/// There is one.
pub fn check(text: &str, separator: char) -> Result<(), Misquoted> {
    let (mut within, mut cell, mut begins, mut line) = (Within::Start, 1, 1, 1);
    let wrong = |cell: usize, line: usize, fault: &str| Misquoted { line, message: format!("cell {cell} {fault}") };
    let mut before = None;
    for letter in text.chars() {
        if matches!(within, Within::Start) {
            begins = line;
        }
        within = match (within, letter) {
            (Within::Quoted, '"') => Within::Closed,
            (Within::Start | Within::Closed, '"') | (Within::Quoted, _) => Within::Quoted,
            (_, letter) if letter == separator || matches!(letter, '\r' | '\n') => {
                cell = if letter == separator { cell + 1 } else { 1 };
                Within::Start
            }
            (Within::Closed, _) => {
                let there = if line == begins { String::new() } else { format!(" on line {line}") };
                return Err(wrong(
                    cell,
                    begins,
                    &format!("goes on after its closing quote{there}; close it where it ends, and {DOUBLE}"),
                ));
            }
            (Within::Plain, '"') => {
                return Err(wrong(
                    cell,
                    begins,
                    &format!("has a quote and is not in quotes; put it in quotes, and {DOUBLE}"),
                ));
            }
            (Within::Start | Within::Plain, _) => Within::Plain,
        };
        // The line end of Windows is one.
        if letter == '\r' || (letter == '\n' && before != Some('\r')) {
            line += 1;
        }
        before = Some(letter);
    }
    match within {
        Within::Quoted => Err(wrong(cell, begins, "begins with a quote and has none that closes it")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line and the cell of what is wrong, and whether its message has this in it.
    fn found(text: &str, fault: &str) -> Option<(usize, String)> {
        let Misquoted { line, message } = check(text, ',').err()?;
        assert!(message.contains(fault), "{message}");
        Some((line, message.split(' ').nth(1)?.to_owned()))
    }

    #[test]
    fn what_is_quoted_as_it_should_be_is_taken() {
        for text in [
            "",
            "\n\n",
            "name,apiKey\nAcme,x\n",
            "\"name\",\"apiKey\"\n\"Acme, Inc.\",\"\"\n",
            "name\n\"two\nlines, and \"\"quotes\"\"\"",
            "a,\"\"\"\"\n\"\",\"\"\"b\"\"\"\n",
            "'a',b's\n",
        ] {
            for end in ["\n", "\r\n", "\r"] {
                assert_eq!(check(&text.replace('\n', end), ','), Ok(()), "{text:?} {end:?}");
            }
        }
    }

    #[test]
    fn a_quote_that_is_never_closed_is_told_by_the_line_that_its_cell_begins_on() {
        for end in ["\n", "\r\n", "\r"] {
            let found = |text: &str| found(&text.replace('\n', end), "none that closes it");
            assert_eq!(found("a,b\n\"two\nlines\",\"x\ny\nz\n"), Some((3, "2".to_owned())), "{end:?}");
            assert_eq!(found("a,b\n\n\"x\n"), Some((3, "1".to_owned())), "{end:?}");
            assert_eq!(found("\""), Some((1, "1".to_owned())), "{end:?}");
            assert_eq!(found("a\n\"\"\"\n"), Some((2, "1".to_owned())), "{end:?}");
        }
    }

    #[test]
    fn nothing_but_the_end_of_the_cell_comes_after_its_closing_quote() {
        for end in ["\n", "\r\n", "\r"] {
            let text = "a,b\nx,\"y\nz,\"w\n".replace('\n', end);
            assert_eq!(found(&text, "after its closing quote on line 3; "), Some((2, "2".to_owned())), "{end:?}");
        }
        for text in ["\"x\"y", "\"x\" ,y", "\"x\" \"y\"", "\"\"x", "\"x\"\"\"y\""] {
            assert_eq!(found(text, "after its closing quote; "), Some((1, "1".to_owned())), "{text:?}");
        }
    }

    #[test]
    fn a_quote_within_a_cell_needs_quotes_around_it() {
        for text in ["a,b\nx,y\"z\n", "a,b\nx, \"y\"\n", "a,b\nx,y\""] {
            assert_eq!(found(text, "is not in quotes"), Some((2, "2".to_owned())), "{text:?}");
        }
    }

    #[test]
    fn what_is_taken_swallows_no_row_after_it() {
        let letters = ['"', ',', '\n', '\r', 'x'];
        for number in 0..letters.len().pow(6) {
            let text: String = (0..6).map(|place| letters[number / letters.len().pow(place) % letters.len()]).collect();
            if check(&text, ',').is_ok() {
                let more = format!("{text}\nlast");
                let mut reader =
                    csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(more.as_bytes());
                let last = reader.records().last().unwrap().unwrap();
                assert_eq!(last.iter().collect::<Vec<_>>(), ["last"], "{text:?}");
            }
        }
    }
}
