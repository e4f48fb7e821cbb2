//! Tests of forms: what is read, what is refused, and that a secret is noticed wherever it is.

use super::*;
use proptest::prelude::*;

const TYPE: &str = "client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";

fn headers(content_type: &str) -> HeaderMap {
    HeaderMap::from_iter([(CONTENT_TYPE, content_type.parse().unwrap())])
}

fn read(body: &str) -> Result<TokenRequest, FormRefusal> {
    TokenRequest::read(&headers(FORM_TYPE), None, body.as_bytes())
}

fn refused(body: &str) -> FormRefusal {
    read(body).unwrap_err()
}

#[test]
fn forms_of_both_grants_are_read() {
    let body = format!("grant_type=client_credentials&scope=&resource=x&{TYPE}&client_assertion=a.b.c");
    let request = read(&body).unwrap();
    assert!(matches!(request.grant, Grant::ClientCredentials));
    assert_eq!((request.client.assertion.as_str(), request.client.client_id), ("a.b.c", None));
    let body = format!("grant_type=refresh_token&refresh_token=r+t&{TYPE}&client_assertion=a&client_id=id%2B1");
    let request = read(&body).unwrap();
    assert!(matches!(&request.grant, Grant::RefreshToken(token) if token.as_str() == "r t"));
    assert_eq!(request.client.client_id.as_deref(), Some("id+1"));
}

#[test]
fn a_form_of_a_revocation_is_read() {
    let body = format!("token=t&token_type_hint=access_token&{TYPE}&client_assertion=a");
    let request = RevocationRequest::read(&headers(FORM_TYPE), None, body.as_bytes()).unwrap();
    assert_eq!(request.token.as_str(), "t");
    let body = format!("token=&{TYPE}&client_assertion=a");
    let refused = RevocationRequest::read(&headers(FORM_TYPE), None, body.as_bytes()).unwrap_err();
    assert_eq!(refused, FormRefusal::NoToken);
}

#[test]
fn each_mistake_has_its_reason() {
    let whole = format!("grant_type=client_credentials&{TYPE}&client_assertion=a");
    for (body, reason) in [
        (String::new(), FormRefusal::NoGrantType),
        ("grant_type=".to_owned(), FormRefusal::NoGrantType),
        ("grant_type=password".to_owned(), FormRefusal::GrantType),
        ("grant_type=Client_Credentials".to_owned(), FormRefusal::GrantType),
        (format!("grant_type=client_credentials&{TYPE}"), FormRefusal::NoAssertion),
        ("grant_type=client_credentials&client_assertion=a".to_owned(), FormRefusal::AssertionType),
        (format!("grant_type=client_credentials&client_assertion=a&{TYPE}x"), FormRefusal::AssertionType),
        (
            format!("grant_type=client_credentials&client_assertion=a&{}", TYPE.to_uppercase()),
            FormRefusal::AssertionType,
        ),
        (format!("grant_type=refresh_token&{TYPE}&client_assertion=a"), FormRefusal::NoRefreshToken),
        (format!("{whole}&grant_type=client_credentials"), FormRefusal::Repeated),
        (format!("{whole}&g%72ant_type="), FormRefusal::Repeated),
        (format!("{whole}&unknown=1&unknow%6e=2"), FormRefusal::Repeated),
        (format!("{whole}&x={}", "x".repeat(MAX_FORM_BYTES)), FormRefusal::TooLarge),
    ] {
        assert_eq!(refused(&body), reason, "{body:.200}");
    }
    for (content_type, is_refused) in [
        (FORM_TYPE, false),
        ("Application/X-WWW-Form-Urlencoded; charset=UTF-8", false),
        ("application/json", true),
        ("multipart/form-data; boundary=x", true),
        ("", true),
    ] {
        let read = TokenRequest::read(&headers(content_type), None, whole.as_bytes());
        assert_eq!(read.err(), is_refused.then_some(FormRefusal::ContentType), "{content_type}");
    }
    assert_eq!(TokenRequest::read(&headers(FORM_TYPE), Some("x=1"), whole.as_bytes()).unwrap_err(), FormRefusal::Query);
}

