//! Tests of the command line. They run the program as a process, as a user does.

mod adoption;
mod advice;
mod apply;
mod commands;
mod creation;
mod desk;
mod doctor;
pub mod documented;
mod fleet;
mod help;
mod keyring;
mod looking;
pub mod office;
mod outages;
mod plan;
mod proxies;
mod prune;
mod readers;
mod rights;
mod scale;
mod stepping_in;
mod tour;
mod validate;
