//! The `OpenAPI` description of the auth server and the real server say the same: each answer that it describes is given
//! and has the described form, and each route is described.

mod document;

use std::collections::{BTreeMap, BTreeSet};

use opsadmin_operator::account::Role;
use serde_json::{Map, Value, json};
use url::form_urlencoded;

use self::document::{Document, METHODS, fields};
use super::scene::{AuthServer, Client, INTROSPECTION_TOKEN, Scene, encoded, login_form};
use crate::guides::page;
use crate::support::http::{Answer, exchange};

/// Where no database answers.
const GONE: &str = "postgres://opsadmin@127.0.0.1:1/none";
const HOPS: &str = "X-Forwarded-For: 192.0.2.1\r\n";

/// The description, and which of its answers were given.
struct Described {
    document: Document,
    given: BTreeSet<String>,
}

impl Described {
    /// Sends a request for an operation, and checks that the description has its answer.
    async fn answers(&mut self, status: u16, at: (&AuthServer, &str, &str), path: &str, headers: &str, form: &str) {
        let (server, method, operation_path) = at;
        let operation = &self.document.0["paths"][operation_path][method];
        let is_public = operation["tags"] == json!(["public"]);
        let address = if is_public { &server.public } else { &server.internal };
        let verb = method.to_uppercase();
        let kind = if form.is_empty() { "" } else { "Content-Type: application/x-www-form-urlencoded\r\n" };
        let length = form.len();
        let request =
            format!("{verb} {path} HTTP/1.0\r\nHost: test\r\n{headers}{kind}Content-Length: {length}\r\n\r\n{form}");
        let answer = exchange(address, &request).await.unwrap();
        let place = format!("{method} {operation_path} {status}");
        assert_eq!(answer.status, status, "{place}: {answer:?}");
        let described = &operation["responses"][status.to_string()];
        assert!(!described.is_null(), "{place} is not described");
        self.check_answer(&place, self.document.resolved(described), &answer, method);
        if status == 200 && !form.is_empty() {
            let schema = &operation["requestBody"]["content"]["application/x-www-form-urlencoded"]["schema"];
            let schema = self.document.resolved(schema);
            let sent: Map<String, Value> = form_urlencoded::parse(form.as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
                .collect();
            assert!(sent.keys().all(|name| !schema["properties"][name].is_null()), "{place}: {sent:?}");
            assert_eq!(self.document.violation(schema, &sent.into()), None, "{place}");
        }
        self.given.insert(place);
    }

    fn check_answer(&self, place: &str, described: &Value, answer: &Answer, method: &str) {
        let sent: BTreeMap<&str, &str> =
            answer.headers.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
        for (name, header) in described["headers"].as_object().into_iter().flatten() {
            let header = self.document.resolved(header);
            match sent.get(name.to_lowercase().as_str()) {
                Some(value) => assert_eq!(self.document.violation(&header["schema"], &json!(value)), None, "{place}"),
                None => assert_ne!(header["required"], true, "{place} lacks {name}: {answer:?}"),
            }
        }
        let Some(content) = described["content"].as_object() else {
            assert_eq!((answer.body.as_str(), sent.get("content-type")), ("", None), "{place}: {answer:?}");
            return;
        };
        let kind = sent.get("content-type").and_then(|kind| kind.split(';').next()).unwrap_or_default();
        let media = content.get(kind).unwrap_or_else(|| panic!("{place} has the type {kind}: {answer:?}"));
        if method != "head" {
            let text = || answer.body.clone().into();
            let body = if kind == "application/json" { serde_json::from_str(&answer.body).unwrap() } else { text() };
            assert_eq!(self.document.violation(&media["schema"], &body), None, "{place}: {answer:?}");
        }
    }

    /// Asks as each kind of proxy. `bearer` is the header with the token.
    async fn authorize(&mut self, status: u16, server: &AuthServer, bearer: &str, path: &str) {
        let asked = format!("{bearer}X-Original-Method: GET\r\nX-Original-URI: {path}\r\nX-Real-IP: 192.0.2.1\r\n");
        self.answers(status, (server, "get", "/authz/nginx"), "/authz/nginx", &asked, "").await;
        let asked = format!("{bearer}X-Forwarded-Method: GET\r\nX-Forwarded-Uri: {path}\r\n{HOPS}");
        self.answers(status, (server, "get", "/authz/forward"), "/authz/forward", &asked, "").await;
        for method in METHODS.into_iter().filter(|method| *method != "trace") {
            let at = (server, method, "/authz/envoy/{target}");
            self.answers(status, at, &format!("/authz/envoy{path}"), &format!("{bearer}{HOPS}"), "").await;
        }
    }

    /// Sends an assertion to both paths that take one.
    async fn prove(&mut self, status: u16, server: &AuthServer, [login, revocation]: [&str; 2]) {
        self.answers(status, (server, "post", "/token"), "/token", "", &encoded(&login_form(login))).await;
        let form = [&[("token", "none")], &login_form(revocation)[1..]].concat();
        self.answers(status, (server, "post", "/revoke"), "/revoke", "", &encoded(&form)).await;
    }

    async fn introspect(&mut self, status: u16, server: &AuthServer, secret: &str, form: &[(&str, &str)]) {
        let header = format!("Authorization: Bearer {secret}\r\n");
        self.answers(status, (server, "post", "/introspect"), "/introspect", &header, &encoded(form)).await;
    }

    async fn get(&mut self, status: u16, server: &AuthServer, path: &str) {
        self.answers(status, (server, "get", path), path, "", "").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_gives_each_described_answer() {
    let scene = Scene::sqlite().await;
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let refreshing = scene.account("refreshing", |account| account.use_refresh_token = true).await;
    let server = scene.serve(&[]).await;
    let mut described = Described { document: Document::read(), given: BTreeSet::new() };

    described.get(200, &server, "/.well-known/oauth-authorization-server").await;
    described.get(200, &server, "/metrics").await;
    let openmetrics = "Accept: application/openmetrics-text\r\n";
    described.answers(200, (&server, "get", "/metrics"), "/metrics", openmetrics, "").await;
    described.get(200, &server, "/livez").await;
    described.get(200, &server, "/readyz").await;

    described.prove(200, &server, [&client.assertion(), &client.assertion()]).await;
    described.prove(200, &server, [&refreshing.assertion(), &refreshing.assertion()]).await;
    refreshed(&mut described, &server, &refreshing).await;
    described.prove(401, &server, ["wrong", "wrong"]).await;
    described.answers(400, (&server, "post", "/token"), "/token", "", "grant_type=password").await;
    described.answers(400, (&server, "post", "/revoke"), "/revoke", "", "token=a&token=b").await;

    let token = server.log_in(&client).await.access;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    described.authorize(200, &server, &bearer, "/my-account").await;
    described.authorize(401, &server, "", "/my-account").await;
    described.authorize(403, &server, &bearer, "/plans").await;
    for form in
        [&[("token", token.as_str())][..], &[("token", token.as_str()), ("address", "192.0.2.1")], &[("token", "no")]]
    {
        described.introspect(200, &server, INTROSPECTION_TOKEN, form).await;
    }
    described.introspect(400, &server, INTROSPECTION_TOKEN, &[("address", "192.0.2.1")]).await;
    described.introspect(401, &server, "another", &[("token", &token)]).await;

    let unlisted = scene.serve(&["--internal-networks", "192.0.2.0/24"]).await;
    described.authorize(403, &unlisted, &bearer, "/my-account").await;
    described.introspect(403, &unlisted, INTROSPECTION_TOKEN, &[("token", &token)]).await;
    described.get(403, &unlisted, "/metrics").await;

    let limited = scene.serve(&["--tries-per-minute", "1"]).await;
    limited.log_in(&client).await;
    described.prove(429, &limited, [&client.assertion(), &client.assertion()]).await;

    let cut_off = scene.start_at(GONE, &[]).await;
    described.prove(503, &cut_off, [&client.assertion(), &client.assertion()]).await;
    described.authorize(503, &cut_off, &bearer, "/my-account").await;
    described.introspect(503, &cut_off, INTROSPECTION_TOKEN, &[("token", &token)]).await;
    described.get(503, &cut_off, "/readyz").await;

    let expected: BTreeSet<String> = operations(&described.document)
        .flat_map(|(method, path, operation)| {
            fields(&operation["responses"]).keys().map(move |status| format!("{method} {path} {status}"))
        })
        .collect();
    assert_eq!(described.given, expected);
}

/// Refreshes, and presents the old refresh token once too often.
async fn refreshed(described: &mut Described, server: &AuthServer, client: &Client) {
    let first = server.log_in(client).await.refresh.unwrap();
    let form = |refresh: &str, assertion: &str| {
        let grant = [("grant_type", "refresh_token"), ("refresh_token", refresh)];
        encoded(&[&grant[..], &login_form(assertion)[1..]].concat())
    };
    let at = (server, "post", "/token");
    described.answers(200, at, "/token", "", &form(&first, &client.assertion())).await;
    described.answers(400, at, "/token", "", &form("opsa_rt_wrong", &client.assertion())).await;
}

fn operations(document: &Document) -> impl Iterator<Item = (&str, &str, &Value)> {
    fields(&document.0["paths"]).iter().flat_map(|(path, item)| {
        let methods = fields(item).iter().filter(|(name, _)| METHODS.contains(&name.as_str()));
        methods.map(|(method, operation)| (method.as_str(), path.as_str(), operation))
    })
}

/// Reads the routes in the code of a listener: the path, and the functions of axum that name its methods.
fn routes(file: &str) -> Vec<(String, String)> {
    let code = page(file);
    let routes = code.split(".route(").skip(1).map(|route| {
        let (path, handler) = route.split_once(", ").expect("a path and a handler");
        let path = match path.strip_prefix('"') {
            Some(path) => path.trim_end_matches('"').to_owned(),
            None if path == "&service.issuer.metadata_path()" => "/.well-known/oauth-authorization-server".to_owned(),
            None => panic!("{file} has a route that this test does not know: {path}"),
        };
        (path, handler.split('(').next().expect("a function").to_owned())
    });
    routes.collect()
}

#[test]
fn each_route_of_the_server_is_described() {
    let document = Document::read();
    let mut described: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (method, path, _) in operations(&document) {
        described.entry(path).or_default().insert(method);
    }
    let (public, internal) = (routes("src/auth_server/public.rs"), routes("src/auth_server/internal.rs"));
    for (path, handler) in public.iter().chain(&internal) {
        // Envoy asks with the path of the request, which may be empty.
        let path = if path.starts_with("/authz/envoy/") { "/authz/envoy/{target}" } else { path };
        let methods = described.get(path).unwrap_or_else(|| panic!("{path} is not described"));
        match handler.as_str() {
            "any" => assert!(methods.contains("get"), "{path}: {methods:?}"),
            only => assert_eq!(*methods, BTreeSet::from([only]), "{path}"),
        }
    }
    let known = described.keys().filter(|path| {
        let of =
            |routes: &[(String, String)]| routes.iter().any(|(route, _)| route.replace("*target", "target") == **path);
        of(&public) || of(&internal)
    });
    assert_eq!(known.count(), described.len(), "a described path has no route: {described:?}");
}

#[test]
fn the_description_is_of_this_version() {
    let document = Document::read();
    assert_eq!(document.0["openapi"], "3.1.1");
    assert_eq!(document.0["info"]["version"], env!("CARGO_PKG_VERSION"));
    let ids: Vec<&Value> = operations(&document).map(|(_, _, operation)| &operation["operationId"]).collect();
    assert_eq!(ids.iter().map(ToString::to_string).collect::<BTreeSet<_>>().len(), ids.len(), "an operationId twice");
}
