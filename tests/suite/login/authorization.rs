//! What the answers to proxies depend on.

use opsadmin_operator::account::{Role, StoredSettings, SuspensionReason};
use opsadmin_operator::database::Action;

use super::scene::{SOON, Scene};
use crate::database_contract::fixture::{affiliate, change, deletion, ips, pair, rotation, settings, update};
use crate::support::wait::eventually;

pub async fn roles_open_their_endpoints(scene: Scene) {
    let server = scene.serve(&[]).await;
    let expected: [(&str, Vec<Role>, [u16; 4]); 4] = [
        ("none", vec![], [403, 403, 403, 403]),
        ("customer", vec![Role::Customer], [200, 403, 403, 403]),
        ("plans", vec![Role::PlansAndRates], [403, 200, 200, 403]),
        ("administrator", vec![Role::Administrator], [200, 200, 200, 200]),
    ];
    for (name, roles, statuses) in expected {
        let client = scene.account(name, |account| account.roles = roles.into_iter().collect()).await;
        let token = server.log_in(&client).await.access;
        let mut found = [0; 4];
        for (status, path) in found.iter_mut().zip(["/my-account", "/plans/12/rates", "/enrollments?new", "/users"]) {
            *status = server.authorize(&token, path).await.status;
        }
        assert_eq!(found, statuses, "{name}");
        for ambiguous in ["/my-account/../plans", "//my-account", "/my-account;x", "/my%2Daccount%2F.."] {
            assert_eq!(server.authorize(&token, ambiguous).await.status, 403, "{name} {ambiguous}");
        }
    }
}

pub async fn an_affiliate_limits_the_plans_and_not_those_of_an_administrator(scene: Scene) {
    let server = scene.serve(&[]).await;
    for (name, role, plans) in [
        ("partner", Role::PlansAndRates, "opsadminplans: affiliate=bright%20%26%20co"),
        ("staff", Role::Administrator, "opsadminplans: all"),
    ] {
        let client = scene
            .account(name, |account| {
                account.roles = [role].into();
                account.affiliate = Some(affiliate("Bright & Co"));
            })
            .await;
        let token = server.log_in(&client).await.access;
        let answer = server.authorize(&token, "/plans").await;
        assert_eq!(answer.status, 200);
        assert!(answer.headers.contains(plans), "{answer:?}");
    }
}

pub async fn the_address_counts_at_each_use(scene: Scene) {
    let client = scene
        .account("acme", |account| {
            account.roles = [Role::Administrator].into();
            account.allowed_ips = ips(&["127.0.0.1", "203.0.113.0/24"]);
        })
        .await;
    let server = scene.serve(&["--trusted-proxies", "10.0.0.0/8,2001:db8::/32"]).await;
    let token = server.log_in(&client).await.access;
    for (address, status) in [
        ("203.0.113.7", 200),
        ("::ffff:203.0.113.7", 200),
        ("198.51.100.1", 401),
        ("10.0.0.1", 401),
        ("unknown", 401),
        ("203.0.113.7:80", 401),
    ] {
        assert_eq!(server.authorize_from(&token, "/users", address).await.status, status, "{address}");
    }
    let forwarded = |hops: &str| {
        format!(
            "Authorization: Bearer {token}\r\nX-Forwarded-Method: GET\r\nX-Forwarded-Uri: /users\r\nX-Forwarded-For: {hops}\r\n"
        )
    };
    for (hops, status) in [
        ("203.0.113.7, 10.0.0.1", 200),
        ("198.51.100.1, 203.0.113.7, 10.0.0.1, 2001:db8::1", 200),
        ("203.0.113.7, 198.51.100.1, 10.0.0.1", 401),
        ("203.0.113.7, 198.51.100.1", 401),
    ] {
        assert_eq!(server.get_internal("/authz/forward", &forwarded(hops)).await.status, status, "{hops}");
    }
    // A client that says to come from elsewhere is still at 127.0.0.1, because that is no listed proxy.
    let spoofed = "X-Forwarded-For: 198.51.100.1\r\n";
    let assertion = client.assertion();
    let form = super::scene::encoded(&super::scene::login_form(&assertion));
    assert_eq!(server.post_with("/token", spoofed, &form).await.status, 200);
}

