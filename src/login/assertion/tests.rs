//! Tests of assertions: a corpus of good and hostile ones, the order of the checks, and properties of the parser.

use super::*;
use proptest::prelude::*;
use serde::Deserialize;
use serde_json::json;

const API_KEY: &str = "partner-acme-1";
const SECRET: &str = "a-secret-key-of-another-program-1";
const ISSUER: &str = "https://login.example.com";
const NOW: i64 = 1000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn key() -> KeyId {
    KeyId::from_random([5; 16])
}

fn secret(text: &str) -> SecretKey {
    SecretKey::stored(text).unwrap()
}

fn audience() -> Audience {
    Audience { issuer: ISSUER.to_owned(), token_endpoint: format!("{ISSUER}/token") }
}

fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// Signs the texts of a header and of claims, as RFC 7515 section 5.1 says.
fn signed(header: &str, claims: &str, secret: &str) -> String {
    let signed = format!("{}.{}", part(header), part(claims));
    let signature = mac(secret, &signed).finalize().into_bytes();
    format!("{signed}.{}", part(signature))
}

fn good() -> String {
    let claims = json!({ "iss": API_KEY, "sub": API_KEY, "aud": ISSUER, "exp": NOW + 60, "jti": "1" });
    signed(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET)
}

/// Judges an assertion as the token endpoint does.
fn judge_at(text: &str, now: Timestamp) -> Result<UsedAssertion, AssertionRefusal> {
    let assertion = UnverifiedAssertion::parse(text, None)?;
    assert_eq!(assertion.api_key().as_str(), API_KEY);
    assertion.verify(Some((key(), &secret(SECRET))))?.accept(&audience(), now)
}

fn judge(text: &str) -> Result<UsedAssertion, AssertionRefusal> {
    judge_at(text, at(NOW))
}

#[derive(Deserialize)]
struct Case {
    name: String,
    header: Value,
    claims: Value,
    reason: Option<String>,
}

#[test]
fn the_corpus_is_judged_as_it_says() {
    let corpus = include_str!("corpus.json").replace("KEY", API_KEY).replace("ISSUER", ISSUER);
    let cases: Vec<Case> = serde_json::from_str(&corpus).unwrap();
    for Case { name, header, claims, reason } in cases {
        let judged = judge(&signed(&header.to_string(), &claims.to_string(), SECRET));
        assert_eq!(judged.err().map(AssertionRefusal::as_str), reason.as_deref(), "{name}");
    }
}

