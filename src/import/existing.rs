//! Finds the names and API keys of an import that exist already. Many lines are looked up in one database read, because
//! each read is a round trip.

use super::record::{Line, Record};
use crate::account::ApiKey;
use crate::database::{AccountDatabase, DatabaseError};
use std::collections::HashSet;

/// The names and the API keys that cannot be imported, because they are in use or revoked.
pub struct ExistingNamesAndKeys {
    names: HashSet<String>,
    api_keys: HashSet<ApiKey>,
    revoked: HashSet<ApiKey>,
}

impl ExistingNamesAndKeys {
    /// Reads the names and API keys of the existing accounts that conflict with these lines.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn of(lines: &[Line], database: &dyn AccountDatabase) -> Result<Self, DatabaseError> {
        let records = || lines.iter().filter_map(|line| line.record.as_ref().ok());
        let names: Vec<_> = records().map(|record| record.settings.name.clone()).collect();
        let api_keys: Vec<_> = records().map(|record| record.api_key.clone()).collect();
        let revoked = database.revoked(&api_keys).await?;
        let mut taken = Self { names: HashSet::new(), api_keys: HashSet::new(), revoked };
        for account in database.find_holders(&names, &api_keys).await? {
            taken.names.extend(account.reserved_name());
            taken.api_keys.extend(account.keys.into_iter().map(|key| key.api_key));
        }
        Ok(taken)
    }

    /// Checks whether the record can be imported. Returns the same errors as a commit to the database.
    ///
    /// # Errors
    /// The name or the API key is in use, or the API key was revoked.
    pub fn check(&self, record: &Record) -> Result<(), DatabaseError> {
        let name = &record.settings.name;
        if self.names.contains(&name.comparable()) {
            return Err(DatabaseError::NameTaken { name: name.clone() });
        }
        if self.revoked.contains(&record.api_key) {
            return Err(DatabaseError::KeyRevoked);
        }
        if self.api_keys.contains(&record.api_key) { Err(DatabaseError::KeyTaken) } else { Ok(()) }
    }
}
