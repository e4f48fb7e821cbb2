//! The address at which something is served, as given on the command line.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use thiserror::Error;
use tokio::net::TcpListener;

/// The address to listen at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// The server is off.
    Off,
    /// This port of every address, IPv6 and IPv4.
    Everywhere(u16),
    /// This address and port.
    At(SocketAddr),
}

/// What a listener is for. Errors name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purpose {
    /// What is served, such as `metrics and probes`.
    pub serves: &'static str,
    /// The option of the command line that gives the address, such as `--metrics-address`.
    pub option: &'static str,
}

/// The program cannot listen at an address.
#[derive(Debug, Error)]
#[error("cannot serve {} on {listen}; choose another {}, or off", purpose.serves, purpose.option)]
pub struct ListenError {
    /// The address.
    pub listen: Listen,
    /// What the listener is for.
    pub purpose: Purpose,
    /// The operating system's error.
    #[source]
    pub reason: io::Error,
}

impl Listen {
    /// Reads `:8080`, `127.0.0.1:8080` or `[::1]:8080`; `off` or an empty text for no server.
    ///
    /// # Errors
    /// A message with what is wrong with the text, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let help = "write it as :8080, 127.0.0.1:8080 or [::1]:8080, with port 0 for any free one, or off";
        match text.strip_prefix(':') {
            _ if text.is_empty() || text == "off" => Ok(Self::Off),
            Some(port) => port.parse().map(Self::Everywhere).map_err(|error| format!("{error}; {help}")),
            None => text.parse().map(Self::At).map_err(|error| format!("{error}; {help}")),
        }
    }

    /// Starts to listen; `None` if the server is off.
    ///
    /// # Errors
    /// The system refuses the address, for example because another program listens there.
    pub async fn bind(self, purpose: Purpose) -> Result<Option<TcpListener>, ListenError> {
        self.listener().await.map_err(|reason| ListenError { listen: self, purpose, reason })
    }

    async fn listener(self) -> io::Result<Option<TcpListener>> {
        match self {
            Self::Off => Ok(None),
            Self::At(address) => TcpListener::bind(address).await.map(Some),
            Self::Everywhere(port) => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Err(error) if !is_final(&error) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await.map(Some),
                bound => bound.map(Some),
            },
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Everywhere(port) => write!(f, ":{port}"),
            Self::At(address) => address.fmt(f),
        }
    }
}

/// Returns whether listening at the IPv4 address would fail too. Other errors may mean that the system has no IPv6.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_and_written_the_same() {
        for text in ["off", ":8080", ":0", "127.0.0.1:8080", "[::1]:0", "0.0.0.0:9090"] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(Listen::parse(""), Ok(Listen::Off));
    }

    #[test]
    fn an_invalid_address_is_refused_with_how_to_write_one() {
        for text in ["8080", "on", ":", ":65536", ":-1", "localhost:8080", "127.0.0.1", "127.0.0.1:", " ", "OFF"] {
            let not_ready = Listen::parse(text).unwrap_err();
            assert!(not_ready.contains("write it as :8080"), "{text}: {not_ready}");
        }
    }
    #[tokio::test]
    async fn an_address_in_use_is_refused_with_the_option_that_gives_it() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let purpose = Purpose { serves: "logins", option: "--listen" };
        let error = Listen::At(address).bind(purpose).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot serve logins on {address}; choose another --listen, or off"));
        assert_eq!(error.reason.kind(), io::ErrorKind::AddrInUse);
        assert!(Listen::Off.bind(purpose).await.unwrap().is_none());
    }
}
