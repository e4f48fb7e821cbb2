//! The keyring that a running program uses. It can be replaced while the program runs.

use super::Keyring;
use std::sync::{Arc, PoisonError, RwLock};

/// The keyring in use. Clones share it.
#[derive(Debug, Clone)]
pub struct CurrentKeyring(Arc<RwLock<Arc<Keyring>>>);

impl CurrentKeyring {
    /// Returns the keyring in use.
    pub fn get(&self) -> Arc<Keyring> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces the keyring. Calls that began before continue with the former one.
    pub fn replace(&self, keyring: Keyring) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keyring);
    }
}

impl From<Keyring> for CurrentKeyring {
    fn from(keyring: Keyring) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(keyring))))
    }
}
