//! Tests of decisions: each reason, and that nothing but `access` decides about the account.

use super::*;
use crate::account::{AccountId, KeyState, Life, StoredSettings, Suspension, samples};
use crate::login::{
    AccessToken, End, FamilySeed, LoginEntropy, LoginId, NewLogin, TrustedProxies, begin, client_address,
};
use http::Method;
use jiff::SignedDuration;
use proptest::prelude::*;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn token() -> AccessToken {
    AccessToken::from_bits(&Zeroizing::new([7; 32]))
}

fn key() -> KeyId {
    samples::key(KeyState::Active).id
}

fn login(use_refresh_token: bool) -> Login {
    let bits = Zeroizing::new([7; 32]);
    let entropy = LoginEntropy { access: bits.clone(), refresh: bits, seed: FamilySeed::from_bytes([1; 32]) };
    let new = NewLogin {
        id: LoginId::from_random([2; 16]),
        account: samples::account().id,
        key: key(),
        address: "192.0.2.1".parse().unwrap(),
        now: at(0),
    };
    begin(new, use_refresh_token, Lifetimes::default(), entropy).0
}

fn account(roles: &[&str], affiliate: Option<&str>) -> Account {
    let account = samples::account();
    let roles = roles.iter().map(|role| (*role).to_owned()).collect();
    let settings = StoredSettings { roles, affiliate: affiliate.map(str::to_owned), ..account.settings };
    Account { settings, ..account }
}

fn paths() -> PathTable {
    PathTable::parse(include_str!("../../../examples/login/paths.yaml")).unwrap()
}

/// A request with its circumstances, so that a test changes one of them.
#[derive(Debug)]
struct Asked {
    target: &'static str,
    token: Result<AccessToken, TokenFault>,
    login: Option<Login>,
    account: Option<Account>,
    address: Result<IpAddr, UnknownAddress>,
    now: Timestamp,
}

impl Asked {
    fn by(account: Account) -> Self {
        Self {
            target: "/plans/1",
            token: Ok(token()),
            login: Some(login(false)),
            account: Some(account),
            address: Ok("192.0.2.1".parse().unwrap()),
            now: at(1),
        }
    }

    fn decide(&self) -> Decision {
        let request = ProxiedRequest {
            method: Method::GET,
            target: self.target,
            forwarded: "192.0.2.1",
            token: self.token.clone(),
        };
        let account = self.account.clone().map(KnownAccount::new);
        let circumstances = Circumstances {
            login: self.login.as_ref(),
            account: account.as_ref(),
            address: self.address,
            paths: &paths(),
            lifetimes: Lifetimes::default(),
            now: self.now,
        };
        decide(&request, &circumstances)
    }

    fn headers(&self) -> [String; 3] {
        match self.decide() {
            Decision::Allowed(allowed) => {
                allowed.headers().each_ref().map(|(_, value)| value.to_str().unwrap().to_owned())
            }
            refused => panic!("{refused:?}"),
        }
    }
}

