//! The one HTTP stack: everything that this program serves goes through a [`Server`], with its limits and its TLS.
//!
//! This module knows no route and no other module. Who serves something brings an axum `Router`, and gives a
//! [`Server`] a listener from [`Listen::bind`]. A handler gets the client's address as `ConnectInfo<SocketAddr>`.

mod connection;
mod connections;
mod limits;
mod listen;
mod requests;
mod serve;
mod tls;
mod tls_files;

#[cfg(test)]
pub(crate) mod test_client;
#[cfg(test)]
mod tests;

pub use limits::Limits;
pub use listen::{Listen, ListenError, Purpose};
pub use serve::Server;
pub use tls::Tls;
pub use tls_files::{TlsError, TlsFiles};
