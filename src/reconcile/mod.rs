//! The heart: from what is declared and what is there to what has to be done, and doing it.
//!
//! [`Desired`] (parsed, valid) and [`Observed`] go into [`plan`], which is pure; its [`Plan`] is executed by the
//! [`Reconciler`] against the two ports, [`crate::database::AccountDatabase`] and [`crate::secrets::SecretStore`], and
//! nothing here knows what is behind them. The [`Outcome`] becomes a status, events, log lines or a printout. The
//! controller and the command line both run exactly this.

mod addresses;
mod adoption;
mod apply_order;
mod brake;
mod creation;
mod declarations;
mod desired;
mod drift;
mod halt;
mod keys;
mod labels;
mod nulls;
mod observed;
mod obstacle;
mod outcome;
mod plan;
mod reconciler;
mod release;
mod repeated_drift;
mod status;

pub(crate) use labels::{check_metadata_annotation, check_metadata_label, is_dns_label, is_dns_subdomain};

pub use apply_order::{ApplyOrder, Batch};
pub use brake::{DELETION_WINDOW, awaits_confirmation, deletion_limit, deletions_count_since, is_confirmed, is_held};
pub use creation::{CreationGuard, Doubt, KnownAccount, Missing, Unguarded, is_creation_held, is_made_if_missing};
pub use declarations::{AlwaysCurrent, Declarations, Unconfirmed};
pub use desired::{DeletionPolicy, Desired, FieldError, InvalidSpec, is_paused};
pub use keys::new_key;
pub use nulls::nulls_applied;
pub use observed::{Evidence, Observed, ObservedSecret, Verified};
pub use obstacle::Obstacle;
pub use outcome::{AdoptionPath, Done, Drift, NotReady, Outcome};
pub use plan::{AccountPlan, KeysPlan, Plan, SecretPlan, plan};
pub use reconciler::{Environment, RandomnessError, Reconciler};
pub use release::{Deletion, deletion_policy, secret_places};
pub use repeated_drift::{Corrections, History};
pub use status::status;

#[cfg(test)]
pub(crate) mod tests;
