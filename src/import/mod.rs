//! Reading accounts that exist elsewhere, from CSV or JSON Lines: each line becomes a [`Record`], or a list of what is wrong with it.
//!
//! Nothing of a line that may be a secret key goes into a message.

mod encoding;
mod existing;
mod file;
mod json;
mod quotes;
mod record;
mod secrecy;
mod table;

pub use encoding::decode;
pub use existing::ExistingNamesAndKeys;
pub use file::{FileFormat, read};
pub use record::{Line, Record};
