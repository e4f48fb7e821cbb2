//! opsadmin-operator: API accounts for the OpsAdmin API, declared in YAML and kept in sync with their declaration.
//!
//! The modules. Each module uses only modules above it in this list.
//!
//! - [`account`]: the domain, pure: accounts, roles, allowed IPs, keys and ownership.
//! - `yaml`, `backoff`, `kube_error`: YAML as this program writes it, growing pauses, and errors of a Kubernetes client
//!   as text.
//! - [`http`]: the one HTTP stack: listeners, limits, and TLS that follows its files.
//! - [`api`]: the `ApiAccount` resource as users write it: spec, status, schema and admission rules.
//! - [`database`]: the port to the account database, its adapters, and the keyring that seals secret keys.
//! - [`secrets`]: the port to where Secrets are kept, its adapters, and the desired and found Secret of an account.
//! - [`reconcile`]: the core: desired, observed, plan, execution, outcome and status.
//! - [`manifests`]: reads `ApiAccount`s from files, and reports each problem with file, line, object and field.
//! - [`login`]: an account logs in and is let through: the pure core, and the port to its tables.
//! - `findings`: problems of manifests in the formats that CI systems read.
//! - `import`: reads accounts of other systems from CSV and JSON Lines.
//! - `run`: many accounts in one run, for `apply` and `plan`.
//! - [`doctor`]: checks what is wrong with an installation, pure, over what the command has read.
//! - [`telemetry`]: logs, metrics and probes.
//! - [`controller`]: watches a cluster and drives [`reconcile`] on it.
//! - [`cli`]: the commands. They build the adapters, call the other modules, and print.
#![forbid(unsafe_code)]

pub mod account;
pub mod api;
mod backoff;
pub mod cli;
pub mod controller;
pub mod database;
pub mod doctor;
mod findings;
pub mod http;
mod import;
mod kube_error;
pub mod login;
pub mod manifests;
pub mod reconcile;
mod run;
pub mod secrets;
pub mod telemetry;
mod yaml;
