//! A TCP address that a test can redirect from one server to another, like a DNS name or a virtual IP address in a
//! switchover.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Forwards each new connection to the current target. Existing connections keep their target.
pub struct Forwarder {
    port: u16,
    target: Arc<AtomicU16>,
    serving: JoinHandle<()>,
}

impl Forwarder {
    /// Creates a forwarder to this port of the loopback address.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let own = listener.local_addr().expect("it has an address").port();
        let target = Arc::new(AtomicU16::new(port));
        let serving = tokio::spawn(serve(listener, Arc::clone(&target)));
        Self { port: own, target, serving }
    }

    /// Forwards new connections to another port.
    pub fn point_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    /// Returns the URL of a database with the forwarder's address instead of the server's.
    pub fn url(&self, url: &str) -> String {
        let (login, rest) = url.rsplit_once('@').expect("the URL has a login");
        let (_, database) = rest.split_once('/').expect("the URL has a database");
        format!("{login}@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(listener: TcpListener, target: Arc<AtomicU16>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, target.load(Ordering::SeqCst)));
        connections.spawn(async move {
            // If the server does not listen, the connection ends, as it would without the forwarder.
            if let Ok(mut server) = TcpStream::connect(server).await {
                drop(copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}
