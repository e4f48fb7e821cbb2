//! Folds text to the width of a terminal: sentences between words, and tables within their last column.

use std::os::fd::AsFd;
use terminal_size::{Width, terminal_size_of};
use unicode_width::UnicodeWidthStr;

/// The number of spaces between two columns.
const GAP: usize = 3;
/// The minimum width for folded text. Narrower text is not folded: the line breaks of the terminal are easier to read.
const LEAST: usize = 30;

/// Returns the width of the terminal of a stream, in columns. `None`: the stream is no terminal, and nothing is folded.
pub fn width(stream: impl AsFd) -> Option<usize> {
    terminal_size_of(stream).map(|(Width(columns), _)| columns.into())
}

/// Folds a line to the width. The following lines are indented by two more spaces than the first line.
pub fn folded(line: &str, width: Option<usize>) -> Vec<String> {
    let text = line.trim_start_matches(' ');
    let margin = line.len() - text.len();
    let rest = margin + 2;
    match width {
        Some(width) if width >= rest + LEAST => {
            let lines = fold(text, width - margin, width - rest).into_iter().enumerate();
            lines.map(|(number, part)| indented(if number == 0 { margin } else { rest }, &part)).collect()
        }
        _ => vec![line.to_owned()],
    }
}

/// Returns the lines of each row of a table. The columns are aligned, and the last column is folded to the width.
pub fn columns<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> Vec<Vec<String>> {
    let (widths, last) = (widths(rows), N.saturating_sub(1));
    let margin: usize = widths.iter().take(last).map(|width| width + GAP).sum();
    let room = width.and_then(|width| width.checked_sub(margin)).filter(|room| *room >= LEAST);
    let row = |row: &[String; N]| {
        let mut first = String::new();
        for (cell, width) in row.iter().zip(&widths).take(last) {
            first += cell;
            first += &" ".repeat(width + GAP - visible(cell));
        }
        let text = row.last().map(String::as_str).unwrap_or_default();
        let folded = room.map_or_else(|| vec![text.to_owned()], |room| fold(text, room, room));
        let lines = folded.into_iter().enumerate();
        lines
            .map(|(number, part)| if number == 0 { format!("{first}{part}") } else { indented(margin, &part) })
            .map(|line| line.trim_end().to_owned())
            .collect()
    };
    rows.iter().map(row).collect()
}

/// Returns the width of a table without folding, in columns of the terminal.
pub fn breadth<const N: usize>(rows: &[[String; N]]) -> usize {
    widths(rows).iter().sum::<usize>() + GAP * N.saturating_sub(1)
}

fn widths<const N: usize>(rows: &[[String; N]]) -> [usize; N] {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = visible(cell).max(*width);
        }
    }
    widths
}

/// Returns the number of terminal columns of a text, without its colour codes.
fn visible(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

fn indented(by: usize, text: &str) -> String {
    format!("{}{text}", " ".repeat(by))
}

/// Breaks a text between words. `first` is the width of the first line, and `rest` the width of the others. A word that
/// is too long is not broken.
fn fold(text: &str, first: usize, rest: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut taken = 0;
    for (number, word) in text.split(' ').enumerate() {
        let room = if lines.is_empty() { first } else { rest };
        let wide = visible(word);
        if number > 0 && taken + 1 + wide > room && !line.trim_end().is_empty() {
            lines.push(line.trim_end().to_owned());
            (line, taken) = (word.to_owned(), wide);
        } else {
            if number > 0 {
                line.push(' ');
                taken += 1;
            }
            line += word;
            taken += wide;
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn following_lines_are_indented() {
        let line = "    UnknownAffiliate: OpsAdmin knows no affiliate of this name";
        assert_eq!(folded(line, Some(40)), ["    UnknownAffiliate: OpsAdmin knows no", "      affiliate of this name"]);
        assert_eq!(folded(line, None), [line]);
        assert_eq!(folded(line, Some(20)), [line], "there is no room to speak of");
        let rows =
            [["RULE", "WHY"], ["address", "192.0.2.1 lies in none of the networks"]].map(|row| row.map(str::to_owned));
        let lines = columns(&rows, Some(42)).concat();
        assert_eq!(lines, ["RULE      WHY", "address   192.0.2.1 lies in none of the", "          networks"]);
        assert_eq!(columns(&rows, None).concat()[1], "address   192.0.2.1 lies in none of the networks");
        assert_eq!(breadth(&rows), 48);
    }

    proptest! {
        #[test]
        fn folding_loses_no_word_and_fits(words in prop::collection::vec("[a-zäöü日]{1,20}", 1..30), width in 32_usize..90) {
            let text = words.join(" ");
            let lines = folded(&text, Some(width));
            prop_assert_eq!(lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" "), text);
            for line in lines {
                prop_assert!(visible(&line) <= width || !line.trim().contains(' '), "{line:?} is wider than {width}");
            }
        }

        #[test]
        fn colours_do_not_count_for_the_width(text in "([a-z]{1,9} ){1,20}[a-z]", width in 32_usize..90) {
            let red = format!("\u{1b}[31m{text}\u{1b}[0m");
            let plain: Vec<_> = folded(&red, Some(width)).iter().map(|line| anstream::adapter::strip_str(line).to_string()).collect();
            prop_assert_eq!(plain, folded(&text, Some(width)));
        }
    }
}
