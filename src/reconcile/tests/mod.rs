//! The heart against ports in memory: whatever is declared and whatever is found, one pass makes it so, and the next has
//! nothing to do.

mod evidence;
pub mod memory;
mod properties;
mod readings;
mod rehearsals;
mod scenarios;
mod time;
mod unseen;
mod walks;
