//! Calls the OpsAdmin API with ureq. The assertion is made here, with the crates hmac, sha2 and base64.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{fs, io};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rand::{TryRng as _, rngs::SysRng};
use serde_json::{Value, json};
use sha2::Sha256;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Calls the API, and logs in when it must.
pub struct OpsAdmin {
    /// `ureq::Agent::config_builder().http_status_as_error(false).build().into()`
    pub agent: ureq::Agent,
    pub issuer: String,
    pub api: String,
    /// The folder of the mounted Secret.
    pub keys: PathBuf,
    /// A token that ends within this time is replaced.
    pub leeway: Duration,
    pub login: Option<Login>,
}

pub struct Login {
    api_key: String,
    secret_key: String,
    access_token: String,
    refresh_token: Option<String>,
    end: Instant,
}

impl OpsAdmin {
    /// Returns the API's answer. If the login is refused or has ended, reads the keys and logs in once more.
    pub fn get(&mut self, path: &str) -> Result<(u16, String)> {
        match self.call(path) {
            Ok((status, body)) if status != 401 => Ok((status, body)),
            _ => {
                self.login = None;
                self.call(path)
            }
        }
    }

    fn call(&mut self, path: &str) -> Result<(u16, String)> {
        let login = match self.login.take() {
            Some(login) if Instant::now() + self.leeway < login.end => login,
            Some(Login { api_key, secret_key, refresh_token: Some(token), .. }) => {
                self.tokens(api_key, secret_key, &[("grant_type", "refresh_token"), ("refresh_token", &token)])?
            }
            _ => {
                let [api_key, secret_key] =
                    ["api-key", "secret-key"].map(|name| fs::read_to_string(self.keys.join(name)));
                self.tokens(api_key?, secret_key?, &[("grant_type", "client_credentials")])?
            }
        };
        let call = self.agent.get(format!("{}{path}", self.api));
        let mut answer = call.header("Authorization", format!("Bearer {}", login.access_token)).call()?;
        self.login = Some(login);
        Ok((answer.status().as_u16(), answer.body_mut().read_to_string()?))
    }

    fn tokens(&self, api_key: String, secret_key: String, grant: &[(&str, &str)]) -> Result<Login> {
        let asked = Instant::now();
        let assertion = self.assertion(&api_key, &secret_key)?;
        let proof = [
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &assertion),
        ];
        let form = grant.iter().copied().chain(proof);
        let mut answer = self.agent.post(format!("{}/token", self.issuer)).send_form(form)?;
        let body = answer.body_mut().read_to_string()?;
        let tokens: Value = serde_json::from_str(&body)?;
        let (Some(token), Some(lifetime)) = (tokens["access_token"].as_str(), tokens["expires_in"].as_u64()) else {
            return Err(io::Error::other(format!("the login was refused: {body}")).into());
        };
        Ok(Login {
            access_token: token.to_owned(),
            refresh_token: tokens["refresh_token"].as_str().map(str::to_owned),
            end: asked + Duration::from_secs(lifetime),
            api_key,
            secret_key,
        })
    }

    fn assertion(&self, api_key: &str, secret_key: &str) -> Result<String> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let mut id = [0; 16];
        SysRng.try_fill_bytes(&mut id)?;
        let id = BASE64_URL_SAFE_NO_PAD.encode(id);
        let claims = json!({
            "iss": api_key, "sub": api_key, "aud": self.issuer, "iat": now, "exp": now + 60, "jti": id,
        });
        let header = json!({ "alg": "HS256", "typ": "JWT" });
        let [header, claims] = [header, claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let mac = Hmac::<Sha256>::new_from_slice(secret_key.as_bytes())?.chain_update(&signed);
        Ok(format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())))
    }
}
