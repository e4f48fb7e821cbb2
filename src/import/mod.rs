//! Reading accounts that exist elsewhere, from CSV or JSON Lines: each line becomes a [`Record`], or a list of what is wrong with it.
//!
//! Nothing of a line that may be a secret key goes into a message.

mod encoding;
mod file;
mod json;
mod quotes;
mod record;
mod secrecy;
mod table;
mod taken;

pub use encoding::decode;
pub use file::{FileFormat, Line, read};
pub use record::Record;
pub use taken::ExistingNamesAndKeys;
