//! The controller against a real API server: a namespace, a database and a controller process for each test.

mod lifecycle;
mod outages;
mod refusals;
pub mod scene;
mod secrets;
mod writes;
