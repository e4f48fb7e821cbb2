//! The core: plans the changes that turn the observed state into the declared state, and executes them.
//!
//! [`Desired`] (parsed, valid) and [`Observed`] go into [`plan`], which is pure. The [`Reconciler`] executes the
//! [`Plan`] against the two ports, [`crate::database::AccountDatabase`] and [`crate::secrets::SecretStore`], and knows
//! no adapter. The [`Outcome`] becomes a status, events, log lines or a printout. The controller and the command line
//! both run exactly this code.

mod addresses;
mod adoption;
mod brake;
mod creation;
mod declarations;
mod deletion;
mod desired;
mod done;
mod drift;
mod environment;
mod execute;
mod frozen;
mod keys;
mod known;
mod labels;
mod last_use;
mod not_ready;
mod nulls;
mod observe;
mod observed;
mod obstacle;
mod outcome;
mod plan;
mod reconciler;
mod repeated_drift;
mod status;
mod step;

pub(crate) use labels::{
    check_metadata_annotation, check_metadata_label, is_dns_label, is_dns_subdomain, parse_namespace,
};

pub use brake::{
    DELETION_WINDOW, awaits_confirmation, deletion_limit, deletions_count_since, exceeds_limit, is_confirmed, is_held,
    may_be_held,
};
pub use creation::{
    AllowEveryCreation, CreationGuard, Doubt, KnownAccount, Missing, is_created_if_missing, is_creation_held,
};
pub use declarations::{AlwaysCurrent, Declarations, Unconfirmed};
pub use deletion::{Deletion, deletion_policy, possible_secrets};
pub use desired::{DeletionPolicy, Desired, FieldError, InvalidSpec, is_paused};
pub use done::Done;
pub use environment::{Environment, RandomnessError, random, random_secret};
pub use keys::new_key;
pub use known::Known;
pub use last_use::{OverlapHalf, has_unshown_use, newly_used_late, show_last_uses, used_in_overlap};
pub use not_ready::{AdoptionPath, NextAttempt, NotReady};
pub use nulls::{fields_applied_as_null, may_have_nulls};
pub use observed::{Evidence, Observed, ObservedSecret, RecoveredKeys, Verified};
pub use obstacle::Obstacle;
pub use outcome::{Drift, Found, Outcome};
pub use plan::{AccountPlan, KeysPlan, Plan, SecretPlan, plan};
pub use reconciler::Reconciler;
pub use repeated_drift::{Corrections, History};
pub use status::status;

#[cfg(test)]
pub(crate) mod tests;
