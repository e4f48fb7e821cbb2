//! Tests of the key format: keys can be read back, mistyped and swapped keys are refused, and no secret key is printed.

use super::*;
use proptest::prelude::*;

fn pair(api_key: [u8; 16], secret_key: [u8; 32]) -> KeyPair {
    let entropy = KeyEntropy { api_key, secret_key: Zeroizing::new(secret_key) };
    KeyPair::from_entropy(KeyId::from_random([0; 16]), &entropy)
}

/// The form must never change: keys that partners use must stay valid.
#[test]
fn the_text_form_is_fixed() {
    let lowest = pair([0; 16], [0; 32]);
    assert!(lowest.api_key.as_str().starts_with("opsa_pk_0000000000000000000000"));
    assert_eq!(lowest.api_key.as_str().len(), 8 + 22 + 6);
    let highest = pair([0xff; 16], [0xff; 32]);
    // 2^128 - 1 in base62, computed independently of this code.
    assert!(highest.api_key.as_str().starts_with("opsa_pk_7n42DGM5Tflk9n8mt7Fhc7"), "{}", highest.api_key.as_str());
    assert_eq!(highest.secret_key.expose().len(), 8 + 43 + 6);
}

#[test]
fn a_secret_key_is_never_printed() {
    let pair = pair([7; 16], [7; 32]);
    let shown = format!("{pair:?} {} {:?}", pair.secret_key, pair.secret_key);
    assert!(!shown.contains(pair.secret_key.expose()));
    assert!(!shown.contains("opsa_sk_"));
}

#[test]
fn a_key_of_another_program_is_accepted_unchanged_and_a_mistyped_own_key_is_refused() {
    let ours = pair([7; 16], [7; 32]);
    for text in [ours.secret_key.expose(), "8f14e45f-ceea-467f", "p/4Zr+Q==p/4Zr+Q=="] {
        assert_eq!(SecretKey::imported(text).unwrap().expose(), text);
    }
    let mistyped = ours.secret_key.expose().replacen('0', "1", 1);
    for text in ["", "changeme", "with a space in it", "sch\u{f6}n-und-lang-genug", &mistyped, &"x".repeat(129)] {
        assert!(SecretKey::imported(text).is_err(), "{text}");
    }
    assert!(SecretKey::imported("8f14e45f-ceea-467f").unwrap().is_imported());
    assert!(ApiKey::imported("legacy-1").unwrap().is_imported() && !ours.api_key.is_imported());
}

#[test]
fn swapped_keys_are_refused_by_their_prefix() {
    let ours = pair([7; 16], [7; 32]);
    for text in [ours.secret_key.expose(), "opsa_sk_swapped00000000000000"] {
        let error = ApiKey::imported(text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "this is not a valid API key: it begins with opsa_sk_, as a secret key does; are the two keys swapped?"
        );
    }
    for text in [ours.api_key.as_str(), "opsa_pk_swapped000000000000"] {
        assert!(matches!(SecretKey::imported(text), Err(InvalidKey::Swapped { .. })), "{text}");
    }
}

#[test]
fn swapped_keys_in_use_are_read_and_hidden() {
    let ours = pair([7; 16], [7; 32]);
    for text in [ours.secret_key.expose(), "opsa_sk_swapped00000000000000", "id-opsa_sk_swapped00000000"] {
        let key = ApiKey::stored(text).unwrap();
        assert_eq!((key.as_str(), key.printable()), (text, "(hidden)"));
        assert_eq!(format!("{key:?}"), "ApiKey(\"(hidden)\")");
    }
    assert_eq!(SecretKey::stored("opsa_pk_swapped000000000000").unwrap().expose(), "opsa_pk_swapped000000000000");
    assert_eq!(ours.api_key.printable(), ours.api_key.as_str());
    assert!(ApiKey::stored("opsa_pk_hush").is_err() && ApiKey::stored("hush").is_err());
}

#[test]
fn a_cut_key_is_found_by_its_length_and_a_mistyped_one_by_its_checksum() {
    let ours = pair([7; 16], [7; 32]);
    let cut = SecretKey::imported("opsa_sk_secret010123456789").unwrap_err().to_string();
    assert!(cut.contains("it has 26 characters") && cut.ends_with("it has 57 characters"), "{cut}");
    let mistyped = ours.api_key.as_str().replacen("opsa_pk_", "opsa_pk_x", 1);
    assert_eq!(ApiKey::imported(&mistyped[..36]), Err(InvalidKey::Checksum { kind: "API key" }));
    let error = ApiKey::imported("short").unwrap_err().to_string();
    assert_eq!(error, "API keys from other programs have 8 to 128 letters, digits and signs, and no spaces");
}

proptest! {
    #[test]
    fn a_created_key_can_be_read_back(api_key: [u8; 16], secret_key: [u8; 32]) {
        let pair = pair(api_key, secret_key);
        prop_assert_eq!(ApiKey::parse(pair.api_key.as_str()), Ok(pair.api_key.clone()));
        prop_assert_eq!(SecretKey::parse(pair.secret_key.expose()), Ok(pair.secret_key.clone()));
    }

    #[test]
    fn one_wrong_character_is_refused(seed: [u8; 16], at in 8usize..36, to in "[0-9A-Za-z]") {
        let key = pair(seed, [0; 32]).api_key;
        let mut typo = key.as_str().to_owned();
        typo.replace_range(at..=at, &to);
        prop_assume!(typo != key.as_str());
        prop_assert_eq!(ApiKey::parse(&typo), Err(InvalidKey::Checksum { kind: "API key" }));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        prop_assert!(ApiKey::parse(&text).is_err());
        let prefixed = format!("opsa_sk_{text}");
        prop_assert!(SecretKey::parse(&prefixed).is_err());
    }
}
