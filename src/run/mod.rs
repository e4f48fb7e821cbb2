//! Many accounts in one run, as for `opsadmin apply` and `opsadmin plan`: the order, reads of many accounts at once,
//! pruning, and the report on each account.
//!
//! [`Run`] hands out the accounts. `apply` works on them with the real database and Secrets, `plan` with dry runs, and both
//! get the same [`AccountReport`]s. [`KeyringRotation`] is a run over all sealed keys.

mod action;
mod cluster;
mod folder_guard;
mod journal_tail;
mod keyring_rotation;
mod known;
mod order;
mod prune;
mod report;
mod turns;

pub use action::{Action, Change};
pub use cluster::{ClusterState, Depth, Query};
pub use folder_guard::FolderGuard;
pub use journal_tail::JournalTail;
pub use keyring_rotation::{KeyringRotation, ResealProgress, RotationDone};
pub use known::ExistingAccounts;
#[cfg(test)]
pub(crate) use order::{ApplyOrder, Batch};
pub use prune::PruneSet;
pub use report::{ACCOUNTS, AccountReport, AccountResult, SUMMARY, Summary};
pub use turns::{Run, Turn, Work};
