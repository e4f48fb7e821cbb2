//! A client for tests, which can stop anywhere in a request, and the certificates of a server.

use super::{Limits, Server, Tls, TlsFiles};
use axum::Router;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A time that no test waits for.
const NEVER: Duration = Duration::from_hours(1);

/// How long a test waits for a condition.
const SOON: Duration = Duration::from_mins(1);

/// Limits that nothing reaches.
pub const ROOMY: Limits = Limits {
    connections: 1000,
    requests: 1000,
    header_bytes: 65536,
    body_bytes: 65536,
    handshake_timeout: NEVER,
    header_timeout: NEVER,
    request_timeout: NEVER,
    shutdown_timeout: NEVER,
};

/// Waits for something that must come.
pub async fn soon<T>(awaited: impl Future<Output = T>) -> T {
    timeout(SOON, awaited).await.expect("it comes in time")
}

/// Serves this without TLS until the test ends.
pub async fn server(router: Router, limits: Limits) -> SocketAddr {
    serve(Server { router, limits, tls: None }).await
}

/// Serves nothing, by TLS, until the test ends.
pub async fn tls_server(tls: &Arc<Tls>) -> SocketAddr {
    serve(Server { router: Router::new(), limits: ROOMY, tls: Some(Arc::clone(tls)) }).await
}

/// Serves until the test ends.
pub async fn serve(server: Server) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(server.serve(listener, std::future::pending()));
    address
}

/// A connection to a server.
pub struct Client(TcpStream);

/// A response.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// The status line and the headers.
    pub head: String,
    pub body: String,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).await.unwrap();
    }

    /// Sends the complete header of a request, with these additional lines.
    pub async fn send_request(&mut self, line: &str, more: &str) {
        self.send(&format!("{line} HTTP/1.1\r\nHost: test\r\n{more}\r\n")).await;
    }

    /// Sends a request without a body, and reads its answer.
    pub async fn ask(&mut self, line: &str) -> Answer {
        self.send_request(line, "").await;
        self.answer().await
    }

    /// Reads an answer that says how long it is.
    pub async fn answer(&mut self) -> Answer {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(self.0.read_u8()).await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
        let mut body = vec![0; length.parse().unwrap()];
        soon(self.0.read_exact(&mut body)).await.unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head, body: String::from_utf8(body).unwrap() }
    }

    /// Waits until the server closes the connection, and returns the text that it has sent before.
    pub async fn closed(self) -> String {
        String::from_utf8(self.closed_bytes().await).unwrap()
    }

    /// Waits until the server closes the connection, and returns what it has sent before.
    pub async fn closed_bytes(mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        match soon(self.0.read_to_end(&mut sent)).await {
            Ok(_) => {}
            // The server had not read everything.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("{error}"),
        }
        sent
    }
}

/// A certificate and its private key, in PEM.
pub struct Identity {
    pub certificate: String,
    pub key: String,
    der: CertificateDer<'static>,
}

impl Identity {
    /// Creates a self-signed certificate for `localhost`.
    pub fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = made.signing_key.serialize_pem();
        Self { certificate: made.cert.pem(), key, der: made.cert.der().clone() }
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.der.clone()
    }
}

/// The folder of a mounted Secret: the files are behind a symbolic link, which changes.
pub struct Mounted(TempDir);

impl Mounted {
    pub fn new(identity: &Identity) -> Self {
        let mounted = Self(tempfile::tempdir().unwrap());
        mounted.replace(&identity.certificate, &identity.key);
        for file in ["tls.crt", "tls.key"] {
            symlink(PathBuf::from("..data").join(file), mounted.0.path().join(file)).unwrap();
        }
        mounted
    }

    pub fn files(&self) -> TlsFiles {
        TlsFiles { certificate: self.0.path().join("tls.crt"), key: self.0.path().join("tls.key") }
    }

    /// Replaces both files in one step, as the kubelet does.
    pub fn replace(&self, certificate: &str, key: &str) {
        let folder = tempfile::Builder::new().prefix("..version").tempdir_in(self.0.path()).unwrap().keep();
        std::fs::write(folder.join("tls.crt"), certificate).unwrap();
        std::fs::write(folder.join("tls.key"), key).unwrap();
        let (link, new_link) = (self.0.path().join("..data"), self.0.path().join("..data_tmp"));
        symlink(folder.file_name().unwrap(), &new_link).unwrap();
        std::fs::rename(new_link, link).unwrap();
    }
}

/// Makes a TLS handshake for this protocol, and returns the server's certificate. The client trusts these certificates.
pub async fn handshake(
    address: SocketAddr,
    trusted: &[&Identity],
    protocol: &[u8],
) -> io::Result<CertificateDer<'static>> {
    let mut roots = RootCertStore::empty();
    for identity in trusted {
        roots.add(identity.der()).unwrap();
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = soon(TlsConnector::from(Arc::new(config)).connect(name, stream)).await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await?;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    let (_, session) = stream.get_ref();
    Ok(session.peer_certificates().unwrap()[0].clone().into_owned())
}
