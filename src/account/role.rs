//! The roles of an account. Each role allows some groups of the API's endpoints.

use std::fmt;
use thiserror::Error;

/// A role of an account. An account without a role can authenticate but reaches no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The My Account endpoints.
    Customer,
    /// The Plans and the Enrollments endpoints.
    PlansAndRates,
    /// The whole API, regardless of the other roles and the affiliate.
    Administrator,
}

/// The error for a text that is not the name of a role.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{text:?} {}", Self::FAULT)]
pub struct UnknownRole {
    text: String,
}

impl UnknownRole {
    /// The message without the text.
    pub const FAULT: &'static str = "is not a role; the roles are Customer, PlansAndRates and Administrator";
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Customer, Self::PlansAndRates, Self::Administrator];

    /// Reads a role's name as manifests and the database write it.
    ///
    /// # Errors
    /// The text is not the exact name of a role.
    pub fn parse(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole { text: text.to_owned() })
    }

    /// The role's name as manifests and the database write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "Customer",
            Self::PlansAndRates => "PlansAndRates",
            Self::Administrator => "Administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
