//! The command line as a process, as a user runs it.

mod advice;
mod apply;
mod commands;
mod desk;
pub mod documented;
mod fleet;
mod help;
mod keyring;
mod looking;
pub mod office;
mod outages;
mod plan;
mod prune;
mod rights;
mod scale;
mod stepping_in;
mod tour;
mod validate;
