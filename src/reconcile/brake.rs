//! How many accounts may lose their access at once before somebody has to confirm it. Pure.

/// How many may always, however few accounts there are.
const FLOOR: usize = 5;

/// How many of this many accounts may lose their access at once, if this percentage may; `None`: all of them.
pub fn deletion_limit(accounts: usize, percent: u8) -> Option<usize> {
    (percent < 100).then(|| FLOOR.max(accounts * usize::from(percent) / 100))
}
