//! The controller against a real API server: a namespace, a database and a controller process for each test.

mod kstatus;
mod kubectl;
mod lifecycle;
mod logs;
mod outages;
mod refusals;
mod rights;
pub mod scene;
mod secrets;
mod writes;
