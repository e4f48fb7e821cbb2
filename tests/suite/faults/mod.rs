//! Faults with a real API server and real databases. Whatever ends, fails, lags or is refused: the keys do not change,
//! no foreign object is touched, and the declared state is reached when the fault is over.

#![allow(clippy::similar_names, reason = "one looks at a stage for its state")]

mod crash;
mod databases;
mod events;
mod failover;
mod imports;
mod lists;
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
