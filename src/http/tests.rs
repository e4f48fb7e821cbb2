//! Tests of the server and each of its limits, with real connections.

use super::test_client::{Client, Identity, Mounted, ROOMY, handshake, serve, server, soon};
use super::{Limits, Listen, Purpose, Server, Tls};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, State};
use axum::routing::{any, get, post};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

/// A time that is over soon.
const SHORT: Duration = Duration::from_millis(20);

/// Requests that a test lets go on.
#[derive(Clone)]
struct Gate {
    entered: mpsc::UnboundedSender<()>,
    open: Arc<Semaphore>,
}

impl Gate {
    /// Returns a router whose `/wait` passes a gate, what tells when a request has come to it, and what opens it.
    fn with_router() -> (Router, mpsc::UnboundedReceiver<()>, Arc<Semaphore>) {
        let (entered, comes) = mpsc::unbounded_channel();
        let open = Arc::new(Semaphore::new(0));
        let gate = Self { entered, open: Arc::clone(&open) };
        let router = Router::new().route("/wait", get(Self::pass)).route("/", get("now")).with_state(gate);
        (router, comes, open)
    }

    async fn pass(State(gate): State<Self>) -> &'static str {
        gate.entered.send(()).unwrap();
        gate.open.acquire().await.unwrap().forget();
        "passed"
    }
}

/// Starts a request that waits at the gate.
async fn waiting(address: SocketAddr, comes: &mut mpsc::UnboundedReceiver<()>) -> Client {
    let mut client = Client::connect(address).await;
    client.send_request("GET /wait", "").await;
    soon(comes.recv()).await.unwrap();
    client
}

#[tokio::test]
async fn a_connection_is_kept_and_its_handler_knows_the_client() {
    let client = any(async |ConnectInfo(client): ConnectInfo<SocketAddr>| client.to_string());
    let purpose = Purpose { serves: "tests", option: "--listen" };
    // Listens at an IPv6 address where the system has them, which gets IPv4 addresses mapped into IPv6.
    let listener = Listen::Everywhere(0).bind(purpose).await.unwrap().unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Server { router: Router::new().route("/", client), limits: ROOMY, tls: None };
    tokio::spawn(served.serve(listener, std::future::pending()));
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port))).await;
    let first = client.ask("GET /").await.body;
    assert!(first.starts_with("127.0.0.1:"), "{first}");
    assert_eq!(client.ask("POST /").await.body, first);
}

#[tokio::test]
async fn one_more_connection_closes_the_oldest_idle_one_and_otherwise_the_oldest() {
    let (router, mut comes, gate) = Gate::with_router();
    let address = server(router, Limits { connections: 3, ..ROOMY }).await;
    let busy = waiting(address, &mut comes).await;
    let mut oldest_idle = Client::connect(address).await;
    assert_eq!(oldest_idle.ask("GET /").await.body, "now");
    let mut idle = Client::connect(address).await;
    assert_eq!(idle.ask("GET /").await.body, "now");
    let mut second_busy = waiting(address, &mut comes).await;
    assert_eq!(oldest_idle.closed().await, "");
    assert_eq!(idle.ask("GET /").await.body, "now");
    idle.send_request("GET /wait", "").await;
    soon(comes.recv()).await.unwrap();

    assert_eq!(Client::connect(address).await.ask("GET /").await.body, "now");
    assert_eq!(busy.closed().await, "");
    gate.add_permits(2);
    assert_eq!(second_busy.answer().await.body, "passed");
    assert_eq!(idle.answer().await.body, "passed");
}

#[tokio::test]
async fn connections_that_have_ended_take_no_room() {
    let (router, mut comes, gate) = Gate::with_router();
    let address = server(router, Limits { connections: 2, ..ROOMY }).await;
    let mut busy = waiting(address, &mut comes).await;
    for _ in 0..10 {
        let mut client = Client::connect(address).await;
        client.send_request("GET /", "Connection: close\r\n").await;
        assert!(client.closed().await.ends_with("now"));
    }
    gate.add_permits(1);
    assert_eq!(busy.answer().await.body, "passed");
}

#[tokio::test]
async fn a_header_that_does_not_come_ends_the_connection() {
    let address = server(Router::new(), Limits { header_timeout: SHORT, ..ROOMY }).await;
    let silent = Client::connect(address).await;
    let mut slow = Client::connect(address).await;
    slow.send("GET / HTTP/1.1\r\nHost: te").await;
    let mut kept = Client::connect(address).await;
    assert_eq!(kept.ask("GET /").await.status, 404);
    for client in [silent, slow, kept] {
        assert_eq!(client.closed().await, "");
    }
}

#[tokio::test]
async fn a_long_header_is_refused() {
    let address = server(Router::new(), Limits { header_bytes: 1024, ..ROOMY }).await;
    let mut client = Client::connect(address).await;
    client.send_request("GET /", &format!("A: {}\r\n", "a".repeat(900))).await;
    assert_eq!(client.answer().await.status, 404);
    client.send_request("GET /", &format!("A: {}\r\n", "a".repeat(1024))).await;
    assert_eq!(client.answer().await.status, 431);
}

#[tokio::test]
async fn a_request_that_takes_too_long_is_answered() {
    let (router, _comes, _gate) = Gate::with_router();
    let router = router.route("/body", post(async |body: Bytes| body));
    let address = server(router, Limits { request_timeout: SHORT, ..ROOMY }).await;
    let slow_handler = Client::connect(address).await.ask("GET /wait").await;
    assert_eq!((slow_handler.status, slow_handler.body.as_str()), (503, "the request took too long; try again\n"));
    let mut slow_body = Client::connect(address).await;
    slow_body.send_request("POST /body", "Content-Length: 2\r\n").await;
    slow_body.send("a").await;
    assert_eq!(slow_body.answer().await.status, 503);
}

