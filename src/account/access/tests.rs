//! Tests of the access rules: every combination against tables of expected results, and properties for random accounts.

use super::*;
use crate::account::samples::{account, key};
use crate::account::{AllowedIp, SealedSecret, StoredKey, Suspension};
use proptest::prelude::*;
use std::collections::BTreeSet;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

fn texts(texts: &[&str]) -> BTreeSet<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn suspension() -> Suspension {
    Suspension { since: NOW, reason: "unpaid".to_owned() }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Each reach, and whether it is open to: Customer only, `PlansAndRates` only, both roles, any set with Administrator.
const REACHES: [(Reach, [bool; 4]); 7] = [
    (Reach::Endpoint(EndpointGroup::MyAccount), [true, false, true, true]),
    (Reach::Endpoint(EndpointGroup::Plans), [false, true, true, true]),
    (Reach::Endpoint(EndpointGroup::Enrollments), [false, true, true, true]),
    (Reach::Endpoint(EndpointGroup::Everything), [false, false, false, true]),
    (Reach::Role(Role::Customer), [true, false, true, true]),
    (Reach::Role(Role::PlansAndRates), [false, true, true, true]),
    (Reach::Role(Role::Administrator), [false, false, false, true]),
];

/// Returns cases of: `any_ip`, `allowed_ips`, the client's address, and whether the address rule must allow it.
fn addresses() -> Vec<(bool, BTreeSet<String>, Option<IpAddr>, bool)> {
    let lists = [
        &[][..],
        &["10.0.0.0/8"],
        &["junk", "10.0.0.1/8", "::ffff:10.0.0.0/104", "10.1.2.3", "2001:db8::1"],
        &["10.0.0.0/8", "junk"],
    ];
    let askeds = [
        None,
        Some(ip("10.1.2.3")),
        Some(ip("::ffff:10.1.2.3")),
        Some(ip("192.0.2.1")),
        Some(ip("::a01:203")),
        Some(ip("2001:db8::1")),
    ];
    let mut all = Vec::new();
    for (number, list) in lists.into_iter().enumerate() {
        for (place, asked) in askeds.into_iter().enumerate() {
            // Only the lists at index 1 and 3 hold a valid network. The addresses at index 0 to 2 pass them.
            let passes = matches!(number, 1 | 3) && place < 3;
            all.push((true, texts(list), asked, true));
            all.push((false, texts(list), asked, passes));
        }
    }
    all
}

/// Returns every combination of life, keys, enabled and suspended, and whether the account may authenticate.
fn accounts_with_expected_access(lives: &[(Life, bool)], keys: &[(Vec<StoredKey>, bool)]) -> Vec<(Account, bool)> {
    let mut all = Vec::new();
    for (life, is_there) in lives {
        for (keys, has_keys) in keys {
            for enabled in [true, false] {
                for suspended in [false, true] {
                    let mut account = Account { life: *life, keys: keys.clone(), ..account() };
                    account.settings.enabled = enabled;
                    account.suspension = suspended.then(suspension);
                    all.push((account, *is_there && *has_keys && enabled && !suspended));
                }
            }
        }
    }
    all
}

#[test]
fn every_account_is_allowed_from_the_expected_addresses() {
    let lives = [(Life::Live, true), (Life::Retained { since: NOW }, true), (Life::Deleted { since: NOW }, false)];
    let keys = [
        (vec![key(KeyState::Active)], true),
        (vec![], false),
        (vec![key(KeyState::Retiring { expires: at(1) })], true),
        (vec![key(KeyState::Retiring { expires: NOW })], false),
        (vec![key(KeyState::Active), key(KeyState::Retiring { expires: NOW })], true),
    ];
    for (mut account, is_fit) in accounts_with_expected_access(&lives, &keys) {
        for (any_ip, allowed_ips, ip, is_from_there) in addresses() {
            account.settings.any_ip = any_ip;
            account.settings.allowed_ips = allowed_ips;
            let asked = AccessRequest { ip, ..AccessRequest::default() };
            let expected = is_fit && is_from_there;
            assert_eq!(access(&account, &asked, NOW).is_allowed(), expected, "{asked:?} of {account:?}");
        }
    }
}

#[test]
fn every_combination_is_allowed_as_expected() {
    let lives = [(Life::Live, true), (Life::Deleted { since: NOW }, false)];
    let keys = [(vec![key(KeyState::Active)], true), (vec![], false)];
    let froms = [(true, None, true), (true, Some(ip("192.0.2.1")), true), (false, None, true)];
    let froms =
        froms.into_iter().chain([(false, Some(ip("::ffff:10.1.2.3")), true), (false, Some(ip("192.0.2.1")), false)]);
    let froms: Vec<_> = froms.collect();
    let plans = [(None, None), (None, Some("A")), (Some("A"), None), (Some("A"), Some("A"))].map(|plans| (plans, true));
    let plans = plans.into_iter().chain([((Some("A"), Some("a")), false), ((Some("A"), Some("B")), false)]);
    let plans: Vec<_> = plans.collect();
    let reaches: Vec<_> =
        REACHES.into_iter().map(|(reach, open)| (Some(reach), Some(open))).chain([(None, None)]).collect();
    let mut seen = 0;
    for (mut account, is_fit) in accounts_with_expected_access(&lives, &keys) {
        account.settings.allowed_ips = texts(&["10.0.0.0/8"]);
        for held in 0..16_usize {
            let names = ["Customer", "PlansAndRates", "Administrator", "administrator"];
            let roles = names.iter().enumerate().filter(|(bit, _)| held & (1 << bit) != 0);
            account.settings.roles = roles.map(|(_, name)| (*name).to_owned()).collect();
            // The last of the four names is not a role.
            let column = [None, Some(0), Some(1), Some(2), Some(3), Some(3), Some(3), Some(3)][held % 8];
            for (any_ip, ip, is_from_there) in &froms {
                account.settings.any_ip = *any_ip;
                for ((own, affiliate), sees) in &plans {
                    account.settings.affiliate = own.map(str::to_owned);
                    for (reach, open) in &reaches {
                        let is_open = open.is_none_or(|open| column.is_some_and(|column: usize| open[column]));
                        let asked = AccessRequest {
                            key: None,
                            ip: *ip,
                            reach: *reach,
                            affiliate: affiliate.map(str::to_owned),
                        };
                        let expected = is_fit && *is_from_there && is_open && (*sees || column == Some(3));
                        assert_eq!(access(&account, &asked, NOW).is_allowed(), expected, "{asked:?} of {account:?}");
                        seen += 1;
                    }
                }
            }
        }
    }
    assert_eq!(seen, 16 * 16 * 5 * 6 * 8);
}

#[test]
fn an_administrator_sees_every_affiliates_plans_and_other_roles_only_their_own() {
    for (role, all) in [("Customer", false), ("PlansAndRates", false), ("Administrator", true), ("Superuser", false)] {
        let mut account = account();
        account.settings.roles = texts(&[role]);
        account.settings.affiliate = Some("A".to_owned());
        let expected = if all { VisiblePlans::All } else { VisiblePlans::Of("A") };
        assert_eq!(access(&account, &AccessRequest::default(), NOW).plans, expected);
    }
}

#[test]
fn only_the_key_pair_that_was_used_counts() {
    let used = KeyId::from_random([3; 16]);
    let other = StoredKey { id: KeyId::from_random([4; 16]), ..key(KeyState::Active) };
    let judged = |keys: Vec<StoredKey>| {
        let asked = AccessRequest { key: Some(used), ..AccessRequest::default() };
        let account = Account { keys, ..account() };
        let judged = access(&account, &asked, NOW);
        judged.refusals().map(|judged| judged.why.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(judged(vec![other.clone(), key(KeyState::Active)]), [""; 0]);
    assert_eq!(judged(vec![other.clone(), key(KeyState::Retiring { expires: at(1) })]), [""; 0]);
    assert_eq!(judged(vec![other.clone(), key(KeyState::Retiring { expires: NOW })]), ["this key pair has expired"]);
    assert_eq!(judged(vec![other]), ["the account does not have this key pair"]);
}

#[test]
fn each_refusing_rule_has_a_reason() {
    let mut refused = account();
    refused.life = Life::Deleted { since: NOW };
    refused.settings.enabled = false;
    refused.suspension = Some(Suspension { since: NOW, reason: "un\x1b[31mpaid\nlife: pass".to_owned() });
    refused.keys = vec![];
    refused.settings.any_ip = false;
    refused.settings.allowed_ips = texts(&["10.0.0.0/8", "192.0.2.7/32", "10.0.0.0/99"]);
    refused.settings.roles = texts(&["Customer", "root"]);
    refused.settings.affiliate = Some("A".to_owned());
    let asked = AccessRequest {
        key: None,
        ip: Some(ip("::ffff:192.0.2.1")),
        reach: Some(Reach::Endpoint(EndpointGroup::Plans)),
        affiliate: Some("B".to_owned()),
    };
    let access = access(&refused, &asked, NOW);
    assert!(access.rules.iter().all(|judged| judged.verdict == Verdict::Fail));
    let said: Vec<_> = access.refusals().map(|judged| format!("{}: {}", judged.rule.as_str(), judged.why)).collect();
    assert_eq!(
        said,
        [
            "life: the account is deleted since 1970-01-01T00:00:00Z",
            "enabled: the account is disabled",
            r#"suspension: the account is suspended since 1970-01-01T00:00:00Z: "un\u{1b}[31mpaid\nlife: pass""#,
            "keys: the account has no key pair",
            "address: 192.0.2.1 is in none of the networks 10.0.0.0/8, 192.0.2.7/32; \"10.0.0.0/99\" cannot be read and matches nothing",
            r#"endpoints: the account is Customer, which does not open Plans; "root" is not a role and grants no access"#,
            r#"plans: the account sees only the plans of "A", and not those of "B""#,
        ]
    );
}

#[test]
fn a_rule_that_is_not_asked_reports_what_the_account_may_do() {
    let mut account = account();
    account.settings.any_ip = false;
    account.settings.allowed_ips = texts(&["10.0.0.0/8"]);
    account.settings.roles = texts(&["Customer"]);
    let asked = AccessRequest::default();
    let access = access(&account, &asked, NOW);
    let said = access.rules.map(|judged| (judged.verdict, judged.why.to_string()));
    let said: Vec<_> = said.iter().map(|(verdict, why)| (*verdict, why.as_str())).collect();
    assert_eq!(
        said[3..],
        [
            (Verdict::Pass, "the account has a key pair to authenticate with"),
            (Verdict::NotAsked, "only from 10.0.0.0/8"),
            (Verdict::NotAsked, "the account is Customer and reaches MyAccount"),
            (Verdict::NotAsked, "the account sees every affiliate's plans"),
        ]
    );
    assert!(access.is_allowed());
    assert_eq!(access.endpoints().collect::<Vec<_>>(), [EndpointGroup::MyAccount]);
}

fn any_account() -> impl Strategy<Value = Account> {
    let role = prop::sample::select(vec!["Customer", "PlansAndRates", "Administrator", "Superuser"]);
    let network =
        prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16", "192.0.2.0/24", "2001:db8::/32", "0.0.0.0/0", "?"]);
    let state = prop_oneof![Just(KeyState::Active), (-2_i64..3).prop_map(|s| KeyState::Retiring { expires: at(s) })];
    (
        prop::collection::btree_set(role.prop_map(str::to_owned), 0..4),
        prop::collection::btree_set(network.prop_map(str::to_owned), 0..4),
        prop::collection::vec(state.prop_map(key), 0..3),
        any::<[bool; 4]>(),
        prop::option::of("[AB]"),
    )
        .prop_map(|(roles, allowed_ips, keys, [enabled, any_ip, suspended, deleted], affiliate)| {
            let mut account = account();
            account.life = if deleted { Life::Deleted { since: NOW } } else { Life::Live };
            account.suspension = suspended.then(suspension);
            account.keys = keys;
            account.settings = StoredSettings { enabled, affiliate, roles, any_ip, allowed_ips, ..account.settings };
            account
        })
}

fn any_use() -> impl Strategy<Value = AccessRequest> {
    let ips = vec![
        Some(ip("10.1.2.3")),
        Some(ip("10.200.0.1")),
        Some(ip("::ffff:10.1.2.3")),
        Some(ip("192.0.2.9")),
        Some(ip("2001:db8::1")),
        None,
    ];
    let reaches: Vec<_> = REACHES.iter().map(|(reach, _)| Some(*reach)).chain([None]).collect();
    let keys = vec![None, Some(KeyId::from_random([3; 16])), Some(KeyId::from_random([4; 16]))];
    (prop::sample::select(keys), prop::sample::select(ips), prop::sample::select(reaches), prop::option::of("[ABC]"))
        .prop_map(|(key, ip, reach, affiliate)| AccessRequest { key, ip, reach, affiliate })
}

/// Returns the account with the restriction number `way`; `which` selects the entry to remove.
fn restricted(account: &Account, way: u8, which: usize) -> Account {
    let mut account = account.clone();
    let nth = |texts: &BTreeSet<String>| texts.iter().nth(which % texts.len().max(1)).cloned();
    match way {
        0 => account.settings.enabled = false,
        1 => account.suspension = Some(suspension()),
        2 => account.life = Life::Deleted { since: NOW },
        3 => account.keys.truncate(which),
        4 => account.settings.any_ip = false,
        5 => {
            if let Some(gone) = nth(&account.settings.allowed_ips) {
                account.settings.allowed_ips.remove(&gone);
            }
        }
        6 => {
            if let Some(gone) = nth(&account.settings.roles) {
                account.settings.roles.remove(&gone);
            }
        }
        7 => account.settings.affiliate = account.settings.affiliate.or_else(|| Some("A".to_owned())),
        8 => {
            account.settings.allowed_ips.insert("neither address nor network".to_owned());
        }
        9 => {
            account.settings.roles.insert("Nobody".to_owned());
        }
        _ => account.keys.iter_mut().for_each(|key| key.state = KeyState::Retiring { expires: NOW }),
    }
    account
}

/// Returns a key pair whose sealed secret key has this many octets.
fn key_of(number: u8, octets: usize, state: KeyState) -> StoredKey {
    let sealed = SealedSecret { sealed_with: "k".to_owned(), bytes: vec![0; 12 + octets + 16] };
    StoredKey { id: KeyId::from_random([number; 16]), sealed, ..key(state) }
}

#[test]
fn nobody_logs_in_with_a_secret_key_that_is_too_short() {
    let judged = |keys: Vec<StoredKey>, asked: Option<u8>| {
        let account = Account { keys, ..account() };
        let asked = AccessRequest { key: asked.map(|number| KeyId::from_random([number; 16])), ..Default::default() };
        let judged = access(&account, &asked, NOW).rules[3];
        assert_eq!(judged.rule, Rule::Keys);
        (judged.verdict, judged.why.to_string())
    };
    let (short, long) = (key_of(1, 31, KeyState::Active), key_of(2, 32, KeyState::Active));
    assert_eq!(judged(vec![long.clone()], None).0, Verdict::Pass);
    let (verdict, why) = judged(vec![short.clone()], None);
    assert!(verdict == Verdict::Fail && why.contains("fewer than 32 characters"), "{why}");
    let both = vec![long, short];
    assert_eq!(judged(both.clone(), None).1, "the account has a key pair to authenticate with");
    assert_eq!([judged(both.clone(), Some(1)).0, judged(both, Some(2)).0], [Verdict::Fail, Verdict::Pass]);
    let retiring = KeyState::Retiring { expires: NOW };
    assert_eq!(judged(vec![key_of(1, 31, retiring)], None).1, "every key pair has expired");
}

proptest! {
    #[test]
    fn a_restriction_never_widens_access(account in any_account(), asked in any_use(), way in 0_u8..11, which in 0_usize..4) {
        let account = restricted(&account, way, which);
        let after = access(&account, &asked, NOW);
        if after.is_allowed() {
            prop_assert!(access(&account, &asked, NOW).is_allowed());
        }
    }

    #[test]
    fn a_use_that_asks_for_less_is_allowed_too(account in any_account(), asked in any_use()) {
        let full = access(&account, &asked, NOW).is_allowed();
        let less = [
            AccessRequest { key: None, ..asked.clone() },
            AccessRequest { ip: None, ..asked.clone() },
            AccessRequest { reach: None, ..asked.clone() },
            AccessRequest { affiliate: None, ..asked },
        ];
        for less in less {
            prop_assert!(!full || access(&account, &less, NOW).is_allowed());
        }
    }

    #[test]
    fn an_invalid_text_in_the_database_grants_no_access(text in "\\PC*", asked in any_use()) {
        let mut account = account();
        account.settings.any_ip = false;
        account.settings.allowed_ips = BTreeSet::from([text.clone()]);
        account.settings.roles = BTreeSet::from([text.clone()]);
        prop_assume!(AllowedIp::from_cidr(&text).is_none());
        let judged = access(&account, &asked, NOW);
        prop_assert!(!judged.is_allowed() && judged.endpoints().next().is_none());
        prop_assert!(judged.rules.iter().all(|judged| !judged.why.to_string().contains(char::is_control)));
    }
}
