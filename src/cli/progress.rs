//! How far long work has come, told to a terminal and to nobody else.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Work that is done sooner is not worth a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line on a terminal's standard error that is written over and over.
pub struct Progress {
    all: usize,
    done: usize,
    what: &'static str,
    /// When to tell the next time; `None`: nobody is looking.
    next: Option<Instant>,
    is_told: bool,
}

impl Progress {
    /// Of this many things to be done, in the words of `what`: `accounts planned`.
    pub fn new(all: usize, what: &'static str) -> Self {
        let next = io::stderr().is_terminal().then(|| Instant::now() + PATIENCE);
        Self { all, done: 0, what, next, is_told: false }
    }

    /// One more is done.
    pub fn step(&mut self) {
        self.done += 1;
        if let Some(next) = self.next
            && Instant::now() >= next
        {
            self.is_told = true;
            self.next = Some(next + PATIENCE);
            say(&format!("{} of {} {}", self.done, self.all, self.what));
        }
    }

    /// Clears the line for what is printed next.
    pub fn hide(&mut self) {
        if self.is_told {
            say("");
            self.is_told = false;
        }
    }
}

/// Writes over the line. A terminal that is gone needs no progress.
fn say(text: &str) {
    drop(write!(io::stderr(), "\r\x1b[K{text}"));
    drop(io::stderr().flush());
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.hide();
    }
}
