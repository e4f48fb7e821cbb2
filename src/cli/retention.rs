//! How long deleted accounts and the journal are kept, how often keys are rotated, and times as the command line takes them.

use crate::account::Period;
use clap::Args;
use jiff::{Span, SpanRelativeTo};
use std::time::Duration;

/// How long deleted accounts and the journal are kept.
#[derive(Debug, Args)]
pub struct RetentionArgs {
    /// How long a deleted account is kept, with its keys, for its resource to be applied again.
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = at_least_a_second)]
    pub deleted_account_retention: Duration,

    /// How long the journal of the whole database tells of every change. Older entries are removed, but never the one that
    /// tells of an account's creation, nor the last 10 of an account. Default: for ever.
    #[arg(long, value_name = "TIME", value_parser = at_least_a_second)]
    pub journal_retention: Option<Duration>,
}

/// How often keys may be rotated.
#[derive(Debug, Args)]
pub struct LeastIntervalArgs {
    /// The least spec.rotation.interval that is taken; a resource with less is refused. Give every command and
    /// the controller the same.
    #[arg(
        long,
        value_name = "TIME",
        env = "OPSADMIN_LEAST_ROTATION_INTERVAL",
        default_value = "10m",
        value_parser = at_least_a_second
    )]
    least_rotation_interval: Duration,
}

impl LeastIntervalArgs {
    /// As resources write it.
    pub fn period(&self) -> Period {
        Period::of(self.least_rotation_interval)
    }
}

/// A time of a second or more.
pub fn at_least_a_second(text: &str) -> Result<Duration, String> {
    let example = "write it as 30s, 5m, 1h or 7d";
    // A day is 24 hours here: nobody counts leap seconds or clock changes into a retention.
    let span: Span = text.parse().map_err(|error: jiff::Error| format!("{error}; {example}"))?;
    let interval =
        span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| format!("{error}; {example}"))?;
    match Duration::try_from(interval) {
        Ok(interval) if interval >= Duration::from_secs(1) => Ok(interval),
        _ => Err(format!("it must be a second or more; {example}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
