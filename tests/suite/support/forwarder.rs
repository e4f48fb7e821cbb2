//! An address that can be moved from one server to another, as a DNS name or a virtual address is in a switchover.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes each new connection on to the server that it points to by then. Connections that were made before stay.
pub struct Forwarder {
    port: u16,
    target: Arc<AtomicU16>,
    serving: JoinHandle<()>,
}

impl Forwarder {
    /// One that points to this port of the loopback address.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port is free");
        let own = listener.local_addr().expect("it has an address").port();
        let target = Arc::new(AtomicU16::new(port));
        let serving = tokio::spawn(serve(listener, Arc::clone(&target)));
        Self { port: own, target, serving }
    }

    /// Points to another port from now on.
    pub fn point_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
    }

    /// The URL of a database, with this address in the place of its server's.
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
            // A server that is not there looks as it does without this: the connection ends.
            if let Ok(mut server) = TcpStream::connect(server).await {
                drop(copy_bidirectional(&mut client, &mut server).await);
            }
        });
    }
}
