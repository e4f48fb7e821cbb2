//! Checks that the quotes of a CSV file are where RFC 4180 allows them. The `csv` crate accepts any quotes: with a
//! quote that is not closed, it would read the following rows, with their keys, as part of one cell.

/// The advice for a quote that is part of a cell.
const DOUBLE: &str = "write each quote inside it twice";

/// A cell with wrong quotes. The file cannot be read after it.
#[derive(Debug, PartialEq, Eq)]
pub struct Misquoted {
    /// The line on which the cell begins, counted from 1.
    pub line: usize,
    /// What is wrong. The message contains no text of the file.
    pub message: String,
}

/// The position inside a cell.
#[derive(Clone, Copy)]
enum Position {
    /// At the start of the cell.
    Start,
    /// Inside a cell without quotes.
    Plain,
    /// Inside a quoted cell.
    Quoted,
    /// After a quote inside a quoted cell: the quote closes the cell, or is the first half of a doubled quote.
    Closed,
}

/// Checks the quotes of every cell. `separator` is the character between cells.
///
/// # Errors
/// The first cell with wrong quotes.
pub fn check(text: &str, separator: char) -> Result<(), Misquoted> {
    let (mut position, mut cell, mut begins, mut line) = (Position::Start, 1, 1, 1);
    let wrong = |cell: usize, line: usize, fault: &str| Misquoted { line, message: format!("cell {cell} {fault}") };
    let mut before = None;
    for letter in text.chars() {
        if matches!(position, Position::Start) {
            begins = line;
        }
        position = match (position, letter) {
            (Position::Quoted, '"') => Position::Closed,
            (Position::Start | Position::Closed, '"') | (Position::Quoted, _) => Position::Quoted,
            (_, letter) if letter == separator || matches!(letter, '\r' | '\n') => {
                cell = if letter == separator { cell + 1 } else { 1 };
                Position::Start
            }
            (Position::Closed, _) => {
                let there = if line == begins { String::new() } else { format!(" on line {line}") };
                return Err(wrong(
                    cell,
                    begins,
                    &format!(
                        "continues after its closing quote{there}; move the closing quote to its end, and {DOUBLE}"
                    ),
                ));
            }
            (Position::Plain, '"') => {
                return Err(wrong(
                    cell,
                    begins,
                    &format!("contains a quote and is not in quotes; put it in quotes, and {DOUBLE}"),
                ));
            }
            (Position::Start | Position::Plain, _) => Position::Plain,
        };
        // `\r\n` is one line end.
        if letter == '\r' || (letter == '\n' && before != Some('\r')) {
            line += 1;
        }
        before = Some(letter);
    }
    match position {
        Position::Quoted => Err(wrong(cell, begins, "begins with a quote and has no closing quote")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the line and the cell of the error, and asserts that its message contains `fault`.
    fn found(text: &str, fault: &str) -> Option<(usize, String)> {
        let Misquoted { line, message } = check(text, ',').err()?;
        assert!(message.contains(fault), "{message}");
        Some((line, message.split(' ').nth(1)?.to_owned()))
    }

    #[test]
    fn correct_quotes_are_accepted() {
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
    fn a_quote_that_is_never_closed_is_reported_with_the_first_line_of_its_cell() {
        for end in ["\n", "\r\n", "\r"] {
            let found = |text: &str| found(&text.replace('\n', end), "no closing quote");
            assert_eq!(found("a,b\n\"two\nlines\",\"x\ny\nz\n"), Some((3, "2".to_owned())), "{end:?}");
            assert_eq!(found("a,b\n\n\"x\n"), Some((3, "1".to_owned())), "{end:?}");
            assert_eq!(found("\""), Some((1, "1".to_owned())), "{end:?}");
            assert_eq!(found("a\n\"\"\"\n"), Some((2, "1".to_owned())), "{end:?}");
        }
    }

    #[test]
    fn text_after_the_closing_quote_of_a_cell_is_refused() {
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
    fn an_accepted_text_does_not_include_the_row_after_it() {
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
