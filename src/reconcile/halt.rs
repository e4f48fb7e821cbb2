//! Why an attempt ended early, and how often to make another.

use super::{Declarations, Desired, NotReady, Outcome};
use crate::account::Owner;
use crate::database::DatabaseError;

/// How often to observe anew: after each step that changes what comes next, or when others change the same things, and
/// then somebody has got on each time.
pub(super) const ATTEMPTS: usize = 8;

/// Why an attempt ended early.
pub(super) enum Halt {
    /// What was done changes the rest: observe anew.
    LookAgain,
    /// Somebody else was quicker: observe anew, and ask whether the declaration still holds.
    Overtaken,
    /// It cannot be done.
    Refused(NotReady),
}

impl Halt {
    /// Another account has the API key that is in the Secret.
    pub fn key_taken(desired: &Desired) -> Self {
        Self::Refused(NotReady::KeyTaken { at: desired.secret.at.clone() })
    }
}

impl<E: Into<NotReady>> From<E> for Halt {
    fn from(error: E) -> Self {
        match error.into() {
            NotReady::Database(DatabaseError::Conflict) => Self::Overtaken,
            NotReady::Secret(error) if error.is_race() => Self::Overtaken,
            not_ready => Self::Refused(not_ready),
        }
    }
}

impl Outcome {
    /// Takes in how an attempt ended, and answers whether that was the last.
    pub(super) fn takes_in(
        &mut self,
        attempt: Result<(), Halt>,
        declarations: &dyn Declarations,
        owner: &Owner,
    ) -> bool {
        match attempt {
            Ok(()) => true,
            Err(Halt::Refused(not_ready)) => {
                self.not_ready = Some(not_ready);
                true
            }
            Err(Halt::LookAgain) => false,
            Err(Halt::Overtaken) => {
                declarations.overtaken(owner);
                false
            }
        }
    }
}
