//! Faults on a real API server and real databases: whatever ends, fails, lags or is refused, the keys stay what they
//! were, nothing foreign is touched, and everything becomes as declared once the fault is over.

#![allow(clippy::similar_names, reason = "one looks at a stage for its state")]

mod crash;
mod databases;
mod imports;
mod operations;
mod overtaken;
mod policies;
mod processes;
mod refusals;
mod runs;
mod stage;
mod state;
mod views;
mod waits;
