//! The heart: from what is declared and what is there to what has to be done, and doing it.
//!
//! [`Desired`] (parsed, valid) and [`Observed`] go into [`plan`], which is pure; its [`Plan`] goes to [`Reconciler`],
//! which executes it against the two ports, [`crate::database::AccountDatabase`] and [`crate::secrets::SecretStore`], and
//! knows nothing behind them. The controller and the command line both run exactly this.

mod desired;
mod labels;

pub(crate) use labels::{check_metadata_annotation, check_metadata_label, is_dns_label, is_dns_subdomain};

pub use desired::{DeletionPolicy, Desired, FieldError, InvalidSpec};