fn unauthorized(change: impl FnOnce(&mut Asked)) -> Unauthorized {
    let mut asked = Asked::by(account(&["PlansAndRates"], None));
    change(&mut asked);
    match asked.decide() {
        Decision::Unauthorized(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_that_is_let_through_comes_with_its_headers() {
    let id = samples::account().id.to_string();
    let asked = Asked::by(account(&["PlansAndRates", "Customer", "root"], None));
    assert_eq!(asked.headers(), [id.clone(), "Customer,PlansAndRates".to_owned(), "all".to_owned()]);
    let asked = Asked::by(account(&["PlansAndRates"], Some("Bright & Söhne, 100%-=\r")));
    assert_eq!(asked.decide(), Decision::Forbidden(Forbidden::Affiliate));
    let asked = Asked::by(account(&["PlansAndRates"], Some("Bright & Söhne, 100%-_.~=")));
    assert_eq!(asked.headers()[2], "affiliate=Bright%20%26%20S%C3%B6hne%2C%20100%25-_.~%3D");
    let asked = Asked { target: "/admin", ..Asked::by(account(&["Administrator", "Customer"], Some("Bright"))) };
    assert_eq!(asked.headers(), [id, "Administrator,Customer".to_owned(), "all".to_owned()]);
}

#[test]
fn a_token_that_does_not_work_is_401() {
    for fault in [TokenFault::Missing, TokenFault::Repeated, TokenFault::Scheme, TokenFault::Malformed] {
        assert_eq!(unauthorized(|asked| asked.token = Err(fault)), Unauthorized::Token(fault));
    }
    let other = AccessToken::from_bits(&Zeroizing::new([8; 32]));
    assert_eq!(unauthorized(|asked| asked.token = Ok(other)), Unauthorized::UnknownToken);
    assert_eq!(unauthorized(|asked| asked.login = None), Unauthorized::UnknownToken);
    assert_eq!(unauthorized(|asked| asked.now = at(300)), Unauthorized::Expired);
    for reason in EndReason::ALL {
        let end = Some(End { at: at(0), reason });
        let ended = unauthorized(|asked| asked.login = Some(Login { end, ..login(false) }));
        assert_eq!(ended, Unauthorized::Ended(reason));
    }
    assert_eq!(unauthorized(|asked| asked.account = None), Unauthorized::NoAccount);
    let foreign = Account { id: AccountId::from_random([9; 16]), ..account(&["Administrator"], None) };
    assert_eq!(unauthorized(|asked| asked.account = Some(foreign)), Unauthorized::NoAccount);
}

#[test]
fn the_state_of_the_account_acts_on_tokens_already_issued() {
    let rule = |change: &dyn Fn(&mut Account)| {
        let reason = unauthorized(|asked| change(asked.account.as_mut().unwrap()));
        let Unauthorized::Rule(rule) = reason else { panic!("{reason:?}") };
        rule
    };
    let suspension = || Suspension { since: at(0), reason: "unpaid".to_owned() };
    assert_eq!(rule(&|account| account.settings.enabled = false), Rule::Enabled);
    assert_eq!(rule(&|account| account.suspension = Some(suspension())), Rule::Suspension);
    assert_eq!(rule(&|account| account.life = Life::Deleted { since: at(0) }), Rule::Life);
    assert_eq!(rule(&|account| account.settings.any_ip = false), Rule::Address);
    assert_eq!(rule(&|account| account.keys.clear()), Rule::Keys);
    // The pair of the login counts, not another one.
    assert_eq!(rule(&|account| account.keys[0].id = KeyId::from_random([9; 16])), Rule::Keys);
    assert_eq!(rule(&|account| account.keys[0].state = KeyState::Retiring { expires: at(1) }), Rule::Keys);
}

#[test]
fn an_address_is_judged_at_each_use() {
    let limited = || {
        let mut limited = account(&["PlansAndRates"], None);
        limited.settings.any_ip = false;
        limited.settings.allowed_ips = BTreeSet::from(["192.0.2.0/24".to_owned()]);
        limited
    };
    assert!(matches!(Asked::by(limited()).decide(), Decision::Allowed(_)));
    let address = |forwarded| client_address(Some(forwarded), None, &TrustedProxies::default());
    let refused = |forwarded| {
        unauthorized(|asked| {
            asked.account = Some(limited());
            asked.address = address(forwarded);
        })
    };
    assert_eq!(refused("192.0.2.1, 198.51.100.1"), Unauthorized::Rule(Rule::Address));
    assert_eq!(refused("?"), Unauthorized::Address(UnknownAddress::Unreadable));
    // An address that is not known is refused even if the account may be used from anywhere.
    let unknown = unauthorized(|asked| asked.address = Err(UnknownAddress::Missing));
    assert_eq!(unknown, Unauthorized::Address(UnknownAddress::Missing));
}

#[test]
fn what_the_roles_do_not_open_is_403() {
    for (roles, target, expected) in [
        (["Customer"], "/plans", Forbidden::Endpoints(EndpointGroup::Plans)),
        (["PlansAndRates"], "/my-account", Forbidden::Endpoints(EndpointGroup::MyAccount)),
        (["PlansAndRates"], "/", Forbidden::Endpoints(EndpointGroup::Everything)),
        (["administrator"], "/plans", Forbidden::Endpoints(EndpointGroup::Plans)),
        ([""], "/plans", Forbidden::Endpoints(EndpointGroup::Plans)),
        (["Administrator"], "/plans/../x", Forbidden::Path(AmbiguousPath::DotSegment)),
        (["Administrator"], "/plans//x", Forbidden::Path(AmbiguousPath::EmptySegment)),
    ] {
        let asked = Asked { target, ..Asked::by(account(&roles, None)) };
        assert_eq!(asked.decide(), Decision::Forbidden(expected), "{roles:?} {target}");
    }
    // A client that is not let in at all learns nothing about paths and roles.
    let mut asked = Asked { target: "/plans/../x", ..Asked::by(account(&["Customer"], None)) };
    asked.account.as_mut().unwrap().settings.enabled = false;
    assert_eq!(asked.decide(), Decision::Unauthorized(Unauthorized::Rule(Rule::Enabled)));
}

#[test]
fn an_unreadable_affiliate_does_not_widen_access() {
    for stored in ["", " ", "*", "two\nlines", "a\u{0}"] {
        let asked = Asked::by(account(&["PlansAndRates"], Some(stored)));
        assert_eq!(asked.decide(), Decision::Forbidden(Forbidden::Affiliate), "{stored:?}");
    }
}

#[test]
fn an_account_that_must_refresh_cannot_use_an_older_longer_token() {
    let must = |second, login: Login| {
        let mut asked = Asked { login: Some(login), now: at(second), ..Asked::by(account(&["PlansAndRates"], None)) };
        asked.account.as_mut().unwrap().settings.use_refresh_token = true;
        asked.decide()
    };
    assert!(matches!(must(9, login(false)), Decision::Allowed(_)));
    assert_eq!(must(10, login(false)), Decision::Unauthorized(Unauthorized::MustRefresh));
    assert!(matches!(must(9, login(true)), Decision::Allowed(_)));
    assert_eq!(must(10, login(true)), Decision::Unauthorized(Unauthorized::Expired));
    assert_eq!(Lifetimes::default().short_token, SignedDuration::from_secs(10));
}

#[test]
fn a_login_needs_a_working_pair_and_the_right_address() {
    let account = account(&[], None);
    let address = "192.0.2.1".parse().unwrap();
    assert_eq!(may_log_in(&account, key(), address, at(0)), Ok(()));
    assert_eq!(may_log_in(&account, KeyId::from_random([9; 16]), address, at(0)), Err(Rule::Keys));
    let mut nowhere = account.clone();
    nowhere.settings.any_ip = false;
    assert_eq!(may_log_in(&nowhere, key(), address, at(0)), Err(Rule::Address));
}

fn any_asked() -> impl Strategy<Value = Asked> {
    let role = prop::sample::select(vec!["Customer", "PlansAndRates", "Administrator", "Superuser"]);
    let target = prop::sample::select(vec!["/plans", "/my-account/x", "/enrollments/1", "/admin", "/plans/%2e%2e/x"]);
    let affiliate = prop::sample::select(vec![None, Some("Bright"), Some(""), Some("*")]);
    (prop::collection::vec(role, 0..4), target, affiliate, any::<[bool; 5]>(), 0..400_i64).prop_map(
        |(roles, target, affiliate, [enabled, suspended, deleted, any_ip, must_refresh], second)| {
            let mut account = account(&roles, affiliate);
            account.settings.enabled = enabled;
            account.settings.any_ip = any_ip;
            account.settings.use_refresh_token = must_refresh;
            account.suspension = suspended.then(|| Suspension { since: at(0), reason: String::new() });
            account.life = if deleted { Life::Deleted { since: at(0) } } else { Life::Live };
            Asked { target, now: at(second), ..Asked::by(account) }
        },
    )
}

proptest! {
    #[test]
    fn what_access_refuses_is_never_allowed(asked in any_asked()) {
        let account = asked.account.as_ref().unwrap();
        let group = RequestPath::parse(asked.target).map(|path| paths().group("GET", &path));
        let judged = |reach| {
            let request = AccessRequest { key: Some(key()), ip: asked.address.ok(), reach, affiliate: None };
            access(account, &request, asked.now).is_allowed()
        };
        match asked.decide() {
            Decision::Allowed(allowed) => {
                prop_assert!(judged(Some(Reach::Endpoint(group.unwrap()))));
                prop_assert!(asked.now < at(300) && !allowed.roles().is_empty());
                for (name, value) in allowed.headers() {
                    prop_assert!(!value.is_empty() && value.as_bytes().iter().all(u8::is_ascii_graphic), "{name}");
                    prop_assert!(name.as_str().bytes().all(|byte| byte.is_ascii_alphabetic()));
                }
            }
            Decision::Forbidden(reason) => {
                prop_assert!(judged(None), "403 is only for clients that are let in");
                let affiliate = reason == Forbidden::Affiliate;
                prop_assert!(affiliate || !group.is_ok_and(|group| judged(Some(Reach::Endpoint(group)))));
            }
            Decision::Unauthorized(reason) => {
                let of_token = matches!(reason, Unauthorized::Expired | Unauthorized::MustRefresh);
                prop_assert!(of_token || !judged(None));
            }
        }
    }

    #[test]
    fn each_affiliate_has_its_own_header(one in "\\PC{1,30}", other in "\\PC{1,30}") {
        let plans = |name: &str| match Asked::by(account(&["PlansAndRates"], Some(name))).decide() {
            Decision::Allowed(allowed) => Some(allowed.plans().to_owned()),
            _ => None,
        };
        if let (Some(first), Some(second)) = (plans(&one), plans(&other)) {
            prop_assert_eq!(first == second, one == other);
            let name = first.strip_prefix("affiliate=").unwrap();
            prop_assert_eq!(percent_encoding::percent_decode_str(name).decode_utf8().unwrap(), one);
        }
    }
}