#[test]
fn a_form_of_exactly_the_limit_is_read() {
    let whole = format!("grant_type=client_credentials&{TYPE}&client_assertion=a&x=");
    let body = format!("{whole}{}", "x".repeat(MAX_FORM_BYTES - whole.len()));
    assert!(read(&body).is_ok());
    assert_eq!(refused(&format!("{body}x")), FormRefusal::TooLarge);
}

/// The secret is noticed even if the rest of the request is wrong.
#[test]
fn a_secret_is_noticed_wherever_it_is() {
    let claimed = ApiKey::imported("legacy-1").ok();
    let with_key = FormRefusal::SecretTravelled { claimed };
    let without_key = FormRefusal::SecretTravelled { claimed: None };
    assert_eq!(refused("client_secret=s&client_id=legacy-1"), with_key);
    assert_eq!(refused("client%5Fsecret=s&client_secret=s&client_id=no key"), without_key);
    let body = format!("grant_type=client_credentials&{TYPE}&client_assertion=a&client_secret=s");
    assert_eq!(refused(&body), without_key);
    assert!(read(&body.replace("client_secret=s", "client_secret=")).is_ok());
    let in_query = TokenRequest::read(&headers("text/plain"), Some("client_id=legacy-1&client_secret=s"), b"");
    assert_eq!(in_query.unwrap_err(), with_key);
    let mut headers = headers(FORM_TYPE);
    for (value, expected) in [
        (format!("Basic {}", STANDARD.encode("legacy-1:secret")), &with_key),
        (format!("basic {}", STANDARD.encode("legacy-1:")), &with_key),
        ("Basic ?".to_owned(), &without_key),
        ("Bearer opsa_sk_x".to_owned(), &without_key),
    ] {
        headers.insert(AUTHORIZATION, value.parse().unwrap());
        assert_eq!(TokenRequest::read(&headers, None, body.as_bytes()).unwrap_err(), *expected, "{value}");
    }
}

#[test]
fn a_form_is_never_printed() {
    let body = format!("grant_type=refresh_token&refresh_token=hush&{TYPE}&client_assertion=hush&token=hush");
    let revocation = RevocationRequest::read(&headers(FORM_TYPE), None, body.as_bytes()).unwrap();
    let shown = format!("{:?} {revocation:?}", read(&body).unwrap());
    assert!(!shown.contains("hush"), "{shown}");
}

/// Writes each character of the name plainly or percent-encoded.
fn any_encoding(name: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(any::<bool>(), name.len()).prop_map(move |encoded| {
        let each = name.bytes().zip(encoded);
        each.map(|(byte, encoded)| if encoded { format!("%{byte:02x}") } else { char::from(byte).to_string() })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_parameter_is_the_same_however_it_is_encoded(
        once in any_encoding("grant_type"),
        again in any_encoding("grant_type"),
        assertion in any_encoding("client_assertion"),
    ) {
        let body = format!("{once}=client_credentials&{TYPE}&{assertion}=a");
        prop_assert!(read(&body).is_ok());
        prop_assert_eq!(refused(&format!("{body}&{again}=client_credentials")), FormRefusal::Repeated);
    }

    #[test]
    fn a_secret_is_noticed_however_it_is_encoded(name in any_encoding("client_secret"), before in "[a-z&=%]{0,20}") {
        let refused = refused(&format!("{before}&{name}=s"));
        prop_assert!(matches!(refused, FormRefusal::SecretTravelled { .. }), "{refused:?}");
    }

    #[test]
    fn no_body_makes_the_parser_panic(body: Vec<u8>, query in prop::option::of("\\PC*")) {
        let read = TokenRequest::read(&headers(FORM_TYPE), query.as_deref(), &body);
        prop_assert!(read.is_err());
    }
}
