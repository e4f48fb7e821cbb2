//! A database with accounts, auth servers on it, and a client that signs assertions.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use opsadmin_operator::account::{Account, Settings};
use opsadmin_operator::database::WithLogins;
use serde_json::{Value, json};
use sha2::Sha256;
use std::path::PathBuf;
use std::time::Duration;
use url::form_urlencoded;

use crate::database_contract::fixture::{Fresh, create, keyring, owner, random, settings};
use crate::support::certificates::Authority;
use crate::support::http::{Answer, exchange};
use crate::support::opsadmin::{Opsadmin, RunningController};
use crate::support::ports::free_port;
use crate::support::wait::eventually;

pub const SOON: Duration = Duration::from_secs(30);
pub const ISSUER: &str = "https://auth.test";
pub const INTROSPECTION_TOKEN: &str = "introspection-0123456789abcdef-0123456789";
const JWT_BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A database with its keyring.
pub struct Scene {
    pub fresh: Fresh,
    pub database: WithLogins,
    folder: tempfile::TempDir,
}

/// A running auth server.
pub struct AuthServer {
    pub process: RunningController,
    pub public: String,
    pub internal: String,
}

/// A program of a partner with a key pair.
#[derive(Clone)]
pub struct Client {
    pub account: Account,
    pub api_key: String,
    pub secret_key: String,
}

/// Tokens that a client got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub expires_in: i64,
}

impl Scene {
    pub async fn sqlite() -> Self {
        Self::on(Fresh::sqlite()).await
    }

    pub async fn postgres(test_name: &str) -> Self {
        Self::on(Fresh::postgres(test_name).await).await
    }

    async fn on(fresh: Fresh) -> Self {
        let folder = tempfile::tempdir().unwrap();
        keyring().create(&folder.path().join("keyring")).unwrap();
        std::fs::write(folder.path().join("introspection"), INTROSPECTION_TOKEN).unwrap();
        let database = fresh.open_with_logins().await;
        Self { fresh, database, folder }
    }

    pub fn keyring_file(&self) -> PathBuf {
        self.folder.path().join("keyring")
    }

    pub fn introspection_file(&self) -> PathBuf {
        self.folder.path().join("introspection")
    }

    /// Creates an account whose settings are the defaults with these changes.
    pub async fn account(&self, name: &str, change: impl FnOnce(&mut Settings)) -> Client {
        let mut declared = settings(name);
        change(&mut declared);
        Client::of(create(self.database.accounts.as_ref(), owner(name), declared).await)
    }

    /// Starts an auth server with these additional arguments, and waits until it is ready.
    pub async fn serve(&self, more: &[&str]) -> AuthServer {
        self.serve_at(self.fresh.url(), more).await
    }

    /// As [`Self::serve`], with another URL of the database.
    pub async fn serve_at(&self, url: &str, more: &[&str]) -> AuthServer {
        let server = self.start_at(url, more).await;
        server.ready().await;
        server
    }

    /// Starts an auth server whose clock is wrong by this time, such as `+5s`, and waits until it is ready.
    pub async fn serve_with_clock(&self, offset: &str) -> AuthServer {
        let server =
            AuthServer::listening(self.call("127.0.0.1:0", ISSUER, self.fresh.url(), &[]).with_clock(offset).spawn())
                .await;
        server.ready().await;
        server
    }

    /// Starts an auth server, and waits until it listens.
    pub async fn start_at(&self, url: &str, more: &[&str]) -> AuthServer {
        AuthServer::listening(self.call("127.0.0.1:0", ISSUER, url, more).spawn()).await
    }

    /// Starts an auth server whose issuer is its own URL, and waits until it is ready.
    pub async fn serve_at_its_issuer(&self) -> AuthServer {
        self.serve_under("http", &[]).await
    }

    /// As [`Self::serve_at_its_issuer`], with TLS. Returns the certificate of the authority too.
    pub async fn serve_by_tls(&self) -> (AuthServer, String) {
        let authority = Authority::new();
        let pair = authority.server(&["127.0.0.1"]);
        let [certificate, key] = [("certificate", &pair.certificate), ("key", &pair.key)].map(|(name, pem)| {
            let file = self.folder.path().join(name);
            std::fs::write(&file, pem).unwrap();
            file.to_str().unwrap().to_owned()
        });
        let server = self.serve_under("https", &["--tls-certificate", &certificate, "--tls-key", &key]).await;
        (server, authority.certificate())
    }

    async fn serve_under(&self, scheme: &str, more: &[&str]) -> AuthServer {
        let address = format!("127.0.0.1:{}", free_port());
        let issuer = format!("{scheme}://{address}");
        let server = AuthServer::listening(self.call(&address, &issuer, self.fresh.url(), more).spawn()).await;
        server.ready().await;
        server
    }

    fn call(&self, listen: &str, issuer: &str, url: &str, more: &[&str]) -> Opsadmin {
        Opsadmin::new()
            .args(["auth-server", "--listen", listen, "--internal-listen", "127.0.0.1:0"])
            .args(["--issuer", issuer, "--database", url])
            .args(["--keyring".as_ref(), self.keyring_file().as_os_str()])
            .args(["--introspection-token-file".as_ref(), self.introspection_file().as_os_str()])
            .args(more)
            .env("RUST_LOG", "opsadmin_operator=trace")
    }
}

impl AuthServer {
    /// Waits until a started auth server listens.
    pub async fn listening(process: RunningController) -> Self {
        let [public, internal] = eventually("the auth server to listen", SOON, async || {
            let log = process.log();
            let line = log.lines().find(|line| line.contains("serving logins")).ok_or_else(|| log.clone())?;
            let field = |name: &str| {
                let (_, rest) = line.split_once(&format!(" {name}=")).ok_or_else(|| line.to_owned())?;
                Ok::<_, String>(rest.split(' ').next().unwrap_or_default().to_owned())
            };
            Ok::<_, String>([field("address")?, field("internal_address")?])
        })
        .await;
        Self { process, public, internal }
    }

