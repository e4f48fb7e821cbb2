//! opsadmin-operator: API accounts for the OpsAdmin API, declared in YAML and kept true.
//!
//! The rooms, from the inside out; each knows only those above it:
//!
//! - [`account`]: the domain, pure: accounts, roles, allowed IPs, keys and ownership.
//! - `yaml`: YAML as it is written, in one place: as every reader understands it alike.
//! - [`api`]: the `ApiAccount` resource as users write it: spec, status, schema and admission rules.
//! - [`database`]: the port to the account database, its adapters, and the sealing of secret keys.
//! - [`secrets`]: the port to where Secrets are kept, its adapters, and what an account's Secret looks like.
//! - [`reconcile`]: the heart: desired, observed, plan, execution, outcome and status.
//! - [`doctor`]: what is wrong with an installation, over what was read of it, pure.
//! - [`manifests`]: `ApiAccount`s read from files: each problem with file, line, object and field.
//! - [`telemetry`]: what the running program tells about itself.
//! - [`controller`]: watches a cluster and drives [`reconcile`] on it.
//! - [`cli`]: the commands, which drive [`reconcile`] without a cluster.
#![forbid(unsafe_code)]

pub mod account;
pub mod api;
mod backoff;
pub mod cli;
pub mod controller;
pub mod database;
pub mod doctor;
mod findings;
mod import;
mod kube_error;
pub mod manifests;
pub mod reconcile;
mod run;
pub mod secrets;
pub mod telemetry;
mod yaml;
