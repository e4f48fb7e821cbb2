//! Logging to standard error, as text or as JSON.
//!
//! Debug messages of libraries may contain any data that the library handles, for example a Secret. So a filter can
//! enable all messages of this program, but only those messages of libraries that are known to be harmless.

use super::log_filter::FilterFile;
use anyhow::{Context, Result};
use clap::ValueEnum;
use std::io::IsTerminal;
use std::path::PathBuf;
use tracing::{Dispatch, Subscriber};
use tracing_subscriber::filter::{Filtered, LevelFilter, Targets};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::{Layer, Layered, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry};

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Text, in colour on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. `RUST_LOG` sets which messages are logged, for example `RUST_LOG=opsadmin_operator=debug`. The file
/// can replace this filter while the program runs.
///
/// # Errors
/// Logging was started before, or the system gives no thread for the file.
pub fn start(format: LogFormat, filter_file: Option<PathBuf>) -> Result<()> {
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let (subscriber, filter) = layers(format, coloured, std::io::stderr, &wanted);
    subscriber.try_init()?;
    match filter_file {
        Some(file) => {
            FilterFile::new(file, wanted, filter).follow().context("cannot follow the file of the log filter")
        }
        None => Ok(()),
    }
}

/// What writes the lines, below the filter.
pub(super) type Lines = Layered<Filtered<Box<dyn Layer<Registry> + Send + Sync>, Targets, Registry>, Registry>;

/// Returns what logs, with these directives as its filter, and what can replace the filter.
pub(super) fn layers(
    format: LogFormat,
    coloured: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
    directives: &str,
) -> (Dispatch, Handle<EnvFilter, Lines>) {
    let (filter, handle) = reload::Layer::new(at_start(directives));
    let lines = lines(format, coloured, writer).with_filter(at_most());
    (Dispatch::new(tracing_subscriber::registry().with(lines).with(filter)), handle)
}

/// Returns the filter of these directives, without those that are wrong; `info` if there are none.
pub(super) fn at_start(directives: &str) -> EnvFilter {
    EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).parse_lossy(directives)
}

fn lines<S>(
    format: LogFormat,
    coloured: bool,
    writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static,
) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    match format {
        LogFormat::Text => layer().with_writer(writer).with_target(false).with_ansi(coloured).boxed(),
        LogFormat::Json => {
            layer().json().flatten_event(true).with_span_list(false).with_writer(writer).with_ansi(false).boxed()
        }
    }
}

/// Returns the most verbose levels that a filter can enable.
fn at_most() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("opsadmin", LevelFilter::TRACE)
        // Logs SQL statements without their values.
        .with_target("sqlx::query", LevelFilter::DEBUG)
        // Logs requests and the status codes of their responses.
        .with_target("kube_client::client::builder", LevelFilter::DEBUG)
        // A warning contains the whole response that could not be parsed. The error message suffices.
        .with_target("kube_client::client", LevelFilter::ERROR)
        // Warns at every attempt of a watch that is refused, which the controller logs itself, and adds a span to each
        // line that names the resource again.
        .with_target("kube_runtime", LevelFilter::ERROR)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    /// A writer whose text a test can read.
    #[derive(Clone, Default)]
    pub struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        /// Returns the text since the last call.
        pub fn take(&self) -> String {
            String::from_utf8(std::mem::take(&mut *self.0.lock().unwrap())).unwrap()
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns what is logged of the messages of `emit` if the filter enables everything.
    fn logged(format: LogFormat, emit: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let (subscriber, _) = layers(format, false, move || writer.clone(), "trace");
        tracing::dispatcher::with_default(&subscriber, emit);
        written.take()
    }

    #[test]
    fn this_program_logs_every_enabled_level_and_libraries_do_not() {
        let said = logged(LogFormat::Text, || {
            tracing::trace!(target: "opsadmin_operator::controller", "ours");
            tracing::info!(target: "some_library", "informs");
            tracing::debug!(target: "some_library", "a body");
            tracing::debug!(target: "kube_client::client::builder", "requesting");
            tracing::trace!(target: "kube_client::client::builder", "a body");
            tracing::warn!(target: "kube_client::client", "a body");
            tracing::error!(target: "kube_client::client", "fails");
        });
        for harmless in ["ours", "informs", "requesting", "fails"] {
            assert!(said.contains(harmless), "{harmless}: {said}");
        }
        assert!(!said.contains("a body"), "{said}");
    }

    #[test]
    fn a_line_of_json_is_one_flat_object() {
        let said = logged(LogFormat::Json, || tracing::info!(namespace = "ns", name = "acme", "a \"change\"\n"));
        let line: serde_json::Value = serde_json::from_str(said.trim_end()).unwrap();
        assert_eq!((&line["namespace"], &line["name"]), (&"ns".into(), &"acme".into()));
        assert_eq!((&line["message"], &line["level"]), (&"a \"change\"\n".into(), &"INFO".into()));
        assert_eq!(said.lines().count(), 1);
    }
}
