//! The type of a spec field that takes one of a few values.

use serde::{Deserialize, Serialize};

/// One of a few values. An unknown value can be read too, since the CRD on the cluster may be newer than this program
/// and allow more values. The code that needs the value must refuse an unknown one.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Choice<T> {
    /// A value that this program knows.
    Known(T),
    /// Any other value.
    Unknown(String),
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}
