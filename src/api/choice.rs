//! A field of the spec that takes one of a few words.

use serde::{Deserialize, Serialize};

/// One of a few words. Another one is read too, and is for whoever needs to know what is meant to refuse: the definition on
/// the cluster may be newer than this program, and knows more of them.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(untagged)]
pub enum Choice<T> {
    /// A word that this program knows.
    Known(T),
    /// Another one.
    Unknown(String),
}

impl<T: Default> Default for Choice<T> {
    fn default() -> Self {
        Self::Known(T::default())
    }
}
