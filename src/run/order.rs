//! The order of the accounts in one run: first the declared accounts, then the accounts that no manifest declares any
//! more, and then again the accounts that wait for a name, as long as such a name may have become free.

use crate::reconcile::{NotReady, Outcome};
use std::mem;
use std::slice::Chunks;

/// The next batch.
#[derive(Debug)]
pub enum Batch<'a, T> {
    /// These accounts are to be reconciled.
    Declared(Vec<&'a T>),
    /// The accounts that no manifest declares are to be deleted.
    Undeclared,
}

/// The order of one run. Waiting accounts are kept as references, which need little memory.
#[derive(Debug)]
pub struct ApplyOrder<'a, T> {
    at_a_time: usize,
    first: Chunks<'a, T>,
    undeclared: bool,
    /// The accounts that are tried again in this round, in reverse order.
    again: Vec<&'a T>,
    /// The accounts that are tried again in the next round.
    waiting: Vec<&'a T>,
    /// Whether anything was done since this round began. That may have released a name.
    anything_done: bool,
    /// Whether the outcomes of this round are final.
    is_last: bool,
}

impl<'a, T> ApplyOrder<'a, T> {
    /// Creates the order for all declared accounts, with `at_a_time` accounts in a batch.
    pub fn new(declared: &'a [T], at_a_time: usize) -> Self {
        let first = declared.chunks(at_a_time);
        Self {
            at_a_time,
            first,
            undeclared: true,
            again: Vec::new(),
            waiting: Vec::new(),
            anything_done: false,
            is_last: false,
        }
    }

    /// Returns whether the outcome is final. If not, the account is tried again later. Must be called after each
    /// attempt.
    pub fn is_final(&mut self, declared: &'a T, outcome: &Outcome) -> bool {
        let has_done = !outcome.done.is_empty();
        self.anything_done |= has_done;
        let waits_for_a_name = outcome.not_ready.as_ref().and_then(NotReady::waits_for).is_some();
        // An outcome with changes is final, so that the report shows the changes together with the reason.
        if self.is_last || has_done || !waits_for_a_name {
            return true;
        }
        self.waiting.push(declared);
        false
    }

    /// Records the outcome for an account that no manifest declares. Must be called for each of them.
    pub fn pruned(&mut self, outcome: &Outcome) {
        self.anything_done |= !outcome.done.is_empty();
    }
}

impl<'a, T> Iterator for ApplyOrder<'a, T> {
    type Item = Batch<'a, T>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(batch) = self.first.next() {
            return Some(Batch::Declared(batch.iter().collect()));
        }
        if mem::take(&mut self.undeclared) {
            return Some(Batch::Undeclared);
        }
        if self.again.is_empty() {
            self.again = mem::take(&mut self.waiting);
            self.is_last = !mem::take(&mut self.anything_done);
        }
        // In reverse order: if each account waits for the one after it, one round is then enough for all of them.
        let rest = self.again.len().saturating_sub(self.at_a_time);
        let batch: Vec<_> = self.again.drain(rest..).rev().collect();
        (!batch.is_empty()).then_some(Batch::Declared(batch))
    }
}
