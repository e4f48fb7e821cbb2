//! The command line as a process, as a user runs it.

mod apply;
mod commands;
mod documented;
mod looking;
pub mod office;
mod validate;
