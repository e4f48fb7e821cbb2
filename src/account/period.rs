//! A length of time in the form of a spec: `24h`, `1h30m`, `0s`.

use jiff::SignedDuration;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// A length of time in whole seconds, from zero to ten years.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(i64);

/// The error for a text that is not a period.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} is no length of time; write hours, minutes and seconds like 720h, 1h30m or 0s, of at most 87600h")]
pub struct InvalidPeriod {
    text: String,
}

impl Period {
    const MAX_SECONDS: i64 = 10 * 365 * 24 * 3600;

    /// Reads hours, minutes and seconds, in this order, each at most once and without a fraction. Go's
    /// `time.ParseDuration` and CEL's `duration` accept the same texts with the same meaning.
    ///
    /// # Errors
    /// The text has another form, or is longer than ten years.
    pub fn parse(text: &str) -> Result<Self, InvalidPeriod> {
        let invalid = || InvalidPeriod { text: text.to_owned() };
        let (mut rest, mut seconds) = (text, 0_i64);
        // The digits of each unit are limited to the digits of ten years, so that no number overflows here, in Go or in
        // CEL.
        for (unit, worth, most_digits) in [('h', 3600, 6), ('m', 60, 7), ('s', 1, 9)] {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if let Some(after) = rest[digits..].strip_prefix(unit)
                && (1..=most_digits).contains(&digits)
            {
                let number: i64 = rest[..digits].parse().map_err(|_| invalid())?;
                seconds += number * worth;
                rest = after;
            }
        }
        let complete = rest.is_empty() && !text.is_empty();
        if complete && seconds <= Self::MAX_SECONDS { Ok(Self(seconds)) } else { Err(invalid()) }
    }

    /// Zero seconds.
    pub const NONE: Self = Self(0);

    /// Converts a duration to whole seconds, rounded down, and to at most ten years.
    pub fn of(duration: Duration) -> Self {
        Self(i64::try_from(duration.as_secs()).map_or(Self::MAX_SECONDS, |seconds| seconds.min(Self::MAX_SECONDS)))
    }

    /// Returns whether the period is zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// Returns the period in seconds.
    pub fn seconds(self) -> i64 {
        self.0
    }

    /// Returns the period as a duration.
    pub fn duration(self) -> SignedDuration {
        SignedDuration::from_secs(self.0)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        for (number, unit) in [(hours, 'h'), (minutes, 'm')] {
            if number > 0 {
                write!(f, "{number}{unit}")?;
            }
        }
        if seconds > 0 || self.0 == 0 { write!(f, "{seconds}s") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::Period;
    use proptest::prelude::*;

    #[test]
    fn hours_minutes_and_seconds_are_read() {
        for (text, seconds) in
            [("0s", 0), ("24h", 86_400), ("1h30m", 5400), ("90m", 5400), ("1h0m5s", 3605), ("315360000s", 315_360_000)]
        {
            assert_eq!(Period::parse(text).unwrap().seconds(), seconds, "{text}");
        }
        for text in [
            "",
            "h",
            "1",
            "1d",
            "1.5h",
            "-1h",
            "+1h",
            "1h 30m",
            "30m1h",
            "1h1h",
            "87601h",
            "0000024h",
            "99999999999999999999h",
        ] {
            assert!(Period::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_written_period_is_read_back(seconds in 0..=Period::MAX_SECONDS) {
            prop_assert_eq!(Period::parse(&Period(seconds).to_string()), Ok(Period(seconds)));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC*") {
            prop_assert!(Period::parse(&text).is_err() || text.ends_with(['h', 'm', 's']));
        }
    }
}