#[tokio::test]
async fn only_so_many_requests_are_handled_at_a_time_and_the_others_wait() {
    let (router, mut comes, gate) = Gate::with_router();
    let address = server(router, Limits { requests: 1, ..ROOMY }).await;
    let mut clients = vec![waiting(address, &mut comes).await];
    for _ in 0..2 {
        let mut client = Client::connect(address).await;
        client.send_request("GET /wait", "").await;
        clients.push(client);
    }
    for handled in 1..=3 {
        if handled > 1 {
            soon(comes.recv()).await.unwrap();
        }
        assert!(comes.try_recv().is_err(), "another request is handled beside number {handled}");
        gate.add_permits(1);
    }
    for client in &mut clients {
        assert_eq!(client.answer().await.body, "passed");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let router = Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
    let address = server(router, Limits { body_bytes: 16, ..ROOMY }).await;
    for (length, status) in [(16, 200), (17, 413)] {
        let body = "b".repeat(length);
        let mut client = Client::connect(address).await;
        client.send_request("POST /", &format!("Content-Length: {length}\r\n")).await;
        client.send(&body).await;
        assert_eq!(client.answer().await.status, status, "{length} bytes");
        let mut client = Client::connect(address).await;
        client.send_request("POST /", "Transfer-Encoding: chunked\r\n").await;
        client.send(&format!("8\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", &body[..8], length - 8, &body[8..])).await;
        assert_eq!(client.answer().await.status, status, "{length} bytes in chunks");
    }
}

#[tokio::test]
async fn a_limit_above_that_of_axum_holds_too() {
    const LENGTH: usize = 3 << 20;
    let router = Router::new().route("/", post(async |body: Bytes| body.len().to_string()));
    let address = server(router, Limits { body_bytes: LENGTH, ..ROOMY }).await;
    let mut client = Client::connect(address).await;
    client.send_request("POST /", &format!("Content-Length: {LENGTH}\r\n")).await;
    client.send(&"b".repeat(LENGTH)).await;
    assert_eq!(client.answer().await.body, LENGTH.to_string());
}

#[tokio::test]
async fn the_end_answers_what_is_being_handled_and_closes_the_rest() {
    let (router, mut comes, gate) = Gate::with_router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ends) = oneshot::channel::<()>();
    let served = Server { router, limits: ROOMY, tls: None };
    let serving = tokio::spawn(served.serve(listener, async { drop(ends.await) }));
    let mut busy = waiting(address, &mut comes).await;
    let mut idle = Client::connect(address).await;
    assert_eq!(idle.ask("GET /").await.body, "now");

    end.send(()).unwrap();
    assert_eq!(idle.closed().await, "");
    assert!(TcpStream::connect(address).await.is_err(), "it does not listen any more");
    assert!(!serving.is_finished());
    gate.add_permits(1);
    let answer = busy.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "passed"));
    assert!(answer.head.contains("\r\nconnection: close\r\n"), "{answer:?}");
    assert_eq!(busy.closed().await, "");
    soon(serving).await.unwrap();
}

#[tokio::test]
async fn the_end_does_not_wait_longer_than_allowed() {
    let (router, mut comes, _gate) = Gate::with_router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ends) = oneshot::channel::<()>();
    let served = Server { router, limits: Limits { shutdown_timeout: SHORT, ..ROOMY }, tls: None };
    let serving = tokio::spawn(served.serve(listener, async { drop(ends.await) }));
    let busy = waiting(address, &mut comes).await;
    end.send(()).unwrap();
    soon(serving).await.unwrap();
    assert_eq!(busy.closed().await, "");
}

#[tokio::test]
async fn a_panic_ends_its_connection_and_nothing_else() {
    async fn panics() -> &'static str {
        panic!("a test panics here")
    }
    let router = Router::new().route("/", get("now")).route("/panic", get(panics));
    let address = server(router, ROOMY).await;
    let mut other = Client::connect(address).await;
    assert_eq!(other.ask("GET /").await.body, "now");
    let mut client = Client::connect(address).await;
    client.send_request("GET /panic", "").await;
    assert_eq!(client.closed().await, "");
    assert_eq!(other.ask("GET /").await.body, "now");
}

#[tokio::test]
async fn tls_is_for_http_1_1_only_and_a_handshake_has_a_time() {
    let identity = Identity::new();
    let mounted = Mounted::new(&identity);
    let tls = Some(Tls::load(mounted.files()).unwrap());
    let limits = Limits { handshake_timeout: SHORT, ..ROOMY };
    let address = serve(Server { router: Router::new(), limits, tls: tls.clone() }).await;
    assert_eq!(Client::connect(address).await.closed().await, "");

    let address = serve(Server { router: Router::new(), limits: ROOMY, tls }).await;
    assert_eq!(handshake(address, &[&identity], b"http/1.1").await.unwrap(), identity.der());
    let refused = handshake(address, &[&identity], b"h2").await.unwrap_err().to_string();
    assert!(refused.contains("NoApplicationProtocol"), "{refused}");
    let mut plain = Client::connect(address).await;
    plain.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert!(!plain.closed_bytes().await.starts_with(b"HTTP/"));
}

#[tokio::test]
async fn a_handshake_that_is_not_done_does_not_delay_the_end() {
    let mounted = Mounted::new(&Identity::new());
    let tls = Some(Tls::load(mounted.files()).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ends) = oneshot::channel::<()>();
    let served = Server { router: Router::new(), limits: ROOMY, tls };
    let serving = tokio::spawn(served.serve(listener, async { drop(ends.await) }));
    let silent = Client::connect(address).await;
    end.send(()).unwrap();
    assert_eq!(silent.closed().await, "");
    soon(serving).await.unwrap();
}
