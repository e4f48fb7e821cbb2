//! How one attempt at a resource ends, and how often another is made within one reconcile.

use super::{Declarations, Desired, NotReady, Outcome};
use crate::account::Owner;
use crate::database::DatabaseError;

/// How many attempts one reconcile makes at most. Another attempt follows a step that changes what comes next, and a
/// conflict with another writer, which then has made progress.
pub(super) const ATTEMPTS: usize = 8;

/// What an attempt does about differences from the declaration.
#[derive(Clone, Copy)]
pub(super) enum Differences {
    /// Corrects them.
    Correct,
    /// Reports them, and writes nothing.
    Report,
}

/// How an attempt ended.
#[derive(Debug)]
pub(super) enum Step {
    /// The account and its Secret are as declared.
    Done,
    /// What was done changes what is left to do: observe again.
    Again,
    /// No more can be done now, and the resource is not Ready for this reason.
    Blocked(NotReady),
}

/// Why an attempt was interrupted.
#[derive(Debug)]
pub(super) enum Interruption {
    /// Another writer changed the same thing first: observe again, and ask whether the declaration still holds.
    Overtaken,
    /// A call failed, or what was found cannot be used.
    Failed(NotReady),
}

impl<E: Into<NotReady>> From<E> for Interruption {
    fn from(error: E) -> Self {
        match error.into() {
            NotReady::Database(DatabaseError::Conflict) => Self::Overtaken,
            NotReady::Secret(error) if error.is_race() => Self::Overtaken,
            not_ready => Self::Failed(not_ready),
        }
    }
}

impl Step {
    /// Returns the step for an API key in the Secret that another account has.
    pub fn key_taken(desired: &Desired) -> Self {
        Self::Blocked(NotReady::KeyTaken { at: desired.secret.at.clone() })
    }
}

/// Returns another attempt in place of a refusal. For an attempt that assumed that the account is missing: the account
/// may have been created since it was looked for, and the next attempt reads it.
pub(super) fn again_if_refused(attempt: Result<Step, Interruption>) -> Result<Step, Interruption> {
    match attempt {
        Ok(Step::Blocked(_)) | Err(Interruption::Failed(_)) => Ok(Step::Again),
        other => other,
    }
}

impl Outcome {
    /// Records how an attempt ended. Returns whether the reconcile ends with it.
    pub(super) fn ends_with(
        &mut self,
        attempt: Result<Step, Interruption>,
        declarations: &dyn Declarations,
        owner: &Owner,
    ) -> bool {
        match attempt {
            Ok(Step::Done) => true,
            Ok(Step::Again) => false,
            Ok(Step::Blocked(not_ready)) | Err(Interruption::Failed(not_ready)) => {
                self.not_ready = Some(not_ready);
                true
            }
            Err(Interruption::Overtaken) => {
                declarations.overtaken(owner);
                false
            }
        }
    }
}
