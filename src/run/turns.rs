//! Hands out the accounts of a run one at a time: first the declared accounts in batches, then the accounts to prune, then
//! again the accounts that wait for a name. `apply` and `plan` loop over them, each with its own [`Work`].

use super::order::{ApplyOrder, Batch};
use super::{AccountReport, ExistingAccounts, PruneSet};
use crate::account::{Account, Owner};
use crate::database::{AccountDatabase, DatabaseError};
use crate::manifests::Manifest;
use crate::reconcile::Outcome;
use async_trait::async_trait;
use std::collections::VecDeque;

/// What a run does with each account: the changes themselves, or a dry run of them.
#[async_trait]
pub trait Work: Sync {
    /// Called before a batch, with the accounts that a bulk read found for it.
    fn begin_batch(&self, _batch: &[&Manifest], _known: &ExistingAccounts) {}

    /// Reconciles the account of a manifest. `known` is the account as the bulk read found it.
    async fn reconcile(&self, manifest: &Manifest, known: Option<Account>) -> Outcome;

    /// Deletes the account of an owner that no manifest declares.
    async fn prune(&self, owner: &Owner) -> Outcome;

    /// Returns a warning about what follows from an account that exists already.
    fn warning(&self, _known: Option<&Account>) -> Option<String> {
        None
    }

    /// Called after a batch.
    fn end_batch(&self) {}
}

/// A run over manifests and over the accounts that no manifest declares.
pub struct Run<'a> {
    order: ApplyOrder<'a, Manifest>,
    database: &'a dyn AccountDatabase,
    prune_set: &'a PruneSet,
    /// The rest of the present batch.
    turns: VecDeque<Turn<'a>>,
    known: ExistingAccounts,
    in_batch: bool,
}

/// The next account.
#[derive(Debug, Clone, Copy)]
pub enum Turn<'a> {
    /// A manifest declares the account.
    Declared(&'a Manifest),
    /// No manifest declares the account of this owner.
    Undeclared(&'a Owner),
}

impl<'a> Run<'a> {
    /// Creates a run that has not begun. `database` is read for the accounts of each batch.
    pub fn new(manifests: &'a [Manifest], prune_set: &'a PruneSet, database: &'a dyn AccountDatabase) -> Self {
        Self {
            order: ApplyOrder::new(manifests, super::known::BATCH),
            database,
            prune_set,
            turns: VecDeque::new(),
            known: ExistingAccounts::default(),
            in_batch: false,
        }
    }

    /// Returns the next account, or `None` at the end.
    ///
    /// # Errors
    /// The accounts of a batch could not be read.
    pub async fn next(&mut self, work: &dyn Work) -> Result<Option<Turn<'a>>, DatabaseError> {
        while self.turns.is_empty() {
            if std::mem::take(&mut self.in_batch) {
                work.end_batch();
            }
            match self.order.next() {
                None => return Ok(None),
                Some(Batch::Undeclared) => self.turns = self.prune_set.owners().map(Turn::Undeclared).collect(),
                Some(Batch::Declared(batch)) => {
                    self.known = ExistingAccounts::read(self.database, &batch).await?;
                    work.begin_batch(&batch, &self.known);
                    self.in_batch = true;
                    self.turns = batch.into_iter().map(Turn::Declared).collect();
                }
            }
        }
        Ok(self.turns.pop_front())
    }

    /// Does the work for one account. Returns no report if the account waits for a name and is tried again later.
    pub async fn perform(&mut self, turn: Turn<'a>, work: &dyn Work) -> (Outcome, Option<AccountReport>) {
        match turn {
            Turn::Undeclared(owner) => {
                let outcome = work.prune(owner).await;
                self.order.pruned(&outcome);
                let report = AccountReport::undeclared(owner, &outcome);
                (outcome, Some(report))
            }
            Turn::Declared(manifest) => {
                let known = self.known.take(&manifest.desired.owner);
                let warning = work.warning(known.as_ref());
                let outcome = work.reconcile(manifest, known).await;
                let report = self.order.is_final(manifest, &outcome).then(|| {
                    let mut report = AccountReport::declared(manifest, &outcome);
                    report.warnings.extend(warning);
                    report
                });
                (outcome, report)
            }
        }
    }
}
