//! The foundation of the tests: a real control plane, a real PostgreSQL server and the built program. Each is started
//! when it is used for the first time.
#![allow(dead_code, reason = "each kind of test uses its own part of this, and no test uses all of it")]

pub mod audit;
pub mod certificates;
pub mod cluster;
#[cfg(feature = "traces")]
pub mod collector;
pub mod control_plane;
pub mod forwarder;
pub mod helm;
pub mod http;
pub mod names;
pub mod namespace;
pub mod opsadmin;
pub mod pgbouncer;
pub mod ports;
pub mod postgres;
pub mod postgres_programs;
pub mod process;
pub mod programs;
pub mod protected_api;
pub mod proxy;
pub mod run;
pub mod shell;
pub mod statements;
pub mod tampering_proxy;
pub mod wait;
