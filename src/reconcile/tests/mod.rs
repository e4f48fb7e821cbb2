//! Tests of the reconciler with ports in memory: for any declared and any observed state, one reconcile does
//! everything, and the next has nothing to do.

mod dry_runs;
mod evidence;
mod generators;
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
