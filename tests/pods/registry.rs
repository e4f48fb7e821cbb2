//! A registry from which the node pulls every image that a manifest names.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fs;
use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

use crate::images::{Blobs, MANIFEST};

/// Images by the name of their repository. The tag is ignored.
pub struct Registry {
    blobs: Blobs,
    manifests: HashMap<String, String>,
}

impl Registry {
    /// Creates a registry with the operator's image, with PostgreSQL, and with an idle program for each image of the
    /// examples' Deployments.
    pub async fn filled() -> Self {
        let blobs = Blobs::new();
        let (idle, with_curl, postgresql) = tokio::join!(blobs.idle(), blobs.with_curl(), blobs.postgresql());
        let mut manifests =
            HashMap::from([("opsadmin-operator".to_owned(), blobs.operator()), ("postgresql".to_owned(), postgresql)]);
        for name in ["halden/app", "kestrel/billing", "pause"] {
            manifests.insert(name.to_owned(), idle.clone());
        }
        manifests.insert("linden/compare".to_owned(), with_curl);
        Self { blobs, manifests }
    }

    /// Serves the registry as long as the tests run. Returns the port on the loopback interface.
    pub async fn serve(self) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let registry = Arc::new(self);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("the listener works");
                let registry = Arc::clone(&registry);
                let answer = service_fn(move |request: Request<Incoming>| {
                    let answer = registry.answer(request.method(), request.uri().path());
                    async move { Ok::<_, Infallible>(answer) }
                });
                tokio::spawn(async move {
                    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
                        eprintln!("the registry: {error}");
                    }
                });
            }
        });
        port
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let Some((kind, file)) = self.find(path) else {
            let missing = Response::builder().status(StatusCode::NOT_FOUND).body(Full::default());
            return missing.expect("it is well-formed");
        };
        let size = fs::metadata(&file).expect("a blob is there").len();
        let body = if method == Method::HEAD { Vec::new() } else { fs::read(&file).expect("a blob can be read") };
        let digest = file.file_name().and_then(|name| name.to_str()).expect("a digest").to_owned();
        let answer = Response::builder().header(CONTENT_TYPE, kind).header(CONTENT_LENGTH, size);
        let answer = answer.header("Docker-Content-Digest", digest).body(Full::from(body));
        answer.expect("it is well-formed")
    }

    /// Returns the media type and the file for a path of the registry.
    fn find(&self, path: &str) -> Option<(&str, std::path::PathBuf)> {
        let (rest, reference) = path.strip_prefix("/v2/")?.rsplit_once('/')?;
        let (repository, kind) = rest.rsplit_once('/')?;
        let (kind, digest) = match kind {
            "blobs" => ("application/octet-stream", reference),
            _ if reference.starts_with("sha256:") => (MANIFEST, reference),
            _ => (MANIFEST, self.manifests.get(repository)?.as_str()),
        };
        Some((kind, self.blobs.file(digest))).filter(|(_, file)| file.is_file())
    }
}