/// The example of RFC 7515 appendix A.1 shows that MAC and encoding are those of the standard.
#[test]
fn the_mac_is_that_of_the_standard() {
    let signed = "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let key = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let mut mac: Hmac<Sha256> = Hmac::new_from_slice(&URL_SAFE_NO_PAD.decode(key).unwrap()).unwrap();
    mac.update(signed.as_bytes());
    assert_eq!(part(mac.finalize().into_bytes()), "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
}

#[test]
fn an_accepted_assertion_is_remembered_longer_than_any_clock_accepts_it() {
    let used = judge(&good()).unwrap();
    assert_eq!((used.key, used.hash), (key(), AssertionHash::of("1")));
    assert_eq!(judge_at(&good(), at(NOW + 69)).unwrap(), used);
    assert_eq!(judge_at(&good(), at(NOW + 70)), Err(AssertionRefusal::Expired));
    assert_eq!(used.until, at(NOW + 70 + 60));
}

#[test]
fn other_forms_are_refused() {
    let good = good();
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("{good}") };
    for text in [
        String::new(),
        ".".to_owned(),
        "..".to_owned(),
        format!("{header}.{claims}"),
        format!("{good}."),
        format!("{good}.x"),
        format!(" {good}"),
        format!("{good}="),
        format!("{header}=.{claims}.{signature}"),
        format!("{header}.{claims}.{}", signature.replace(['-', '_'], "+")) + "+",
        format!("{header}\n.{claims}.{signature}"),
        format!("{}.{claims}.{signature}", part("[]")),
        format!("{}.{claims}.{signature}", part(r#"{"alg":"none","alg":"HS256"}"#)),
        format!("{header}.{}.{signature}", part(r#"{"iss":"a","iss":"b"}"#)),
        format!("{header}.{}.{signature}", part("\u{feff}{}")),
    ] {
        assert_eq!(judge(&text).err(), Some(AssertionRefusal::Malformed), "{text}");
    }
}

/// The last character of 32 bytes in base64url has two unused bits. Other values of them would be other texts of the
/// same signature.
#[test]
fn a_signature_has_one_text() {
    let good = good();
    let (rest, last) = good.split_at(good.len() - 1);
    let accepted = ('0'..='z').filter(|other| judge(&format!("{rest}{other}")).is_ok());
    assert_eq!(accepted.map(String::from).collect::<Vec<_>>(), [last]);
}

#[test]
fn the_client_id_must_name_the_same_key() {
    assert!(UnverifiedAssertion::parse(&good(), Some(API_KEY)).is_ok());
    for other in ["", "partner-acme-2", "PARTNER-ACME-1"] {
        assert_eq!(UnverifiedAssertion::parse(&good(), Some(other)).unwrap_err(), AssertionRefusal::Names, "{other}");
    }
}

#[test]
fn only_the_secret_key_of_the_pair_verifies() {
    let (right, wrong) = (secret(SECRET), secret(&SECRET.to_uppercase()));
    let verified = |pair| UnverifiedAssertion::parse(&good(), None).unwrap().verify(pair).map(|_| ());
    assert_eq!(verified(Some((key(), &right))), Ok(()));
    assert_eq!(verified(Some((key(), &wrong))), Err(AssertionRefusal::Signature));
    assert_eq!(verified(None), Err(AssertionRefusal::UnknownKey));
    // Whoever signs with the dummy key is still unknown.
    let claims = json!({ "iss": API_KEY, "sub": API_KEY });
    let with_dummy = signed(r#"{"alg":"HS256"}"#, &claims.to_string(), DUMMY_KEY);
    let unknown = UnverifiedAssertion::parse(&with_dummy, None).unwrap().verify(None);
    assert_eq!(unknown.unwrap_err(), AssertionRefusal::UnknownKey);
}

#[test]
fn a_secret_key_of_31_octets_is_too_short() {
    for (octets, expected) in [(31, Err(AssertionRefusal::ShortSecret)), (32, Ok(())), (65, Ok(())), (128, Ok(()))] {
        let key_text = "s".repeat(octets);
        let claims = json!({ "iss": API_KEY, "sub": API_KEY });
        let text = signed(r#"{"alg":"HS256"}"#, &claims.to_string(), &key_text);
        let assertion = UnverifiedAssertion::parse(&text, None).unwrap();
        assert_eq!(assertion.verify(Some((key(), &secret(&key_text)))).map(|_| ()), expected, "{octets}");
    }
}

/// An assertion in which everything is wrong is refused for the first reason of the list.
#[test]
fn the_checks_run_in_their_order() {
    let mut header = json!({ "alg": "none", "typ": "at+jwt", "crit": [] });
    let mut claims = json!({ "iss": "someone-else", "sub": API_KEY, "iat": NOW + 100 });
    let mut short = true;
    let mut signs = false;
    let mut reasons = Vec::new();
    for _ in 0..11 {
        let key_text = if short { "a-short-secret-key" } else { SECRET };
        let signing = if signs { key_text } else { "another-key" };
        let text = signed(&header.to_string(), &claims.to_string(), signing);
        let judged = UnverifiedAssertion::parse(&text, None)
            .and_then(|unverified| unverified.verify(Some((key(), &secret(key_text)))))
            .and_then(|verified| verified.accept(&audience(), at(NOW)));
        let Err(reason) = judged else { break };
        reasons.push(reason);
        // Corrects exactly what was refused.
        match reason {
            AssertionRefusal::Critical => drop(header.as_object_mut().unwrap().remove("crit")),
            AssertionRefusal::Algorithm => header["alg"] = json!("HS256"),
            AssertionRefusal::Type => header["typ"] = json!("JWT"),
            AssertionRefusal::Names => claims["iss"] = json!(API_KEY),
            AssertionRefusal::ShortSecret => short = false,
            AssertionRefusal::Signature => signs = true,
            AssertionRefusal::Audience => claims["aud"] = json!(ISSUER),
            AssertionRefusal::Times => claims["exp"] = json!(NOW + 60),
            AssertionRefusal::Early => claims["iat"] = json!(NOW),
            AssertionRefusal::Id => claims["jti"] = json!("1"),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        reasons,
        [
            AssertionRefusal::Critical,
            AssertionRefusal::Algorithm,
            AssertionRefusal::Type,
            AssertionRefusal::Names,
            AssertionRefusal::ShortSecret,
            AssertionRefusal::Signature,
            AssertionRefusal::Audience,
            AssertionRefusal::Times,
            AssertionRefusal::Early,
            AssertionRefusal::Id,
        ]
    );
}

#[test]
fn an_assertion_is_never_printed() {
    let unverified = UnverifiedAssertion::parse(&good(), None).unwrap();
    let shown = format!("{unverified:?}");
    assert_eq!(shown, r#"UnverifiedAssertion { api_key: ApiKey("partner-acme-1"), .. }"#);
    let verified = unverified.verify(Some((key(), &secret(SECRET)))).unwrap();
    assert!(!format!("{verified:?}").contains("login.example.com"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        prop_assert!(UnverifiedAssertion::parse(&text, None).is_err());
    }

    #[test]
    fn no_json_makes_the_checks_panic(header in "\\PC*", claims in "\\PC*", wrap: bool) {
        let header = if wrap { r#"{"alg":"HS256"}"#.to_owned() } else { header };
        prop_assert!(judge(&signed(&header, &claims, SECRET)).is_err());
    }

    #[test]
    fn one_changed_character_is_refused(at: prop::sample::Index, to in "[-_.0-9A-Za-z]") {
        let good = good();
        let mut changed = good.clone();
        let at = at.index(good.len());
        changed.replace_range(at..=at, &to);
        prop_assume!(changed != good);
        let verified = UnverifiedAssertion::parse(&changed, None)
            .and_then(|unverified| unverified.verify(Some((key(), &secret(SECRET)))));
        prop_assert!(verified.is_err());
    }

    /// Whatever the times are, nothing is accepted more than 70 seconds after it was issued, or more than 10 seconds
    /// after it expired, and it is remembered for longer than that.
    #[test]
    fn times_limit_what_is_accepted(
        exp in prop::option::weighted(0.95, -200.0..300.0_f64),
        iat in prop::option::of(-200.0..100.0_f64),
        nbf in prop::option::weighted(0.3, -50.0..50.0_f64),
    ) {
        #[expect(clippy::cast_precision_loss, reason = "the number is small")]
        let now = NOW as f64;
        let mut claims = json!({ "iss": API_KEY, "sub": API_KEY, "aud": ISSUER, "jti": "1" });
        for (claim, ahead) in [("exp", exp), ("iat", iat), ("nbf", nbf)] {
            if let Some(ahead) = ahead {
                claims[claim] = json!(now + ahead);
            }
        }
        let judged = judge(&signed(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET));
        let is_good = exp.is_some_and(|exp| exp > -10.0 && (iat.is_some() || exp <= 70.0))
            && iat.is_none_or(|iat| iat > -70.0 && iat <= 10.0)
            && nbf.is_none_or(|nbf| nbf <= 10.0);
        prop_assert_eq!(judged.is_ok(), is_good, "{:?}", judged);
        if let Ok(used) = judged {
            prop_assert!(used.until > at(NOW + 60));
        }
    }

    #[test]
    fn a_jti_has_at_most_255_bytes(jti in "[a-zé€]{0,300}") {
        let claims = json!({ "iss": API_KEY, "sub": API_KEY, "aud": ISSUER, "exp": NOW + 60, "jti": jti });
        let judged = judge(&signed(r#"{"alg":"HS256"}"#, &claims.to_string(), SECRET));
        prop_assert_eq!(judged.is_ok(), (1..=255).contains(&jti.len()));
    }
}
