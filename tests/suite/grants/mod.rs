//! The optional policies and roles of `opsadmin render`: who may grant what, the finalizer at creation, and the
//! rights of the cluster's own roles.

mod chart;
mod finalizer;
mod office;
mod policy;
mod roles;