    /// Waits until the database has answered this server.
    pub async fn ready(&self) {
        eventually("the auth server to be ready", SOON, async || {
            let answer = self.get_internal("/readyz", "").await;
            if answer.status == 200 { Ok(()) } else { Err(answer.body) }
        })
        .await;
    }

    /// Posts a form to the public listener.
    pub async fn post(&self, path: &str, form: &[(&str, &str)]) -> Answer {
        self.post_with(path, "", &encoded(form)).await
    }

    /// Posts a body to the public listener, with these additional header lines.
    pub async fn post_with(&self, path: &str, headers: &str, body: &str) -> Answer {
        exchange(&self.public, &post_request(path, headers, body)).await.unwrap()
    }

    /// Logs in or gets a refusal.
    pub async fn token(&self, assertion: &str) -> Answer {
        self.post("/token", &login_form(assertion)).await
    }

    pub async fn log_in(&self, client: &Client) -> Tokens {
        tokens(&self.token(&client.assertion()).await)
    }

    /// Asks for the next tokens.
    pub async fn refresh(&self, client: &Client, refresh: &str) -> Answer {
        let assertion = client.assertion();
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("client_assertion_type", JWT_BEARER),
            ("client_assertion", &assertion),
        ];
        self.post("/token", &form).await
    }

    pub async fn revoke(&self, client: &Client, token: &str) -> Answer {
        let assertion = client.assertion();
        let form = [("token", token), ("client_assertion_type", JWT_BEARER), ("client_assertion", &assertion)];
        self.post("/revoke", &form).await
    }

    /// Asks as nginx does, for a client at 192.0.2.1.
    pub async fn authorize(&self, token: &str, target: &str) -> Answer {
        self.authorize_from(token, target, "192.0.2.1").await
    }

    pub async fn authorize_from(&self, token: &str, target: &str, address: &str) -> Answer {
        let headers = format!(
            "Authorization: Bearer {token}\r\nX-Original-Method: GET\r\nX-Original-URI: {target}\r\nX-Real-IP: {address}\r\n"
        );
        self.get_internal("/authz/nginx", &headers).await
    }

    /// Waits until a request for the token has this status.
    pub async fn eventually(&self, what: &str, token: &str, status: u16) {
        eventually(what, SOON, async || {
            let answer = self.authorize(token, "/my-account").await;
            if answer.status == status { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    }

    /// Gets a path of the internal listener, with these header lines.
    pub async fn get_internal(&self, path: &str, headers: &str) -> Answer {
        exchange(&self.internal, &format!("GET {path} HTTP/1.0\r\nHost: test\r\n{headers}\r\n")).await.unwrap()
    }

    pub async fn introspect(&self, authorization: &str, form: &[(&str, &str)]) -> Answer {
        let request = post_request("/introspect", authorization, &encoded(form));
        exchange(&self.internal, &request).await.unwrap()
    }

    /// Returns the value of a series.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let metrics = self.get_internal("/metrics", "").await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ').map(str::to_owned));
        line.map(|value| value.parse().unwrap())
    }

    /// Waits until the log has a line with all of these texts.
    pub async fn logged(&self, texts: &[&str]) {
        eventually("the line in the log", SOON, async || {
            let log = self.process.log();
            let is_found = log.lines().any(|line| texts.iter().all(|text| line.contains(text)));
            if is_found { Ok(()) } else { Err(log) }
        })
        .await;
    }
}

impl Client {
    pub fn of(account: Account) -> Self {
        let pair = &account.keys[0];
        let secret_key = keyring().open(account.id, pair.id, &pair.sealed).unwrap().expose().to_owned();
        Self { api_key: pair.api_key.as_str().to_owned(), secret_key, account }
    }

    /// Returns a new assertion as clients make it.
    pub fn assertion(&self) -> String {
        self.sign(&self.claims())
    }

    /// Returns the claims of a new assertion.
    pub fn claims(&self) -> Value {
        let now = Timestamp::now().as_second();
        let id = format!("{:032x}", u128::from_le_bytes(random()));
        json!({ "iss": self.api_key, "sub": self.api_key, "aud": ISSUER, "iat": now, "exp": now + 60, "jti": id })
    }

    pub fn sign(&self, claims: &Value) -> String {
        sign(&self.secret_key, &json!({ "alg": "HS256", "typ": "JWT" }), claims)
    }
}

/// Signs an assertion with this key.
pub fn sign(secret_key: &str, header: &Value, claims: &Value) -> String {
    let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
    let signed = format!("{header}.{claims}");
    let mac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes()).unwrap().chain_update(&signed);
    format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

pub fn login_form(assertion: &str) -> [(&str, &str); 3] {
    [("grant_type", "client_credentials"), ("client_assertion_type", JWT_BEARER), ("client_assertion", assertion)]
}

pub fn encoded(form: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
}

fn post_request(path: &str, headers: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.0\r\nHost: test\r\n{headers}Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Returns the tokens of an answer that has some.
#[track_caller]
pub fn tokens(answer: &Answer) -> Tokens {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.headers.contains("cache-control: no-store"), "{answer:?}");
    let body: Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(body["token_type"], "Bearer");
    Tokens {
        access: body["access_token"].as_str().unwrap().to_owned(),
        refresh: body["refresh_token"].as_str().map(str::to_owned),
        expires_in: body["expires_in"].as_i64().unwrap(),
    }
}
