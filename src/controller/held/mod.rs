//! What is held of each resource while nothing happens to it: its place, and what decides, packed into one small text.

mod key;
mod packed;
mod phrases;
mod share;
mod store;

pub(super) use key::Key;
pub(super) use share::Share;
pub(super) use store::Store;
