//! A mutating admission policy: what it makes of the Secrets that a controller writes. The API server's own policies would
//! do the same, but not in every release that the suite runs on, and not for one test alone.

use std::sync::{Mutex, MutexGuard};

use bytes::Bytes;
use serde_json::Value;

type Changes = Box<dyn Fn(&mut Value) + Send>;

/// What is changed in each Secret that is created or replaced; nothing, until a test says so.
#[derive(Default)]
pub struct Policy(Mutex<Option<Changes>>);

impl Policy {
    /// From now on every Secret that is written is changed so.
    pub fn set(&self, changes: impl Fn(&mut Value) + Send + 'static) {
        *self.changes() = Some(Box::new(changes));
    }

    /// Nothing is changed any more.
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
