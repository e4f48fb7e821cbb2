//! The options for retention times and for the minimum rotation interval, and the parser for times on the command line.

use crate::account::Period;
use clap::Args;
use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// The options for the retention of deleted accounts and of the journal.
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// How long a deleted account is kept with its keys. Until then, applying its resource again restores it.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = at_least_a_second)]
    pub deleted_account_retention: Duration,

    /// How long the journal of the whole database keeps every change. Older entries are removed, except the creation of
    /// an account and the last 10 entries of an account. Default: for ever.
    #[arg(long, value_name = "TIME", value_parser = at_least_a_second)]
    pub journal_retention: Option<Duration>,
}

/// The option for the minimum interval between rotations.
#[derive(Debug, Args)]
pub struct MinimumIntervalArgs {
    /// The minimum of spec.rotation.interval; a resource with a shorter interval is refused. Give the controller and
    /// every command the same value.
    #[arg(
        long,
        value_name = "TIME",
        env = "OPSADMIN_LEAST_ROTATION_INTERVAL",
        default_value = "10m",
        value_parser = at_least_a_second
    )]
    least_rotation_interval: Duration,
}

impl MinimumIntervalArgs {
    /// Returns the interval in the form of `spec.rotation.interval`.
    pub fn period(&self) -> Period {
        Period::of(self.least_rotation_interval)
    }
}

const EXAMPLE: &str = "write it as 30s, 5m, 1h or 7d";

/// Parses a time of at least one second.
pub fn at_least_a_second(text: &str) -> Result<Duration, String> {
    match parse_time(text)? {
        interval if interval >= Duration::from_secs(1) => Ok(interval),
        _ => Err(format!("it must be a second or more; {EXAMPLE}")),
    }
}

/// Parses a time, which may be zero.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    // A day is 24 hours: leap seconds and clock changes do not matter for these times.
    let span: Span = text.parse().map_err(|error: jiff::Error| format!("{error}; {EXAMPLE}"))?;
    let interval =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| format!("{error}; {EXAMPLE}"))?;
    Duration::try_from(interval).map_err(|_| format!("it must not be negative; {EXAMPLE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_may_be_zero_and_not_negative() {
        assert_eq!(parse_time("0s"), Ok(Duration::ZERO));
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert!(parse_time("-1s").unwrap_err().ends_with(EXAMPLE));
    }

    #[test]
    fn a_time_is_a_second_or_more() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("5m", 300), ("1h 30m", 5400), ("7d", 604_800), ("PT5M", 300)] {
            assert_eq!(at_least_a_second(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "soon", "0s", "999ms", "-5m", "1 month"] {
            let not_ready = at_least_a_second(text).unwrap_err();
            assert!(not_ready.ends_with("write it as 30s, 5m, 1h or 7d"), "{text}: {not_ready}");
        }
    }
}
