//! Partners' programs log in with libraries that nobody here wrote, by TLS, and call the API through a proxy.

use opsadmin_operator::account::Role;
use serde_json::{Value, json};

use super::partner_program::{Library, PartnerProgram, Place};
use super::scene::{AuthServer, Client, Scene};
use crate::database_contract::fixture::{affiliate, pair, rotation};
use crate::guides::page;
use crate::support::protected_api::{ProtectedApi, Proxy};

macro_rules! with_each_library {
    ($($case:ident),* $(,)?) => {
        with_each_library!(@ authlib Authlib: $($case)*);
        with_each_library!(@ requests_oauth2client RequestsOauth2client: $($case)*);
        with_each_library!(@ openid_client OpenidClient: $($case)*);
        with_each_library!(@ nimbus Nimbus: $($case)*);
        with_each_library!(@ ureq Ureq: $($case)*);
    };
    (@ $module:ident $library:ident: $($case:ident)*) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::Library::$library).await;
                }
            )*
        }
    };
}

with_each_library!(
    a_program_keeps_its_login_and_follows_a_rotation,
    a_program_renews_its_login_with_a_new_assertion,
    a_program_refreshes_its_token_with_a_new_assertion,
    a_program_fails_with_a_wrong_key_and_does_not_tell_it,
);

/// An auth server that partners reach by TLS, a proxy that asks it, and the API.
struct Stage {
    scene: Scene,
    server: AuthServer,
    place: Place,
    _api: ProtectedApi,
}

impl Stage {
    async fn set() -> Self {
        let scene = Scene::sqlite().await;
        let (server, authority) = scene.serve_by_tls().await;
        let api = ProtectedApi::start(Proxy::Envoy, &server.internal).await;
        let place = Place { issuer: format!("https://{}", server.public), authority, api: api.url() };
        Self { scene, server, place, _api: api }
    }

    async fn partner(&self, use_refresh_token: bool) -> Client {
        let client = self.scene.account("partner", |account| {
            account.roles = [Role::PlansAndRates].into();
            account.affiliate = Some(affiliate("Linden"));
            account.use_refresh_token = use_refresh_token;
        });
        client.await
    }

    /// Asserts that the auth server has issued tokens for so many logins and so many refreshes.
    async fn has_issued(&self, logins: u32, refreshes: u32) {
        for (kind, expected) in [("login", logins), ("refresh", refreshes)] {
            let issued = self.server.metric(&format!("opsadmin_logins_total{{kind=\"{kind}\"}}")).await;
            assert_eq!(issued, Some(expected.into()), "tokens for a {kind}; expected: {logins}, {refreshes}");
        }
    }
}

/// The tokens that are renewed as soon as they are there if the leeway is longer than any lifetime.
fn at_once(library: Library) -> u32 {
    u32::from(library == Library::Authlib)
}

/// Asserts that the program is let in as this client, and sees the plans of the client's affiliate alone.
async fn is_let_in(program: &mut PartnerProgram, client: &Client, path: &'static str) {
    let expected = json!({
        "endpoint": path,
        "caller": {
            "account": client.account.id.to_string(), "roles": ["PlansAndRates"], "scope": "affiliate=Linden",
        },
        "plans": ["Linden Green"],
    });
    assert_eq!(program.get(path).await, Ok((200, expected)));
}

async fn a_program_keeps_its_login_and_follows_a_rotation(library: Library) {
    let stage = Stage::set().await;
    let client = stage.partner(false).await;
    let mut program = PartnerProgram::start(library, &stage.place, &client, false).await;
    is_let_in(&mut program, &client, "/plans").await;
    is_let_in(&mut program, &client, "/enrollments").await;
    assert_eq!(program.get("/my-account").await, Ok((403, Value::Null)), "no role opens it");
    // One login is enough for all calls.
    stage.has_issued(1, 0).await;

    let change = rotation(&client.account, &pair());
    let client = Client::of(stage.scene.database.accounts.commit(&change).await.unwrap());
    program.mount(&client);
    is_let_in(&mut program, &client, "/plans").await;
    // The login with the old pair has ended.
    stage.has_issued(2, 0).await;
}

async fn a_program_renews_its_login_with_a_new_assertion(library: Library) {
    let stage = Stage::set().await;
    let client = stage.partner(false).await;
    let mut program = PartnerProgram::start(library, &stage.place, &client, true).await;
    for count in 1..=3 {
        is_let_in(&mut program, &client, "/plans").await;
        stage.has_issued(count + at_once(library), 0).await;
    }
}

async fn a_program_refreshes_its_token_with_a_new_assertion(library: Library) {
    let stage = Stage::set().await;
    let client = stage.partner(true).await;
    let mut program = PartnerProgram::start(library, &stage.place, &client, true).await;
    for count in 0..3 {
        is_let_in(&mut program, &client, "/plans").await;
        stage.has_issued(1, count + at_once(library)).await;
    }
    let change = rotation(&client.account, &pair());
    let client = Client::of(stage.scene.database.accounts.commit(&change).await.unwrap());
    program.mount(&client);
    is_let_in(&mut program, &client, "/plans").await;
    // The refresh was refused, and the program logged in with the new pair.
    stage.has_issued(2, 2 + 2 * at_once(library)).await;
}

async fn a_program_fails_with_a_wrong_key_and_does_not_tell_it(library: Library) {
    let stage = Stage::set().await;
    let mut client = stage.partner(false).await;
    client.secret_key = format!("{}x", client.secret_key);
    let mut program = PartnerProgram::start(library, &stage.place, &client, false).await;
    let said = program.get("/plans").await.unwrap_err();
    assert!(said.contains(library.refusal()), "{said}");
    assert!(!said.contains(&client.secret_key) && !said.contains("eyJ"), "{said}");
    stage.has_issued(0, 0).await;
    let refused = "opsadmin_login_refusals_total{rule=\"signature\"}";
    assert_eq!(stage.server.metric(refused).await, Some(2.0), "the program tries again once");
}

#[test]
fn the_guide_names_the_pinned_versions() {
    let guide = page("docs/partners.md");
    let pins = page("tests/clients/requirements.in");
    let python = pins.lines().filter_map(|pin| pin.split_once("=="));
    let pins: Value = serde_json::from_str(&page("tests/clients/package.json")).unwrap();
    let node =
        pins["dependencies"].as_object().unwrap().iter().map(|(name, pin)| (name.as_str(), pin.as_str().unwrap()));
    let pins = page("tests/clients/pom.xml");
    let (_, java) = pins.split_once("<artifactId>oauth2-oidc-sdk</artifactId>").unwrap();
    let java = java.split(['<', '>']).nth(2).unwrap();
    for (name, version) in python.chain(node).chain([("oauth2-oidc-sdk", java)]).filter(|(name, _)| *name != "requests")
    {
        assert!(guide.contains(&format!("`{name}` {version}")), "docs/partners.md does not name {name} {version}");
    }
}

#[test]
fn the_guide_has_these_programs() {
    for library in Library::ALL {
        let (example, language) = library.example();
        let block = format!("```{language}\n{}```\n", page(example));
        assert!(page("docs/partners.md").contains(&block), "docs/partners.md differs from {example}");
    }
}