pub async fn a_change_of_the_account_acts_on_issued_tokens(scene: Scene) {
    let accounts = scene.database.accounts.as_ref();
    let server = scene.serve(&[]).await;
    let customer = |name: &str| {
        let mut declared = settings(name);
        declared.roles = [Role::Customer].into();
        declared
    };
    let narrowings: [(&str, u16); 7] = [
        ("disabled", 401),
        ("suspended", 401),
        ("deleted", 401),
        ("moved", 401),
        ("narrowed", 403),
        ("rotated", 401),
        ("unowned", 401),
    ];
    for (name, status) in narrowings {
        let client = scene.account(name, |account| account.roles = [Role::Customer].into()).await;
        let token = server.log_in(&client).await.access;
        for _ in 0..3 {
            assert_eq!(server.authorize(&token, "/my-account").await.status, 200, "{name}");
        }
        let (account, version) = (&client.account, client.account.version);
        let mut declared = customer(name);
        let suspend = |expected| Action::Suspend { expected, reason: SuspensionReason::parse("unpaid").unwrap() };
        let narrowing = match name {
            "disabled" => {
                declared.enabled = false;
                update(account, &declared)
            }
            "suspended" => change(account.id, suspend(version)),
            "deleted" => deletion(account),
            "moved" => {
                declared.allowed_ips = ips(&["198.51.100.0/24"]);
                update(account, &declared)
            }
            "narrowed" => {
                declared.roles = [Role::PlansAndRates].into();
                update(account, &declared)
            }
            "rotated" => rotation(account, &pair()),
            _ => {
                let owner = "owner_cluster = NULL, owner_namespace = NULL, owner_name = NULL";
                scene.fresh.by_hand(&format!("UPDATE accounts SET {owner} WHERE id = '{}'", account.id)).await.unwrap();
                let now = accounts.find_by_id(account.id).await.unwrap().unwrap();
                assert_eq!((&now.owner, &now.settings), (&None, &StoredSettings::from(&declared)));
                change(account.id, suspend(now.version))
            }
        };
        accounts.commit(&narrowing).await.unwrap();
        server.eventually(&format!("{name} to be refused"), &token, status).await;
        // A login finds the account where a request does.
        let login = if status == 401 { 401 } else { 200 };
        assert_eq!(server.token(&client.assertion()).await.status, login, "{name}");
    }
    // The other way: what is allowed again works with the same token.
    let client = scene.account("again", |account| account.roles = [Role::Customer].into()).await;
    let token = server.log_in(&client).await.access;
    let mut declared = customer("again");
    declared.enabled = false;
    let disabled = accounts.commit(&update(&client.account, &declared)).await.unwrap();
    server.eventually("the account to be out", &token, 401).await;
    accounts.commit(&update(&disabled, &customer("again"))).await.unwrap();
    server.eventually("the account to be in again", &token, 200).await;
    // Steady requests are answered from memory.
    eventually("an answer from memory", SOON, async || {
        let hits = "opsadmin_access_cache_total{result=\"hit\"}";
        let before = server.metric(hits).await;
        assert_eq!(server.authorize(&token, "/my-account").await.status, 200);
        if server.metric(hits).await > before { Ok(()) } else { Err("it was read from the database") }
    })
    .await;
}

pub async fn a_proxy_that_asks_wrongly_is_refused(scene: Scene) {
    let client = scene.account("acme", |account| account.roles = [Role::Customer].into()).await;
    let server = scene.serve(&[]).await;
    let token = server.log_in(&client).await.access;
    let bearer = format!("Authorization: Bearer {token}\r\n");
    let asked = "X-Original-Method: GET\r\nX-Original-URI: /my-account\r\nX-Real-IP: 192.0.2.1\r\n";
    assert_eq!(server.get_internal("/authz/nginx", &format!("{bearer}{asked}")).await.status, 200);
    for (headers, status) in [
        (bearer.clone(), 403),
        (format!("{bearer}{asked}X-Original-URI: /plans\r\n"), 403),
        (format!("{bearer}{asked}X-Real-IP: 192.0.2.2\r\n"), 403),
        (format!("{bearer}{bearer}{asked}"), 401),
        (asked.to_owned(), 401),
    ] {
        let answer = server.get_internal("/authz/nginx", &headers).await;
        assert_eq!(answer.status, status, "{headers}");
        assert!(answer.headers.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(!answer.headers.contains("opsadmin") || answer.headers.contains("realm"), "{answer:?}");
    }
    assert_eq!(server.get_internal("/authz/envoy", &bearer).await.status, 404);
    assert_eq!(server.get_internal("/token", "").await.status, 404, "each listener has its own paths");
}
