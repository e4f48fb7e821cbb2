//! What an auth server says and stores, for the test of secrecy.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::json;
use url::form_urlencoded;

use super::{Said, Secrets};
use crate::controller::scene::SOON;
use crate::login::scene::{AuthServer, INTROSPECTION_TOKEN, ISSUER, login_form, sign, tokens};
use crate::support::opsadmin::Opsadmin;

/// Does with an auth server what partners and proxies do, rightly and wrongly.
pub async fn log_in(
    said: &mut Said,
    secrets: &mut Secrets,
    partner: &BTreeMap<String, String>,
    url: &str,
    keyring: &Path,
) {
    let introspection = keyring.with_extension("introspection");
    fs::write(&introspection, INTROSPECTION_TOKEN).expect("it can be written");
    secrets.add("the token for /introspect", INTROSPECTION_TOKEN);
    let call = Opsadmin::new().args(["auth-server", "--listen", "127.0.0.1:0", "--internal-listen", "127.0.0.1:0"]);
    let call = call.args(["--issuer", ISSUER, "--keyring"]).args([keyring]);
    let call = call.args(["--introspection-token-file"]).args([introspection]);
    let call = call.args(["--log-filter-file"]).args([keyring.with_extension("filter")]);
    let call = call.env("OPSADMIN_DATABASE_URL", url).env("RUST_LOG", "trace");
    let server = AuthServer::listening(call.spawn()).await;
    server.ready().await;

    let (api_key, secret_key) = (&partner["OPSADMIN_API_KEY"], &partner["OPSADMIN_SECRET_KEY"]);
    let mut number = 0;
    let mut assertion = |secrets: &mut Secrets, with: &str| {
        number += 1;
        let now = jiff::Timestamp::now().as_second();
        let claims = json!({ "iss": api_key, "sub": api_key, "aud": ISSUER, "iat": now, "exp": now + 60,
            "jti": number.to_string() });
        let signed = sign(with, &json!({ "alg": "HS256" }), &claims);
        let (_, signature) = signed.rsplit_once('.').expect("it is signed");
        secrets.0.push((format!("the signature {number}"), signature.to_owned()));
        signed
    };
    let first = tokens(&server.token(&assertion(secrets, secret_key)).await);
    let refresh = first.refresh.clone().expect("the account refreshes");
    let refreshing = |assertion: String| {
        let grant =
            [("grant_type".to_owned(), "refresh_token".to_owned()), ("refresh_token".to_owned(), refresh.clone())];
        let proof = login_form(&assertion).map(|(name, value)| (name.to_owned(), value.to_owned()));
        let form = [&grant[..], &proof[1..]].concat();
        form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish()
    };
    let second = tokens(&server.post_with("/token", "", &refreshing(assertion(secrets, secret_key))).await);
    for (what, issued) in [("first", &first), ("second", &second)] {
        secrets.add(&format!("the {what} access token"), &issued.access);
        secrets.add(&format!("the {what} refresh token"), issued.refresh.as_deref().expect("one each"));
    }
    let caller = format!("Authorization: Bearer {INTROSPECTION_TOKEN}\r\n");
    for (what, status, answer) in [
        (
            "a wrong signature",
            401,
            server.token(&assertion(secrets, &secret_key.replace("opsa_sk_", "opsa_sk-"))).await,
        ),
        (
            "a secret in the form",
            401,
            server.post("/token", &[("client_id", api_key), ("client_secret", secret_key)]).await,
        ),
        ("a question of a proxy", 403, server.authorize(&second.access, "/plans").await),
        ("a question about a token", 200, server.introspect(&caller, &[("token", &second.access)]).await),
        ("the metrics of the auth server", 200, server.get_internal("/metrics", "").await),
    ] {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        said.add(what, format!("{}{}", answer.headers, answer.body));
    }
    said.command(&["logins", "--database", url], true).await;
    "opsadmin logins".clone_into(&mut said.0.last_mut().expect("it was added").0);
    let (code, output) = server.process.terminate(SOON).await;
    assert_eq!(code, 0, "{output}");
    // Its audit names API keys, which are public.
    said.add("the output of the auth server", output);
}
