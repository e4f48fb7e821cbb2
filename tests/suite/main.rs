//! The integration tests: one binary, so that they share one control plane and one database server.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod build_context;
mod chart;
mod cli;
mod controller;
mod database_contract;
mod examples;
mod faults;
mod grants;
mod guides;
mod harness;
mod login;
mod monitoring;
mod nulls;
mod secrecy;
mod stored;
mod support;
mod syncs;
mod validation;
