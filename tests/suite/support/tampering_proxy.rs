//! A TCP proxy that a test can use to change what clients send, and to freeze connections.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections to a server on this machine, until it is dropped.
pub struct TamperingProxy {
    port: u16,
    /// The number of connections so far, and how many of the oldest connections are frozen.
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Default)]
struct State {
    made: usize,
    frozen: usize,
}

impl TamperingProxy {
    /// Starts a proxy for the server on `port`. It replaces `said` from a client with `heard`, which has the same
    /// length.
    pub async fn to(port: u16, said: &'static str, heard: &'static str) -> Self {
        assert_eq!(said.len(), heard.len());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let own = listener.local_addr().expect("it has a port").port();
        let (state, _) = watch::channel(State::default());
        let serving = state.clone();
        let mut dropped = state.subscribe();
        tokio::spawn(async move {
            let serve = async {
                loop {
                    let (client, _) = listener.accept().await.expect("it listens");
                    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("the server listens");
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    let number = serving.borrow().made;
                    serving.send_modify(|state| state.made += 1);
                    tokio::spawn(pump(from_client, to_server, (said, heard), number, serving.subscribe()));
                    tokio::spawn(pump(from_server, to_client, ("", ""), number, serving.subscribe()));
                }
            };
            let stopped = async { dropped.wait_for(|state| state.made == usize::MAX).await.is_ok() };
            tokio::select! { () = serve => {} _ = stopped => {} }
        });
        Self { port: own, state }
    }

    /// Returns the port of the proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops forwarding on all present connections, without ending them. New connections work. Returns the number of
    /// frozen connections.
    pub fn freeze(&self) -> usize {
        self.state.send_modify(|state| state.frozen = state.made);
        self.state.borrow().frozen
    }
}

impl Drop for TamperingProxy {
    fn drop(&mut self) {
        self.state.send_replace(State { made: usize::MAX, frozen: 0 });
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    (said, heard): (&'static str, &'static str),
    number: usize,
    mut state: watch::Receiver<State>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = async { drop(state.wait_for(|state| number < state.frozen).await) } => None,
            read = from.read(&mut buffer) => Some(read),
        };
        let Some(read) = read else {
            // Both ends stay open and get nothing more until the proxy is dropped.
            drop(state.wait_for(|state| state.made == usize::MAX).await);
            return;
        };
        let Ok(length @ 1..) = read else { return };
        let spoken = &mut buffer[..length];
        if let Some(at) = (0..length).find(|at| !said.is_empty() && spoken[*at..].starts_with(said.as_bytes())) {
            spoken[at..at + heard.len()].copy_from_slice(heard.as_bytes());
        }
        if to.write_all(spoken).await.is_err() {
            return;
        }
    }
}
