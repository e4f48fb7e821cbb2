//! The heart against ports in memory: whatever is declared and whatever is found, one pass makes it so, and the next has
//! nothing to do.

mod dry_runs;
mod evidence;
pub mod memory;
mod obstacles;
mod properties;
mod readings;
mod rewriting;
mod scenarios;
mod time;
mod triggers;
mod unseen;
mod walks;
