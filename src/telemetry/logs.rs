//! Logs: one line for each change, on standard error, for people or as JSON.

use clap::ValueEnum;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::layer;
use tracing_subscriber::layer::SubscriberExt;
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
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let coloured = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Text => {
            registry.with(layer().with_writer(std::io::stderr).with_target(false).with_ansi(coloured)).try_init()
        }
        LogFormat::Json => {
            registry.with(layer().json().flatten_event(true).with_writer(std::io::stderr).with_ansi(false)).try_init()
        }
    }
}
