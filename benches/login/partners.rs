//! Partners with their keys, and what they send.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::Sha256;
use url::form_urlencoded;

use super::world::ISSUER;

/// How long the assertions are good, in seconds. They are signed before the time is measured.
const GOOD_FOR: i64 = 60;

/// A partner with a key pair.
pub struct Partner {
    pub api_key: String,
    secret_key: String,
}

impl Partner {
    /// Reads the Secrets that `opsadmin apply` wrote into this folder.
    pub fn read_all(folder: &Path) -> Vec<Self> {
        let files = walk(folder);
        files.iter().map(|file| Self::read(&fs::read_to_string(file).expect("the Secret is a file"))).collect()
    }

    fn read(secret: &str) -> Self {
        let field = |name: &str| {
            let mut lines = secret.lines().map(str::trim);
            let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            let value = value.unwrap_or_else(|| panic!("the Secret has no {name}"));
            let decoded = BASE64_STANDARD.decode(value.trim_matches('"')).expect("the value is base64");
            String::from_utf8(decoded).expect("a key is text")
        };
        Self { api_key: field("OPSADMIN_API_KEY"), secret_key: field("OPSADMIN_SECRET_KEY") }
    }

    /// Returns the request of a login, with an assertion that has this number.
    pub fn login(&self, number: usize) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": self.api_key, "sub": self.api_key, "aud": ISSUER, "iat": now, "exp": now + GOOD_FOR,
            "jti": format!("{now}-{number}"),
        });
        let [header, claims] = [json!({ "alg": "HS256", "typ": "JWT" }), claims]
            .map(|part: Value| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mac = Hmac::<Sha256>::new_from_slice(self.secret_key.as_bytes()).expect("any key fits");
        let mac = mac.chain_update(&signed).finalize().into_bytes();
        let form = form_urlencoded::Serializer::new(String::new())
            .append_pair("grant_type", "client_credentials")
            .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            .append_pair("client_assertion", &format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac)))
            .finish();
        format!(
            "POST /token HTTP/1.1\r\nHost: auth.test\r\nX-Forwarded-For: 192.0.2.7\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        )
    }
}

/// Returns what nginx asks about a request with this token.
pub fn question(token: &str) -> String {
    format!(
        "GET /authz/nginx HTTP/1.1\r\nHost: auth.test\r\nAuthorization: Bearer {token}\r\nX-Original-Method: GET\r\n\
         X-Original-URI: /plans/today?page=2\r\nX-Real-IP: 192.0.2.7\r\n\r\n"
    )
}

/// Returns the access token of an answer of `/token`.
pub fn access_token(body: &str) -> String {
    let body: Value = serde_json::from_str(body).expect("the answer is JSON");
    body["access_token"].as_str().expect("it has a token").to_owned()
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}
