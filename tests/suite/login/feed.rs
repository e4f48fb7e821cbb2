//! A database that is gone, and a feed of changes that tells nothing any more.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use opsadmin_operator::account::{Role, SuspensionReason};
use opsadmin_operator::database::Action;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::scene::{SOON, Scene};
use crate::database_contract::fixture::change;
use crate::support::wait::eventually;

/// Forwards connections to a server. It can make all present connections on which somebody listens for notifications
/// silent, as a network that loses packets does, or refuse everything.
struct BlackHole {
    url: String,
    silenced: watch::Sender<u64>,
    is_gone: Arc<AtomicBool>,
    cut: watch::Sender<()>,
}

impl BlackHole {
    async fn before(url: &str) -> Self {
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

    fn silence_listeners(&self) {
        self.silenced.send_modify(|count| *count += 1);
    }

    fn set_gone(&self, is_gone: bool) {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_feed_lets_nobody_in_and_is_opened_again() {
    let scene = Scene::postgres("silent feed").await;
    let hole = BlackHole::before(scene.fresh.url()).await;
    let server = scene.serve_at(&hole.url, &[]).await;
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let token = server.log_in(&client).await.access;
    let hits = "opsadmin_access_cache_total{result=\"hit\"}";
    let until_hit = async || {
        let before = server.metric(hits).await;
        eventually("an answer from memory", SOON, async || {
            assert_eq!(server.authorize(&token, "/my-account").await.status, 200);
            if server.metric(hits).await > before { Ok(()) } else { Err("it was read from the database") }
        })
        .await;
    };
    until_hit().await;
    hole.silence_listeners();
    let suspend = |expected| Action::Suspend { expected, reason: SuspensionReason::parse("unpaid").unwrap() };
    let suspended =
        scene.database.accounts.commit(&change(client.account.id, suspend(client.account.version))).await.unwrap();
    server.eventually("the suspended account to be out although the feed is silent", &token, 401).await;
    server.logged(&["the account database tells no changes any more"]).await;
    let resume = Action::Resume { expected: suspended.version };
    scene.database.accounts.commit(&change(client.account.id, resume)).await.unwrap();
    server.eventually("the account to be in again", &token, 200).await;
    until_hit().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_let_in_while_the_database_is_gone() {
    let scene = Scene::postgres("gone database").await;
    let hole = BlackHole::before(scene.fresh.url()).await;
    let server = scene.serve_at(&hole.url, &[]).await;
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let token = server.log_in(&client).await.access;
    assert_eq!(server.authorize(&token, "/my-account").await.status, 200);
    hole.set_gone(true);
    server.eventually("an answer that knows nothing", &token, 503).await;
    let login = server.token(&client.assertion()).await;
    assert_eq!(login.status, 503, "{login:?}");
    assert!(login.headers.contains("retry-after"), "{login:?}");
    assert_eq!(server.authorize("", "/my-account").await.status, 401, "without a token nothing must be known");
    eventually("the server to be unready", SOON, async || {
        let status = server.get_internal("/readyz", "").await.status;
        if status == 503 { Ok(()) } else { Err(status) }
    })
    .await;
    hole.set_gone(false);
    server.eventually("the account to be in again", &token, 200).await;
    server.ready().await;
    assert_eq!(server.token(&client.assertion()).await.status, 200);
    // A server that starts during the outage waits for its end.
    hole.set_gone(true);
    let late = scene.start_at(&hole.url, &[]).await;
    assert_eq!(late.token(&client.assertion()).await.status, 503);
    hole.set_gone(false);
    late.ready().await;
    assert_eq!(late.token(&client.assertion()).await.status, 200);
}
