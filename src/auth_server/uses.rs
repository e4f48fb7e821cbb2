//! When each key pair was used: counted in memory, and written from time to time.

use crate::account::{KeyId, KeyUse};
use crate::database::DatabaseError;
use crate::login::LoginDatabase;
use jiff::Timestamp;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Uses that have not been written yet.
#[derive(Debug, Default)]
pub(super) struct Uses(Mutex<HashMap<KeyId, KeyUse>>);

impl Uses {
    /// Notes a login with this key pair.
    pub fn note(&self, key: KeyId, at: Timestamp) {
        self.merge(KeyUse { key, first: at, last: at });
    }

    /// Writes what was noted. What cannot be written is kept for the next time.
    ///
    /// # Errors
    /// The database did not take it.
    pub async fn flush(&self, database: &dyn LoginDatabase) -> Result<(), DatabaseError> {
        let noted = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let uses: Vec<KeyUse> = noted.into_values().collect();
        if uses.is_empty() {
            return Ok(());
        }
        let written = database.record_uses(&uses).await;
        if written.is_err() {
            for unwritten in uses {
                self.merge(unwritten);
            }
        }
        written
    }

    fn merge(&self, used: KeyUse) {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let merged = noted.entry(used.key).or_insert(used);
        *merged = KeyUse { key: used.key, first: merged.first.min(used.first), last: merged.last.max(used.last) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::ToSpan as _;

    #[test]
    fn the_first_and_the_last_use_are_kept() {
        let uses = Uses::default();
        let (key, start) = (KeyId::from_random([1; 16]), Timestamp::UNIX_EPOCH);
        for seconds in [5, 2, 9] {
            uses.note(key, start + seconds.seconds());
        }
        let noted = uses.0.lock().unwrap().remove(&key).unwrap();
        assert_eq!(noted, KeyUse { key, first: start + 2.seconds(), last: start + 9.seconds() });
    }
}
