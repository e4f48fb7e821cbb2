//! The Helm chart: what it renders, that the API server accepts it, and that it grants what `deploy/` grants.

mod auth_server;
mod fairness;
mod keyring;
mod readme;
mod releases;
mod rendered;
mod rendering;
mod same_as_render;
