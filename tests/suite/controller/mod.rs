//! The controller against a real API server: a namespace, a database and a controller process for each test.

mod collected;
mod commands;
mod deletions;
mod drift;
mod endings;
mod keys;
mod kstatus;
mod kubectl;
mod lifecycle;
mod logs;
mod metrics;
mod outages;
mod ownership;
mod plan_reads;
pub mod planned;
mod refusals;
mod render;
mod rights;
pub mod scene;
mod secrets;
mod sweeps;
mod unreadable;
mod walks;
mod widening;
mod writes;
