//! Faults on a real API server and real databases: whatever ends, fails, lags or is refused, the keys stay what they
//! were, nothing foreign is touched, and everything becomes as declared once the fault is over.

mod crash;
mod databases;
mod operations;
mod processes;
mod refusals;
mod runs;
mod stage;
mod state;
mod views;
