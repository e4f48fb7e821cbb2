//! A connection to PostgreSQL that a test can make silent or cut.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

/// Forwards connections to a server. It can make all present connections on which somebody listens for notifications
/// silent, as a network that loses packets does, or refuse everything.
pub struct BlackHole {
    /// The URL of the database through this connection.
    pub url: String,
    silenced: watch::Sender<u64>,
    is_gone: Arc<AtomicBool>,
    cut: watch::Sender<()>,
}

impl BlackHole {
    /// Starts in front of the server of this URL.
    pub async fn before(url: &str) -> Self {
        let mut to = Url::parse(url).unwrap();
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, to.port().unwrap()));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        to.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        to.set_host(Some("127.0.0.1")).unwrap();
        let (silenced, is_gone, cut) =
            (watch::Sender::new(0), Arc::new(AtomicBool::new(false)), watch::Sender::new(()));
        let (events, gone, cuts) = (silenced.clone(), Arc::clone(&is_gone), cut.clone());
        tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { return };
                if !gone.load(Ordering::SeqCst) {
                    let mut cut = cuts.subscribe();
                    let relayed = relay(client, server, events.subscribe());
                    tokio::spawn(async move {
                        tokio::select! { () = relayed => {} _ = cut.changed() => {} }
                    });
                }
            }
        });
        Self { url: to.into(), silenced, is_gone, cut }
    }

    /// Makes all present connections silent on which somebody listens for notifications.
    pub fn silence_listeners(&self) {
        self.silenced.send_modify(|count| *count += 1);
    }

    /// Cuts all connections and refuses new ones, or accepts new ones again.
    pub fn set_gone(&self, is_gone: bool) {
        self.is_gone.store(is_gone, Ordering::SeqCst);
        self.cut.send_replace(());
    }
}

/// Relays one connection. Once it is silenced, nothing passes in either direction, and it stays open.
async fn relay(client: TcpStream, server: SocketAddr, mut silenced: watch::Receiver<u64>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.into_split(), server.into_split());
    let (mut up, mut down) = (vec![0; 65536], vec![0; 65536]);
    let mut listens = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut up) => match read {
                Ok(count @ 1..) => {
                    listens |= up[..count].windows(7).any(|word| word == b"LISTEN ");
                    if to_server.write_all(&up[..count]).await.is_err() { return }
                }
                _ => return,
            },
            read = from_server.read(&mut down) => match read {
                Ok(count @ 1..) => if to_client.write_all(&down[..count]).await.is_err() { return },
                _ => return,
            },
            _ = silenced.changed() => if listens { std::future::pending::<()>().await },
        }
    }
}
