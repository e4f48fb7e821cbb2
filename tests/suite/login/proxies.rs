//! Proxies that nobody here wrote let the right requests through to the example API, and no other ones.

use opsadmin_operator::account::{Role, Settings};
use serde_json::{Value, json};

use super::black_hole::BlackHole;
use super::scene::{AuthServer, Client, SOON, Scene};
use crate::database_contract::fixture::{affiliate, ips, settings, update};
use crate::guides::page;
use crate::support::http::Answer;
use crate::support::protected_api::{ProtectedApi, Proxy};
use crate::support::wait::eventually;

macro_rules! behind_each_proxy {
    ($($case:ident),* $(,)?) => {
        mod nginx {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Proxy::Nginx).await;
                }
            )*
        }
        mod caddy {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Proxy::Caddy).await;
                }
            )*
        }
        mod envoy {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Proxy::Envoy).await;
                }
            )*
        }
    };
}

behind_each_proxy!(
    the_api_learns_who_calls_and_what_they_may_see,
    what_may_not_pass_does_not_reach_the_api,
    what_a_client_claims_changes_nothing,
    a_client_cannot_claim_another_address,
    without_an_auth_server_nothing_passes,
    without_a_database_nothing_passes,
);

/// An auth server, a proxy that asks it, and the API.
struct Stage {
    scene: Scene,
    server: AuthServer,
    proxy: Proxy,
    api: ProtectedApi,
}

impl Stage {
    async fn set(proxy: Proxy) -> Self {
        let scene = Scene::sqlite().await;
        let server = scene.serve(&[]).await;
        Self::of(proxy, scene, server).await
    }

    async fn of(proxy: Proxy, scene: Scene, server: AuthServer) -> Self {
        let api = ProtectedApi::start(proxy, &server.internal).await;
        Self { scene, server, proxy, api }
    }

    /// Creates an account that sees the plans of one affiliate, and logs in.
    async fn partner(&self) -> (Client, String) {
        let client = self.scene.account("partner", |account| *account = partner()).await;
        let token = self.server.log_in(&client).await.access;
        (client, token)
    }
}

fn partner() -> Settings {
    let mut declared = settings("partner");
    declared.roles = [Role::PlansAndRates].into();
    declared.affiliate = Some(affiliate("Bright & Co"));
    declared
}

/// What the API answers to the partner.
fn partners_answer(client: &Client, endpoint: &str) -> Value {
    let id = client.account.id.to_string();
    json!({
        "endpoint": endpoint,
        "caller": { "account": id, "roles": ["PlansAndRates"], "scope": "affiliate=Bright%20%26%20Co" },
        "plans": ["Bright Fixed 12"],
    })
}

