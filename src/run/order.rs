//! In which order many accounts are dealt with in one run: as they are declared, then what is declared no more, and then once
//! more those that another account kept from having its name, for as long as that name may have become free.

use crate::reconcile::{NotReady, Outcome};
use std::mem;
use std::slice::Chunks;

/// What is next.
#[derive(Debug)]
pub enum Batch<'a, T> {
    /// These are to be made as they are declared.
    Declared(Vec<&'a T>),
    /// What is declared no more is to go.
    Undeclared,
}

/// The turns of one run. Of those that have to wait, only references are kept.
#[derive(Debug)]
pub struct ApplyOrder<'a, T> {
    at_a_time: usize,
    first: Chunks<'a, T>,
    undeclared: bool,
    /// Who is tried again in this round, the next one at the end.
    again: Vec<&'a T>,
    /// Who has to wait for the next round.
    waiting: Vec<&'a T>,
    /// Whether anything was done since this round began, which may have set a name free.
    anything_done: bool,
    /// Whether what comes of this round stays so.
    is_last: bool,
}

impl<'a, T> ApplyOrder<'a, T> {
    /// For all that is declared, so many at a time.
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

    /// Whether this is what has come of it; otherwise it has another turn. To be asked after each try.
    pub fn is_final(&mut self, declared: &'a T, outcome: &Outcome) -> bool {
        let has_done = !outcome.done.is_empty();
        self.anything_done |= has_done;
        let waits_for_a_name = outcome.not_ready.as_ref().and_then(NotReady::waits_for).is_some();
        // What was done must be told with what came of it.
        if self.is_last || has_done || !waits_for_a_name {
            return true;
        }
        self.waiting.push(declared);
        false
    }

    /// To be told what came of each that is declared no more.
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
        // From the end: where each waits for the one declared after it, one round then serves them all.
        let rest = self.again.len().saturating_sub(self.at_a_time);
        let batch: Vec<_> = self.again.drain(rest..).rev().collect();
        (!batch.is_empty()).then_some(Batch::Declared(batch))
    }
}
