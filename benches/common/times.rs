//! The processor time that programs used meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

/// The processor time of each program.
pub type Times = BTreeMap<String, Duration>;

/// Returns the time of each program since then.
pub fn difference(after: &Times, before: &Times) -> Times {
    let since = |(name, time): (&String, &Duration)| {
        (name.clone(), time.saturating_sub(before.get(name).copied().unwrap_or_default()))
    };
    after.iter().map(since).collect()
}
