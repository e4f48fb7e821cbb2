//! Login: an account proves that it has its secret key, gets tokens, and is let through with them.
//!
//! This module is pure. Time and random bits are arguments, headers and forms are values, and the tables are behind the
//! port [`LoginDatabase`]. Whether an account may do something is decided by [`crate::account::access`] alone.

mod allowed;
mod assertion;
mod client_address;
mod decision;
mod dialect;
mod family;
mod form;
mod paths;
mod port;
mod record;
mod refusal;
mod token;

pub use allowed::{Allowed, KnownAccount};
pub use assertion::{AssertionRefusal, Audience, UnverifiedAssertion, VerifiedAssertion};
pub use client_address::{TrustedProxies, UnknownAddress, client_address};
pub use decision::{ActiveToken, Circumstances, Decision, Forbidden, Unauthorized, active_token, decide, may_log_in};
pub use dialect::{Dialect, DialectError, ENVOY_PREFIX, ProxiedRequest, TokenFault};
pub use family::{Issued, Lifetimes, LoginEntropy, NewLogin, NextTokens, Refresh, RefreshRefusal, begin, refresh};
pub use form::{ASSERTION_TYPE, ClientAssertion, FormRefusal, Grant, MAX_FORM_BYTES, RevocationRequest, TokenRequest};
pub use paths::{AmbiguousPath, InvalidPaths, PathTable, RequestPath};
pub use port::{AccessChange, AssertionUse, Generations, LoginDatabase, RefreshWrite};
pub use record::{
    AssertionHash, End, EndReason, Family, FamilySeed, Generation, IssuedToken, Login, LoginId, TokenHash, Tokens,
    UsedAssertion,
};
pub use refusal::{ErrorAnswer, LoginRefusal};
pub use token::{AccessToken, RefreshToken, TokenBits};
