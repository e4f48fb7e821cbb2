//! Whether what was read of a resource still holds, asked before anything is changed for it.
//!
//! Who is cut off from the API server goes on with what was true then, while another controller does what is declared now.
//! Without asking, each would undo what the other did: a revocation, a rotation, a new account.

use super::Desired;
use crate::account::Owner;
use crate::secrets::ResourceIdentity;
use async_trait::async_trait;
use thiserror::Error;

/// Where resources are declared.
#[async_trait]
pub trait Declarations: Send + Sync {
    /// Whether the resource still declares this.
    ///
    /// # Errors
    /// [`Unconfirmed`] if it does not, or if there is no telling.
    async fn confirm(&self, desired: &Desired) -> Result<(), Unconfirmed>;

    /// Whether the resource is still being deleted; without a UID, whether there is still none.
    ///
    /// # Errors
    /// [`Unconfirmed`] if it is not so, or if there is no telling.
    async fn confirm_deletion(&self, resource: &ResourceIdentity) -> Result<(), Unconfirmed>;

    /// Takes in that somebody else changed this owner's account or Secret while it was worked on. Whoever did may have seen a
    /// newer declaration, so the next answer must not rest on what was seen before.
    fn overtaken(&self, _owner: &Owner) {}
}

/// What was read may no longer be so: nothing may be changed for it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct Unconfirmed(pub String);

/// Manifests that one run reads and applies: what was read is what is declared.
#[derive(Debug, Clone, Copy)]
pub struct AlwaysCurrent;

#[async_trait]
impl Declarations for AlwaysCurrent {
    async fn confirm(&self, _: &Desired) -> Result<(), Unconfirmed> {
        Ok(())
    }

    async fn confirm_deletion(&self, _: &ResourceIdentity) -> Result<(), Unconfirmed> {
        Ok(())
    }
}
