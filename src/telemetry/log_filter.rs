//! The file that can replace the filter of log lines while the program runs.
//!
//! The file contains directives as in `RUST_LOG`. While it is missing or empty, the filter of the start applies. A file
//! that cannot be read or parsed changes nothing, so that a mistake in it does not end the log.

use super::logs::at_start;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::PathBuf;
use std::time::Duration;
use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::reload::Handle;

/// How often the file is read.
const PERIOD: Duration = Duration::from_secs(2);

/// The longest file in bytes.
const LONGEST: u64 = 4096;

/// The level of everything that the file does not name. Without it, `opsadmin_operator=debug` would end the lines of all
/// libraries, and a mistyped name would end the log.
const BASE: &str = "info";

/// A file that is followed, and the filter that it replaces.
pub struct FilterFile<S> {
    path: PathBuf,
    /// The directives that apply without the file.
    at_start: String,
    filter: Handle<EnvFilter, S>,
    last: Content,
}

/// What the file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    /// The file is missing, or has only white space.
    Nothing,
    Directives(String),
    Unreadable(String),
}

impl<S: 'static> FilterFile<S> {
    /// Creates the file's follower. `at_start` are the directives of the present filter.
    pub fn new(path: PathBuf, at_start: String, filter: Handle<EnvFilter, S>) -> Self {
        Self { path, at_start, filter, last: Content::Nothing }
    }

    /// Reads the file now, and then regularly until the program ends. A thread of its own does that, so that the filter
    /// can be changed while everything else is busy.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn follow(mut self) -> io::Result<()> {
        self.check();
        let body = move || {
            loop {
                std::thread::sleep(PERIOD);
                self.check();
            }
        };
        std::thread::Builder::new().name("log-filter".to_owned()).spawn(body).map(drop)
    }

    /// Reads the file, and changes the filter if the file has changed.
    fn check(&mut self) {
        let found = self.read();
        if found == self.last {
            return;
        }
        let file = self.path.display();
        match &found {
            Content::Nothing => self.switch(at_start(&self.at_start), &|| {
                tracing::info!(%file, "the log filter is as at the start again, because the file is missing or empty");
            }),
            Content::Directives(directives) => match parsed(directives) {
                Ok(filter) => self.switch(filter, &|| {
                    tracing::info!(%file, filter = directives, "the file has changed the log filter");
                }),
                Err(error) => self.refuse(&error),
            },
            Content::Unreadable(problem) => self.refuse(problem),
        }
        self.last = found;
    }

    fn read(&self) -> Content {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|file| file.take(LONGEST + 1).read_to_end(&mut bytes));
        match (read, String::from_utf8(bytes)) {
            (Err(error), _) if error.kind() == ErrorKind::NotFound => Content::Nothing,
            (Err(error), _) => Content::Unreadable(error.to_string()),
            (Ok(_), Ok(text)) if text.len() as u64 > LONGEST => {
                Content::Unreadable(format!("it is longer than {LONGEST} bytes"))
            }
            (Ok(_), Ok(text)) if text.trim().is_empty() => Content::Nothing,
            (Ok(_), Ok(text)) => Content::Directives(text.trim().to_owned()),
            (Ok(_), Err(error)) => Content::Unreadable(error.to_string()),
        }
    }

    /// Replaces the filter. Reports it under the old filter if that shows the report, and otherwise under the new one.
    fn switch(&self, filter: EnvFilter, report: &dyn Fn()) {
        let is_shown = tracing::enabled!(Level::INFO);
        if is_shown {
            report();
        }
        match self.filter.reload(filter) {
            Ok(()) if is_shown => {}
            Ok(()) => report(),
            Err(error) => tracing::warn!(%error, "the log filter could not be changed; restart the program"),
        }
    }

    fn refuse(&self, problem: &dyn fmt::Display) {
        let file = self.path.display();
        tracing::warn!(
            %file,
            "the log filter stays as it is, because the file cannot be used: {problem}; write directives as in RUST_LOG, such as opsadmin_operator=debug"
        );
    }
}

