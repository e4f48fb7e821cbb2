//! Many accounts in one run, as `opsadmin apply` and `opsadmin plan` do it: the order, one read for many accounts, what is pruned,
//! and the report on each account.
//!
//! [`Run`] is the one loop. `apply` drives it over real ports, `plan` over dry runs, and both get the same [`AccountReport`]s.

mod cluster;
mod driver;
mod folder_guard;
mod keyring_rotation;
mod known;
mod order;
mod prune;
mod report;

pub use cluster::{ClusterState, Depth, Query};
pub use driver::{Run, Turn, Work};
pub use folder_guard::FolderGuard;
pub use keyring_rotation::{KeyringRotation, ResealProgress, RotationDone};
pub use known::ExistingAccounts;
#[cfg(test)]
pub(crate) use order::{ApplyOrder, Batch};
pub use prune::PruneSet;
pub use report::{ACCOUNTS, AccountReport, AccountResult, Action, Change, SUMMARY, Summary};
