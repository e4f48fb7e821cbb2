//! Tests of dialects: each reads its own headers and no others.

use super::*;
use http::HeaderValue;
use proptest::prelude::*;
use zeroize::Zeroizing;

const DIALECTS: [Dialect; 3] = [Dialect::Nginx, Dialect::Forward, Dialect::Envoy];

/// The headers that any dialect reads.
static HEADERS: [&HeaderName; 6] =
    [&ORIGINAL_METHOD, &ORIGINAL_URI, &REAL_IP, &FORWARDED_METHOD, &FORWARDED_URI, &FORWARDED_FOR];

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn token() -> AccessToken {
    AccessToken::from_bits(&Zeroizing::new([7; 32]))
}

/// The question of each dialect for `PUT /plans?x=1` from 192.0.2.1.
fn question(dialect: Dialect) -> (Method, &'static str, HeaderMap) {
    match dialect {
        Dialect::Nginx => (
            Method::GET,
            "/authz/nginx",
            headers(&[("x-original-method", "PUT"), ("x-original-uri", "/plans?x=1"), ("x-real-ip", "192.0.2.1")]),
        ),
        Dialect::Forward => (
            Method::GET,
            "/authz/forward",
            headers(&[
                ("x-forwarded-method", "PUT"),
                ("x-forwarded-uri", "/plans?x=1"),
                ("x-forwarded-for", "192.0.2.1"),
            ]),
        ),
        Dialect::Envoy => (Method::PUT, "/authz/envoy/plans?x=1", headers(&[("x-forwarded-for", "192.0.2.1")])),
    }
}

#[test]
fn each_dialect_reads_its_question() {
    for dialect in DIALECTS {
        let (method, path, mut headers) = question(dialect);
        headers.insert(AUTHORIZATION, format!("Bearer {}", token().expose()).parse().unwrap());
        let request = dialect.read(&method, path, &headers).unwrap();
        let expected =
            ProxiedRequest { method: Method::PUT, target: "/plans?x=1", forwarded: "192.0.2.1", token: Ok(token()) };
        assert_eq!(request, expected);
    }
}

#[test]
fn a_missing_empty_repeated_or_unreadable_header_is_refused() {
    for dialect in DIALECTS {
        let (method, path, whole) = question(dialect);
        for name in whole.keys() {
            let refused = |headers: &HeaderMap| dialect.read(&method, path, headers).unwrap_err();
            let header = HEADERS.into_iter().find(|header| name == *header).unwrap();
            let mut headers = whole.clone();
            headers.insert(name, HeaderValue::from_static(""));
            assert_eq!(refused(&headers), DialectError::Missing { header });
            headers.insert(name, HeaderValue::from_bytes(b"/pl\xe4ns").unwrap());
            assert_eq!(refused(&headers), DialectError::Unreadable { header });
            headers.insert(name, whole[name].clone());
            headers.append(name, whole[name].clone());
            assert_eq!(refused(&headers), DialectError::Repeated { header });
            headers.remove(name);
            assert_eq!(refused(&headers), DialectError::Missing { header });
        }
    }
}

#[test]
fn a_value_that_cannot_be_meant_is_refused() {
    let (method, path, mut headers) = question(Dialect::Nginx);
    headers.insert("x-real-ip", HeaderValue::from_static("192.0.2.9, 192.0.2.1"));
    let refused = Dialect::Nginx.read(&method, path, &headers).unwrap_err();
    assert_eq!(refused, DialectError::Repeated { header: &REAL_IP });
    let (method, path, mut headers) = question(Dialect::Forward);
    headers.insert("x-forwarded-method", HeaderValue::from_static("GET, PUT"));
    let refused = Dialect::Forward.read(&method, path, &headers).unwrap_err();
    assert_eq!(refused, DialectError::Unreadable { header: &FORWARDED_METHOD });
    let (method, _, headers) = question(Dialect::Envoy);
    for path in ["/authz/envoy", "/authz/envoyplans", "/authz/envoy?x", "/AUTHZ/envoy/plans", "/plans", ""] {
        assert_eq!(Dialect::Envoy.read(&method, path, &headers).unwrap_err(), DialectError::Prefix, "{path}");
    }
    assert_eq!(Dialect::Envoy.read(&method, "/authz/envoy//plans", &headers).unwrap().target, "//plans");
}

#[test]
fn the_token_is_read_from_one_authorization_header() {
    let token = token();
    for (values, expected) in [
        (vec![], Err(TokenFault::Missing)),
        (vec![format!("bearer  {} ", token.expose())], Ok(token.clone())),
        (vec![format!("Bearer {}", token.expose()); 2], Err(TokenFault::Repeated)),
        (vec!["Bearer".to_owned()], Err(TokenFault::Scheme)),
        (vec![format!("Basic {}", token.expose())], Err(TokenFault::Scheme)),
        (vec![token.expose().to_owned()], Err(TokenFault::Scheme)),
        (vec![format!("Bearer {},", token.expose())], Err(TokenFault::Malformed)),
        (vec![format!("Bearer {0} {0}", token.expose())], Err(TokenFault::Malformed)),
        (vec!["Bearer x".to_owned()], Err(TokenFault::Malformed)),
    ] {
        let (method, path, mut headers) = question(Dialect::Envoy);
        for value in &values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        assert_eq!(Dialect::Envoy.read(&method, path, &headers).unwrap().token, expected, "{values:?}");
    }
}

proptest! {
    /// Whatever a client adds, a dialect reads the same request as without it.
    #[test]
    fn headers_of_other_dialects_and_aliases_change_nothing(
        added in prop::collection::vec((any::<prop::sample::Index>(), 0..4_usize, "[a-zA-Z0-9/.,]{0,12}"), 0..8),
    ) {
        for dialect in DIALECTS {
            let (method, path, own) = question(dialect);
            let mut headers = own.clone();
            for (which, form, value) in &added {
                let name = HEADERS[which.index(HEADERS.len())].as_str();
                let alias = match form {
                    0 => name.replace('-', "_"),
                    1 => name.replace('-', "."),
                    2 => format!("{name}-"),
                    _ if own.contains_key(name) => "x-envoy-external-address".to_owned(),
                    _ => name.to_owned(),
                };
                headers.append(HeaderName::from_bytes(alias.as_bytes()).unwrap(), value.parse().unwrap());
            }
            prop_assert_eq!(dialect.read(&method, path, &headers), dialect.read(&method, path, &own));
        }
    }

    #[test]
    fn no_header_makes_the_parser_panic(
        value in prop::collection::vec((0x20..=0xff_u8).prop_filter("no header has it", |byte| *byte != 0x7f), 0..40),
        which: prop::sample::Index,
        path in "\\PC*",
    ) {
        for dialect in DIALECTS {
            let (method, _, mut headers) = question(dialect);
            headers.insert(HEADERS[which.index(HEADERS.len())], HeaderValue::from_bytes(&value).unwrap());
            headers.insert(AUTHORIZATION, HeaderValue::from_bytes(&value).unwrap());
            if let Ok(request) = dialect.read(&method, &path, &headers) {
                prop_assert!(request.token.is_err());
            }
        }
    }
}
