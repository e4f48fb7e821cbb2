//! Shows the progress of long work on a terminal.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// The time before the first progress line, and between two updates.
const INTERVAL: Duration = Duration::from_secs(1);

/// A progress line on standard error that is overwritten at each update.
pub struct Progress {
    all: usize,
    done: usize,
    what: &'static str,
    /// The time of the next update. `None`: standard error is no terminal.
    next: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// Starts the progress. `all` is the number of steps, and `what` describes them, such as `accounts planned`.
    pub fn new(all: usize, what: &'static str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + INTERVAL);
        Self { all, done: 0, what, next, is_shown: false }
    }

    /// Counts a finished step.
    pub fn step(&mut self) {
        self.done += 1;
        if let Some(next) = self.next
            && Instant::now() >= next
        {
            self.is_shown = true;
            self.next = Some(next + INTERVAL);
            write_line(&format!("{} of {} {}", self.done, self.all, self.what));
        }
    }

    /// Clears the progress line, so that other output can be printed.
    pub fn hide(&mut self) {
        if self.is_shown {
            write_line("");
            self.is_shown = false;
        }
    }
}

/// Overwrites the line. Errors are ignored, because progress is not part of the result.
fn write_line(text: &str) {
    drop(write!(io::stderr(), "\r\x1b[K{text}"));
    drop(io::stderr().flush());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}
