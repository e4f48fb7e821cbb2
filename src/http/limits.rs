//! What one server grants to all of its clients together, and to each of them.

use std::time::Duration;

/// The limits of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most connections at a time. One more closes the oldest one on which no request is being handled, or the
    /// oldest of all, so that slow clients cannot block others.
    pub connections: usize,
    /// The most requests that are handled at a time. More requests wait for their turn, within `request_timeout`.
    pub requests: usize,
    /// The longest request line and header fields together, in bytes. A longer header gets status 431.
    pub header_bytes: usize,
    /// The longest body in bytes. A handler that reads a longer one by an extractor of axum answers with status 413.
    pub body_bytes: usize,
    /// How long a TLS handshake may take. Then the connection is closed.
    pub handshake_timeout: Duration,
    /// How long a connection may wait for the complete header of its next request. Then it is closed.
    pub header_timeout: Duration,
    /// How long a request may take after its header: the wait for its turn, its body and its handler. Then it is
    /// answered with status 503.
    pub request_timeout: Duration,
    /// How long the server waits for requests that are being handled when it ends. Then their connections are closed.
    pub shutdown_timeout: Duration,
}