#[track_caller]
fn body(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

async fn the_api_learns_who_calls_and_what_they_may_see(proxy: Proxy) {
    let stage = Stage::set(proxy).await;
    let (client, token) = stage.partner().await;
    for endpoint in ["/plans", "/enrollments"] {
        let answer = stage.api.call(&format!("GET {endpoint}"), &token, "").await;
        assert_eq!(body(&answer), partners_answer(&client, endpoint));
    }
    let posted = "POST /enrollments";
    let answer = stage.api.call(posted, &token, "Content-Type: text/plain\r\nContent-Length: 0\r\n").await;
    assert_eq!(body(&answer), partners_answer(&client, "/enrollments"), "{posted}");

    let staff = stage.scene.account("staff", |account| account.roles = [Role::Administrator].into()).await;
    let token = stage.server.log_in(&staff).await.access;
    let answer = body(&stage.api.call("GET /my-account", &token, "").await);
    assert_eq!(answer["caller"]["scope"], "all");
    assert_eq!(answer["plans"], json!(["Bright Fixed 12", "Linden Green"]));
    assert_eq!(stage.api.call("GET /users", &token, "").await.status, 404, "this is the answer of the API");
}

async fn what_may_not_pass_does_not_reach_the_api(proxy: Proxy) {
    let stage = Stage::set(proxy).await;
    let (client, token) = stage.partner().await;
    let revoked = stage.server.log_in(&client).await.access;
    assert_eq!(stage.server.revoke(&client, &revoked).await.status, 200);
    let bearer = format!("Authorization: Bearer {token}\r\n");
    for headers in [
        String::new(),
        "Authorization: Bearer opsa_at_wrong\r\n".to_owned(),
        format!("Authorization: Bearer {}\r\n", client.secret_key),
        format!("Authorization: Basic {token}\r\n"),
        format!("Authorization: Bearer {revoked}\r\n"),
        format!("X-Authorization: Bearer {token}\r\n"),
    ] {
        let answer = stage.api.send("GET /plans/refused", &headers).await;
        assert_eq!(answer.status, 401, "{headers}: {answer:?}");
        assert!(answer.headers.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(!answer.headers.contains("opsadminaccount"), "{answer:?}");
    }
    // nginx itself refuses a repeated header `Authorization`.
    let repeated = stage.api.send("GET /plans/refused", &format!("{bearer}{bearer}")).await;
    assert!(matches!(repeated.status, 400 | 401), "{repeated:?}");
    for refused in ["/my-account", "/my-account/plans", "/users", "/", "/plansx", "/Plans"] {
        let answer = stage.api.send(&format!("GET {refused}"), &bearer).await;
        assert_eq!(answer.status, 403, "{refused}: {answer:?}");
    }
    for ambiguous in [
        "/plans/../my-account",
        "/plans/..",
        "/plans/./",
        "/plans/%2e%2e/my-account",
        "/plans/%2E./my-account",
        "/plans%2f..",
        "/plans%2F..%2Fmy-account",
        "/plans/%252e%252e/my-account",
        "/plans/..%5cmy-account",
        "/plans\\..\\my-account",
        "/plans;/../my-account",
        "/plans/%ff",
        "//plans",
        "/plans//12",
        "//my-account/../plans",
    ] {
        let answer = stage.api.send(&format!("GET {ambiguous}"), &bearer).await;
        // Some targets are no path for the proxy itself.
        assert!(matches!(answer.status, 400 | 403), "{ambiguous}: {answer:?}");
    }
    assert_eq!(stage.api.send("GET /plans?last", &bearer).await.status, 200);
    assert_eq!(stage.api.reached("GET /plans?last").await, ["GET /plans?last"]);
}

async fn what_a_client_claims_changes_nothing(proxy: Proxy) {
    let stage = Stage::set(proxy).await;
    let (client, token) = stage.partner().await;
    for claims in [
        "OpsadminPlans: all\r\n",
        "opsadminplans: all\r\nOPSADMINROLES: Administrator\r\n",
        "OpsadminPlans: all\r\nOpsadminPlans: all\r\nOpsadminPlans:\r\n",
        "OpsadminAccount: 00000000-0000-0000-0000-000000000000\r\nOpsadminRoles: Administrator\r\n",
        "opsadmin_plans: all\r\nOpsadmin_Plans: all\r\n",
        "Opsadmin-Plans: all\r\nopsadmin-plans: all\r\n",
        "Opsadmin.Plans: all\r\n",
        "X-Original-URI: /my-account\r\nX-Original-Method: POST\r\n",
        "X-Forwarded-Uri: /my-account\r\nX-Forwarded-Method: POST\r\n",
        "X-Real-IP: unknown\r\nX-Forwarded-For: unknown\r\n",
        "X-Envoy-Original-Path: /my-account\r\nX-HTTP-Method-Override: POST\r\n",
        // A proxy does not pass on the headers that `Connection` names (RFC 9110 section 7.6.1).
        "Connection: OpsadminPlans, OpsadminRoles, OpsadminAccount\r\n",
        "Connection: X-Real-IP, X-Original-URI, X-Original-Method, X-Forwarded-For, X-Forwarded-Uri, X-Forwarded-Method\r\n",
        "Connection: OpsadminPlans\r\nConnection: close, OpsadminRoles\r\nOpsadminPlans: all\r\n",
    ] {
        let answer = stage.api.call("GET /plans", &token, claims).await;
        if stage.proxy.refuses_to_hear(claims) {
            assert_eq!(answer.status, 400, "{claims}: {answer:?}");
        } else {
            assert_eq!(body(&answer), partners_answer(&client, "/plans"), "{claims}");
        }
    }
    for claims in [
        "X-Original-URI: /plans\r\n",
        "x-original-uri: /plans\r\nX-Original-URI: /plans\r\n",
        "X_Original_URI: /plans\r\nX_Forwarded_Uri: /plans\r\n",
        "X-Forwarded-Uri: /plans\r\n",
        "X-Envoy-Original-Path: /plans\r\nX-Envoy-Original-Host: plans\r\n",
        "X-Original-URL: /plans\r\nX-Rewrite-URL: /plans\r\n",
        "OpsadminRoles: Administrator\r\n",
        "Connection: X-Original-URI, X-Forwarded-Uri\r\nX-Original-URI: /plans\r\nX-Forwarded-Uri: /plans\r\n",
    ] {
        let answer = stage.api.call("GET /my-account", &token, claims).await;
        assert_eq!(answer.status, 403, "{claims}: {answer:?}");
    }
    let claims = "OpsadminAccount: x\r\nOpsadminRoles: Administrator\r\nOpsadminPlans: all\r\n";
    assert_eq!(stage.api.send("GET /plans/refused", claims).await.status, 401);
}

async fn a_client_cannot_claim_another_address(proxy: Proxy) {
    let stage = Stage::set(proxy).await;
    let (client, token) = stage.partner().await;
    let claims = [
        "",
        "X-Forwarded-For: 203.0.113.7\r\n",
        "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For: 203.0.113.7\r\n",
        "X-Real-IP: 203.0.113.7\r\n",
        "X-Envoy-External-Address: 203.0.113.7\r\nX-Envoy-Internal: true\r\n",
        "x_real_ip: 203.0.113.7\r\nX_Forwarded_For: 203.0.113.7\r\n",
        "Forwarded: for=203.0.113.7\r\nX-Client-IP: 203.0.113.7\r\nTrue-Client-IP: 203.0.113.7\r\n",
        "Connection: X-Real-IP, X-Forwarded-For\r\nX-Forwarded-For: 203.0.113.7\r\nX-Real-IP: 203.0.113.7\r\n",
    ];
    let mut account = client.account.clone();
    for (allowed, status) in [("127.0.0.1", 200), ("203.0.113.0/24", 401)] {
        let mut declared = partner();
        declared.allowed_ips = ips(&[allowed]);
        account = stage.scene.database.accounts.commit(&update(&account, &declared)).await.unwrap();
        for claim in claims {
            let answer = stage.api.call("GET /plans", &token, claim).await;
            let status = if stage.proxy.refuses_to_hear(claim) { 400 } else { status };
            assert_eq!(answer.status, status, "allowed: {allowed}; {claim}: {answer:?}");
        }
    }
}

async fn without_an_auth_server_nothing_passes(proxy: Proxy) {
    let stage = Stage::set(proxy).await;
    let (_, token) = stage.partner().await;
    assert_eq!(stage.api.call("GET /plans?first", &token, "").await.status, 200);
    stage.server.process.kill().await;
    for target in ["/plans?refused", "/my-account", "//plans"] {
        let answer = stage.api.call(&format!("GET {target}"), &token, "OpsadminPlans: all\r\n").await;
        assert_eq!(answer.status, stage.proxy.status_without_an_auth_server(), "{target}: {answer:?}");
    }
    assert_eq!(stage.api.reached("GET /plans?first").await, ["GET /plans?first"]);
}

async fn without_a_database_nothing_passes(proxy: Proxy) {
    let scene = Scene::postgres(&format!("{proxy:?} without a database")).await;
    let hole = BlackHole::before(scene.fresh.url()).await;
    let server = scene.serve_at(&hole.url, &[]).await;
    let stage = Stage::of(proxy, scene, server).await;
    let (_, token) = stage.partner().await;
    let answers = async |status: u16| {
        eventually("the answer of the proxy to change", SOON, async || {
            let answer = stage.api.call("GET /plans?first", &token, "").await;
            if answer.status == status { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
    };
    answers(200).await;
    hole.set_gone(true);
    answers(proxy.status_without_a_database()).await;
    for target in ["/plans?refused", "/my-account", "/enrollments"] {
        let answer = stage.api.call(&format!("GET {target}"), &token, "OpsadminPlans: all\r\n").await;
        assert_eq!(answer.status, proxy.status_without_a_database(), "{target}: {answer:?}");
    }
    hole.set_gone(false);
    answers(200).await;
    let reached = stage.api.reached("GET /plans?first").await;
    assert!(reached.iter().all(|request| request == "GET /plans?first"), "{reached:?}");
}

#[test]
fn the_guide_has_these_configurations() {
    for (proxy, language) in [(Proxy::Nginx, "nginx"), (Proxy::Caddy, "caddyfile"), (Proxy::Envoy, "yaml")] {
        let block = format!("```{language}\n{}```\n", page(proxy.example()));
        assert!(page("docs/login.md").contains(&block), "docs/login.md differs from {}", proxy.example());
    }
}