/// Parses the directives of the file, which may be on several lines.
fn parsed(directives: &str) -> Result<EnvFilter, ParseError> {
    let lines = directives.lines().map(str::trim).filter(|line| !line.is_empty());
    let all = [BASE].into_iter().chain(lines).collect::<Vec<_>>().join(",");
    EnvFilter::builder().with_regex(false).parse(all)
}

#[cfg(test)]
mod tests {
    use super::super::logs::tests::Written;
    use super::super::logs::{Lines, LogFormat, layers};
    use super::*;

    /// A log whose filter a file can change.
    struct Log {
        folder: tempfile::TempDir,
        file: FilterFile<Lines>,
        written: Written,
        subscriber: tracing::Dispatch,
    }

    impl Log {
        fn new(at_start: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let written = Written::default();
            let writer = written.clone();
            let (subscriber, handle) = layers(LogFormat::Text, false, move || writer.clone(), at_start);
            let file = FilterFile::new(folder.path().join("filter"), at_start.to_owned(), handle);
            Self { folder, file, written, subscriber }
        }

        /// Writes the file, or removes it, and returns what the log then has of one line for each level.
        fn with(&mut self, text: Option<&str>) -> String {
            let path = self.folder.path().join("filter");
            match text {
                Some(text) => std::fs::write(path, text).unwrap(),
                None => std::fs::remove_file(path).unwrap(),
            }
            tracing::dispatcher::with_default(&self.subscriber.clone(), || {
                self.file.check();
                tracing::trace!("a trace");
                tracing::debug!("a detail");
                tracing::info!("a change");
                tracing::warn!("a warning");
                tracing::info!(target: "some_library", "of a library");
                tracing::debug!(target: "some_library", "a body");
            });
            self.written.take()
        }
    }

    #[test]
    fn the_file_replaces_the_filter_until_it_is_removed() {
        let mut log = Log::new("info");
        let said = log.with(Some("opsadmin_operator=debug\n"));
        for expected in ["filter=\"opsadmin_operator=debug\"", "a detail", "a change", "of a library"] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        assert!(!said.contains("a trace") && !said.contains("a body"), "{said}");
        let said = log.with(Some("opsadmin_operator=debug\n"));
        assert!(!said.contains("log filter"), "an unchanged file is no change: {said}");
        let said = log.with(Some("warn\nsome_library=trace\n\n"));
        assert!(said.contains("the file has changed the log filter"), "the old filter shows it: {said}");
        assert!(said.contains("a warning") && !said.contains("a change"), "{said}");
        assert!(said.contains("of a library") && !said.contains("a body"), "bodies are never logged: {said}");
        let said = log.with(None);
        assert!(said.contains("as at the start again"), "the new filter shows it: {said}");
        assert!(said.contains("a change") && !said.contains("a detail"), "{said}");
    }

    #[test]
    fn a_file_that_is_wrong_changes_nothing_and_says_so_once() {
        let mut log = Log::new("debug");
        for wrong in ["opsadmin_operator=loud", "=", "info,,=x", &"a=info,".repeat(1000)] {
            let said = log.with(Some(wrong));
            assert!(said.contains("WARN") && said.contains("the log filter stays as it is"), "{wrong}: {said}");
            assert!(said.contains("a detail"), "{wrong}: {said}");
            assert!(!log.with(Some(wrong)).contains("stays as it is"), "{wrong}");
        }
        let said = log.with(Some("opsadmin_operater=debug"));
        assert!(said.contains("a change"), "a mistyped name ends no line of others: {said}");
        assert!(!log.with(Some(" \n")).contains("stays as it is"), "an empty file is not wrong");
    }

    #[test]
    fn a_filter_of_the_start_that_shows_nothing_is_replaced_too() {
        let mut log = Log::new("off");
        let said = log.with(Some("info"));
        assert!(said.contains("the file has changed the log filter"), "{said}");
        assert!(log.with(Some("off")).contains("filter=\"off\""), "the last line says why no other follows");
        assert_eq!(log.with(None), "", "the filter of the start is off");
    }
}
