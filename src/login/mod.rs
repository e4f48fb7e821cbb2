//! Login: an account proves that it has its secret key, gets tokens, and is let through with them.
//!
//! This module is pure. Time and random bits are arguments, headers and forms are values, and the tables are behind the
//! port [`LoginDatabase`]. Whether an account may do something is decided by [`crate::account::access`] alone.

mod port;
mod record;

pub use port::{AccessChange, AssertionUse, Generations, KeyUse, LoginDatabase, RefreshWrite};
pub use record::{
    AssertionHash, End, EndReason, Family, FamilySeed, Generation, IssuedToken, Login, LoginId, TokenHash, Tokens,
    UsedAssertion,
};
