//! Follows the journal without a gap. Pure: the time comes in as an argument.
//!
//! Entries become visible in the order of their commits, and not in the order of their ids: a transaction that got its id
//! earlier may be committed later. So the position in the journal stays before a missing id until no transaction can
//! still fill it. Entries behind it are handed out at once, and again after a restart.

use crate::database::JournalRecord;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long a missing id may still be filled, after a later one was read. It is much longer than the longest
/// transaction of this program.
const FILLED_WITHIN: Duration = Duration::from_mins(5);

/// The age of an entry before which no id is missing any more. It is long, because the clock of the writer may be slow.
const SETTLED: SignedDuration = SignedDuration::from_hours(24);

/// A position in the journal.
#[derive(Debug)]
pub struct JournalTail {
    position: i64,
    /// The entries after the position that were handed out, and when they were read; `None`: long ago.
    ahead: BTreeMap<i64, Option<Instant>>,
}

impl JournalTail {
    /// Begins after the entry with this id.
    pub fn after(position: i64) -> Self {
        Self { position, ahead: BTreeMap::new() }
    }

    /// Returns the id up to which every entry was handed out.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// Returns those of these entries that were not handed out yet. `clock` and `now` are the same moment.
    pub fn take_new(&mut self, records: Vec<JournalRecord>, clock: Instant, now: Timestamp) -> Vec<JournalRecord> {
        let mut new = Vec::new();
        for record in records {
            if record.id <= self.position || self.ahead.contains_key(&record.id) {
                continue;
            }
            let is_old = record.at.is_some_and(|at| now.duration_since(at) > SETTLED);
            self.ahead.insert(record.id, (!is_old).then_some(clock));
            new.push(record);
        }
        self.advance(clock);
        new
    }

    /// Moves the position over the entries that were handed out, and over ids that stay missing.
    fn advance(&mut self, clock: Instant) {
        while let Some((&id, read)) = self.ahead.first_key_value() {
            let is_next = id == self.position.saturating_add(1);
            let is_settled = read.is_none_or(|read| clock.duration_since(read) >= FILLED_WITHIN);
            if !is_next && !is_settled {
                return;
            }
            self.position = id;
            self.ahead.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::JournalledChanges;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn record(id: i64, at: Timestamp) -> JournalRecord {
        let changes = JournalledChanges::Changes(Vec::new());
        let (account, actor, action) = (String::new(), String::new(), String::new());
        JournalRecord { id, account, at: Some(at), actor, generation: None, requested_by: None, action, changes }
    }

    fn take(tail: &mut JournalTail, ids: &[i64], clock: Instant) -> (Vec<i64>, i64) {
        let records = ids.iter().map(|id| record(*id, NOW)).collect();
        let new = tail.take_new(records, clock, NOW).into_iter().map(|record| record.id).collect();
        (new, tail.position())
    }

    #[test]
    fn an_entry_that_is_committed_late_is_handed_out_once() {
        let (mut tail, start) = (JournalTail::after(4), Instant::now());
        assert_eq!(take(&mut tail, &[5, 7, 8], start), (vec![5, 7, 8], 5));
        assert_eq!(take(&mut tail, &[7, 8], start), (vec![], 5));
        assert_eq!(take(&mut tail, &[6, 7, 8, 9], start), (vec![6, 9], 9));
        assert_eq!(take(&mut tail, &[], start), (vec![], 9));
    }

    #[test]
    fn a_missing_id_is_given_up_when_no_transaction_can_fill_it() {
        let (mut tail, start) = (JournalTail::after(0), Instant::now());
        assert_eq!(take(&mut tail, &[2], start), (vec![2], 0));
        let later = start + FILLED_WITHIN / 2;
        assert_eq!(take(&mut tail, &[2, 5], later), (vec![5], 0));
        assert_eq!(take(&mut tail, &[2, 5], start + FILLED_WITHIN), (vec![], 2));
        assert_eq!(take(&mut tail, &[5], later + FILLED_WITHIN), (vec![], 5));
    }

    #[test]
    fn old_entries_leave_no_gap_to_wait_for() {
        let (mut tail, start) = (JournalTail::after(0), Instant::now());
        let now = NOW.checked_add(SETTLED * 2).unwrap();
        let new = tail.take_new(vec![record(40, NOW), record(90, NOW)], start, now);
        assert_eq!((new.len(), tail.position()), (2, 90));
    }
}
