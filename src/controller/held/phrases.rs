//! Shortens JSON: each phrase that nearly every resource contains becomes one byte.
//!
//! `serde_json` escapes control characters (RFC 8259, section 7), so the bytes below 0x20 never occur in the text, and
//! stand for the phrases.

/// The phrases. The byte of a phrase is its place in this list, counted from 1. A phrase begins with a quotation mark,
/// and stands before any phrase that it begins with.
const PHRASES: [&str; 31] = [
    r#""apiVersion":"ops-admin.com/v1","kind":"ApiAccount","metadata":{"finalizers":["ops-admin.com/account"],"generation":"#,
    r#""apiVersion":"ops-admin.com/v1","kind":"ApiAccount","metadata":{"#,
    r#"","namespace":""#,
    r#"","resourceVersion":""#,
    r#"","uid":""#,
    r#""},"spec":{"description":""#,
    r#""},"spec":{"#,
    r#"","enabled":true,"useRefreshToken":false,"roles":["#,
    r#"","enabled":true,"useRefreshToken":false,"affiliate":""#,
    r#""secret":{"keys":{"apiKey":"OPSADMIN_API_KEY","secretKey":"OPSADMIN_SECRET_KEY"}},"#,
    r#""secret":{"name":""#,
    r#""keys":{"apiKey":"OPSADMIN_API_KEY","secretKey":"OPSADMIN_SECRET_KEY"}"#,
    r#""rotation":{"interval":""#,
    r#"","overlap":""#,
    r#""adoptionPolicy":"Never","managementPolicy":"Enforce","deletionPolicy":"Delete"},"status":{"#,
    r#""observedGeneration":"#,
    r#""conditions":[{"lastTransitionTime":""#,
    r#"","message":"account and Secret are as declared","observedGeneration":"#,
    r#"","message":""#,
    r#""reason":"Reconciled","status":"True","type":"Ready"}],"accountId":""#,
    r#""reason":""#,
    r#"","status":"False","type":""#,
    r#"","databaseId":""#,
    r#"","secretName":""#,
    r#"","secretResourceVersion":""#,
    r#"","nextRotation":""#,
    r#"","keys":[{"id":""#,
    r#"","apiKey":"opsa_pk_"#,
    r#"","state":"Active","created":""#,
    r#""allowedIPs":["#,
    r#""PlansAndRates""#,
];

/// The first byte that stands for itself.
const FIRST_PLAIN: u8 = 0x20;

/// Returns the shortened text.
pub(super) fn shorten(json: &[u8]) -> Vec<u8> {
    let mut short = Vec::with_capacity(json.len());
    let mut rest = json;
    while !rest.is_empty() {
        let mut phrases = (1..FIRST_PLAIN).zip(&PHRASES);
        if let Some((code, phrase)) = phrases.find(|(_, phrase)| rest.starts_with(phrase.as_bytes())) {
            short.push(code);
            rest = &rest[phrase.len()..];
        } else {
            // No phrase begins before the next quotation mark.
            let next = rest.iter().skip(1).position(|byte| *byte == b'"').map_or(rest.len(), |place| place + 1);
            let (plain, following) = rest.split_at(next);
            short.extend_from_slice(plain);
            rest = following;
        }
    }
    short
}

/// Returns the text that was shortened.
pub(super) fn restore(short: &[u8]) -> Vec<u8> {
    let mut json = Vec::with_capacity(short.len() * 3);
    for part in short.split_inclusive(|byte| *byte < FIRST_PLAIN) {
        match part.split_last() {
            Some((code, plain)) if *code < FIRST_PLAIN => {
                json.extend_from_slice(plain);
                let phrase = code.checked_sub(1).and_then(|place| PHRASES.get(usize::from(place)));
                json.extend_from_slice(phrase.map_or(std::slice::from_ref(code), |phrase| phrase.as_bytes()));
            }
            _ => json.extend_from_slice(part),
        }
    }
    json
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    proptest! {
        #[test]
        fn any_json_is_restored(texts in proptest::collection::vec(any::<String>(), 0..8), place in 0..PHRASES.len()) {
            let mut texts: Vec<Value> = texts.into_iter().map(Value::from).collect();
            texts.push(Value::from(PHRASES[place]));
            let json = serde_json::to_vec(&texts).unwrap();
            prop_assert_eq!(restore(&shorten(&json)), json.clone());
            let repeated = [PHRASES[place].as_bytes(), &json, PHRASES[place].as_bytes()].concat();
            prop_assert_eq!(restore(&shorten(&repeated)), repeated);
        }
    }

    #[test]
    fn no_phrase_hides_a_longer_one() {
        for (place, phrase) in PHRASES.iter().enumerate() {
            assert!(phrase.starts_with('"') && phrase.bytes().all(|byte| byte >= FIRST_PLAIN), "{phrase}");
            assert_eq!(shorten(phrase.as_bytes()), [u8::try_from(place + 1).unwrap()], "{phrase}");
        }
    }
}
