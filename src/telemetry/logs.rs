//! Logs: one line for each change, on standard error, for people or as JSON.
//!
//! What libraries log for their own developers may hold whatever passes through them, a Secret among it. So `RUST_LOG`
//! widens what this program says as far as it likes, and what libraries say only as far as is known to be harmless.

use clap::ValueEnum;
use std::io::IsTerminal;
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::{MakeWriter, layer};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// For people; in colour on a terminal.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `RUST_LOG` narrows or widens what is logged, as in `RUST_LOG=opsadmin_operator=debug`.
///
/// # Errors
/// Logging was started before.
pub fn start(format: LogFormat) -> Result<(), TryInitError> {
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let wanted = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let lines = lines(format, coloured, std::io::stderr);
    tracing_subscriber::registry().with(lines.with_filter(at_most())).with(wanted).try_init()
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
        LogFormat::Json => layer().json().flatten_event(true).with_writer(writer).with_ansi(false).boxed(),
    }
}

/// What may be logged, whatever is asked for.
fn at_most() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("opsadmin", LevelFilter::TRACE)
        // Statements without their values.
        .with_target("sqlx::query", LevelFilter::DEBUG)
        // Requests and the codes of their answers.
        .with_target("kube_client::client::builder", LevelFilter::DEBUG)
        // Warns with the whole of an answer that it cannot read. The error says that it could not.
        .with_target("kube_client::client", LevelFilter::ERROR)
        // Warns at every try of a watch that is refused, which the controller says itself, and wraps each line in a
        // span that says again which resource it is about.
        .with_target("kube_runtime", LevelFilter::ERROR)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of `say` when everything is asked for.
    fn logged(format: LogFormat, say: impl FnOnce()) -> String {
        let written = Written::default();
        let writer = written.clone();
        let lines = lines(format, false, move || writer.clone());
        let everything = EnvFilter::new("trace");
        let subscriber = tracing_subscriber::registry().with(lines.with_filter(at_most())).with(everything);
        tracing::subscriber::with_default(subscriber, say);
        let bytes = written.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn this_program_says_all_that_is_asked_for_and_libraries_do_not() {
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
