//! A simulated mutating admission policy for the Secrets that a controller writes. The API server's own policies would
//! do the same, but not in every release that the suite supports, and not for a single test.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::Value;

type Changes = Box<dyn Fn(&mut Value) + Send>;

/// The changes to each Secret that is created or replaced. The default is no change.
#[derive(Default)]
pub struct Policy(Mutex<Option<Changes>>);

impl Policy {
    /// Applies these changes to every Secret that is written from now on.
    pub fn set(&self, changes: impl Fn(&mut Value) + Send + 'static) {
        *self.changes() = Some(Box::new(changes));
    }

    /// Ends the changes.
    pub fn lift(&self) {
        *self.changes() = None;
    }

    pub(super) fn admit(&self, verb: &str, resource: &str, body: Bytes) -> Bytes {
        match &*self.changes() {
            Some(changes) if resource == "secrets" && ["POST", "PUT"].contains(&verb) => {
                let mut secret = serde_json::from_slice(&body).expect("a Secret is written as JSON");
                changes(&mut secret);
                secret.to_string().into()
            }
            _ => body,
        }
    }

    fn changes(&self) -> MutexGuard<'_, Option<Changes>> {
        self.0.lock().expect("nobody panics while holding it")
    }
}
