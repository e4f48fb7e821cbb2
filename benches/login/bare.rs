//! What the auth server is compared with: a handler that does nothing, on the same HTTP stack with the same limits, in a
//! process of its own.

use std::env;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::any;
use http::StatusCode;
use opsadmin_operator::http::{Limits, Server};
use tokio::net::TcpListener;

use super::support::process::{Folder, Supervised};
use super::support::wait::eventually;

/// The argument with which this program is the bare server.
pub const ARGUMENT: &str = "bare-server";

const LISTENING: &str = "listening on ";

/// The limits of the auth server's internal listener.
const LIMITS: Limits = Limits {
    connections: 4096,
    requests: 2048,
    header_bytes: 64 * 1024,
    body_bytes: 16 * 1024,
    handshake_timeout: Duration::from_secs(5),
    header_timeout: Duration::from_secs(90),
    request_timeout: Duration::from_secs(10),
    shutdown_timeout: Duration::from_secs(10),
};

/// Answers each request with 204 until the process is killed.
pub async fn serve() -> ExitCode {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    println!("{LISTENING}{}", listener.local_addr().expect("it has an address"));
    let router = Router::new().route("/authz/nginx", any(async || StatusCode::NO_CONTENT));
    Server { router, limits: LIMITS, tls: None }.serve(listener, std::future::pending()).await;
    ExitCode::SUCCESS
}

/// The running bare server. It is killed when this value is dropped.
pub struct BareServer {
    pub address: String,
    _process: Supervised,
}

impl BareServer {
    /// The name of its process: the kernel keeps 15 bytes of it.
    pub fn process_name() -> String {
        let program = env::current_exe().expect("this program has a path");
        let name = program.file_name().and_then(|name| name.to_str()).expect("its name is text").to_owned();
        name.chars().take(15).collect()
    }

    pub async fn start() -> Self {
        let folder: Arc<Folder> = Folder::new("bare");
        let mut command = Command::new(env::current_exe().expect("this program has a path"));
        command.arg(ARGUMENT);
        let process = Supervised::spawn(&folder, "bare", "KILL", &command);
        let address = eventually("the bare server to listen", Duration::from_secs(30), async || {
            let log = process.log();
            let line = log.lines().find_map(|line| line.strip_prefix(LISTENING)).map(str::to_owned);
            line.ok_or(log)
        })
        .await;
        Self { address, _process: process }
    }
}
