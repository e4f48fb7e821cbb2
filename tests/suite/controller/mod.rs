//! The controller against a real API server: a namespace, a database and a controller process for each test.

mod drift;
mod lifecycle;
mod outages;
mod refusals;
mod scene;
mod secrets;
mod sweeps;
mod writes;
