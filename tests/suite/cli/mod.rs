//! The command line as a process, as a user runs it.

mod apply;
mod commands;
mod desk;
mod fleet;
mod keyring;
mod plan;
mod prune;
mod scale;
mod validate;
