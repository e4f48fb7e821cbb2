//! The controller with a real API server: each test has its own namespace, database and controller process.

mod collected;
mod commands;
mod concurrency;
mod creation;
mod deletions;
mod doctor;
mod drift;
mod endings;
mod fights;
mod freeze;
mod keyring;
mod keys;
mod kstatus;
mod kubectl;
mod last_uses;
mod leaders;
mod lifecycle;
mod logs;
mod metrics;
mod outages;
mod ownership;
mod plan_reads;
pub mod planned;
mod pooled;
mod refusals;
mod render;
mod requesters;
pub mod rights;
pub mod scene;
mod secrets;
mod sweeps;
#[cfg(feature = "traces")]
mod traces;
mod unreadable;
mod walks;
mod widening;
pub mod writes;
