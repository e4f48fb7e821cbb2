//! Tests of the command line. They run the program as a process, as a user does.

mod adoption;
mod advice;
mod apply;
mod commands;
mod creation;
mod doctor;
pub mod documented;
mod fleet;
mod help;
mod journal;
mod keyring;
mod outages;
mod plan;
mod proxies;
mod prune;
mod queries;
mod readers;
mod rights;
mod scale;
mod staff_commands;
pub mod staff_database;
mod tour;
mod validate;
mod working_folder;
