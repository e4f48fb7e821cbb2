//! Checks the names in `spec.secret` against the rules of Kubernetes: Secret names, data keys, labels and annotations.
//!
//! Source: the API server's validation (`k8s.io/apimachinery/pkg/util/validation`): DNS-1123 subdomains, qualified
//! names, label values and config map keys.

use crate::api::{MANAGED_BY_LABEL, RESERVED_PREFIX};
use std::borrow::Cow;

const MAX_SUBDOMAIN: usize = 253;
const MAX_LABEL: usize = 63;
const MAX_ANNOTATION_VALUE: usize = 4096;

type Check = Result<(), Cow<'static, str>>;

/// Checks the name of a Secret, which has to be a DNS-1123 subdomain.
pub(super) fn check_secret_name(name: &str) -> Check {
    if name.chars().count() > MAX_SUBDOMAIN {
        return Err("a Secret's name has at most 253 characters: set a shorter spec.secret.name".into());
    }
    if is_dns_subdomain(name) {
        Ok(())
    } else {
        Err("a Secret's name has lower-case letters, digits, '-' and '.', and begins and ends with a letter or digit"
            .into())
    }
}

/// Checks a key of a Secret's data.
pub(super) fn check_data_key(key: &str) -> Check {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let valid = !key.is_empty()
        && key.len() <= MAX_SUBDOMAIN
        && key.bytes().all(allowed)
        && key != "."
        && !key.starts_with("..");
    if valid {
        Ok(())
    } else {
        Err("a Secret's data key has 1 to 253 letters, digits, '-', '_' and '.', and does not begin with '..'".into())
    }
}

/// Checks the name of a label, and refuses the names that are reserved for this program.
pub(super) fn check_label_name(name: &str) -> Check {
    if name.starts_with(RESERVED_PREFIX) || name == MANAGED_BY_LABEL {
        return Err(format!("labels under {RESERVED_PREFIX} and {MANAGED_BY_LABEL} are the operator's own").into());
    }
    if is_qualified_name(name) { Ok(()) } else { Err(unqualified("a label").into()) }
}

/// Checks the value of a label.
pub(super) fn check_label_value(value: &str) -> Check {
    if value.is_empty() || is_name(value) {
        Ok(())
    } else {
        Err("a label's value has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit"
            .into())
    }
}

/// Checks an annotation: its name, which must not be reserved for this program, and the length of its value.
pub(super) fn check_annotation_name(name: &str, value: &str) -> Check {
    if name.starts_with(RESERVED_PREFIX) {
        return Err(format!("annotations under {RESERVED_PREFIX} are the operator's own").into());
    }
    if value.chars().count() > MAX_ANNOTATION_VALUE {
        return Err(format!("must have at most {MAX_ANNOTATION_VALUE} characters").into());
    }
    // The API server ignores the case of annotation names when it validates them.
    if is_qualified_name(&name.to_ascii_lowercase()) { Ok(()) } else { Err(unqualified("an annotation").into()) }
}

/// Checks the name and the value of any label, reserved or not.
pub(crate) fn check_metadata_label(name: &str, value: &str) -> Check {
    if is_qualified_name(name) { check_label_value(value) } else { Err(unqualified("a label").into()) }
}

/// Checks the name of any annotation, reserved or not.
pub(crate) fn check_metadata_annotation(name: &str) -> Check {
    if is_qualified_name(&name.to_ascii_lowercase()) { Ok(()) } else { Err(unqualified("an annotation").into()) }
}

fn unqualified(what: &str) -> String {
    format!(
        "{what}'s name has at most 63 letters, digits, '-', '_' and '.', and begins and ends with a letter or digit; a DNS prefix and '/' may stand before it"
    )
}

/// Returns whether the text is a DNS-1123 subdomain, as the names of most resources have to be.
pub(crate) fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN && text.split('.').all(is_dns_part)
}

/// Returns whether the text is a DNS-1123 label, as the names of namespaces have to be.
pub(crate) fn is_dns_label(text: &str) -> bool {
    text.len() <= MAX_LABEL && is_dns_part(text)
}

/// Parses the name of a namespace.
///
/// # Errors
/// The text is not a valid namespace name.
pub(crate) fn parse_namespace(text: &str) -> Result<String, String> {
    if is_dns_label(text) { Ok(text.to_owned()) } else { Err("no namespace can have this name".to_owned()) }
}

fn is_dns_part(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

fn is_qualified_name(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => is_dns_subdomain(prefix) && is_name(name),
        None => is_name(text),
    }
}

fn is_name(text: &str) -> bool {
    let edge = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.len() <= MAX_LABEL && edge(text.bytes().next()) && edge(text.bytes().last()) && text.bytes().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_api_servers_rules() {
        for good in ["a", "a-b.c0", &"a".repeat(253)] {
            assert!(check_secret_name(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "a..b", ".a", "A", "a_b", "a/b", &"a".repeat(254)] {
            assert!(check_secret_name(bad).is_err(), "{bad}");
        }
        for good in ["OPSADMIN_API_KEY", "a.b-c_d", ".hidden"] {
            assert!(check_data_key(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "..data", "a/b", "a b", "é"] {
            assert!(check_data_key(bad).is_err(), "{bad}");
        }
        for good in ["team", "example.com/team", "T_e.a-m"] {
            assert!(check_label_name(good).is_ok(), "{good}");
        }
        for bad in ["", "a/b/c", "/a", "a/", "-a", "Ex.com/a", "ops-admin.com/x", MANAGED_BY_LABEL, &"a".repeat(64)] {
            assert!(check_label_name(bad).is_err(), "{bad}");
        }
        assert!(check_label_value("").is_ok() && check_label_value("-").is_err());
        assert!(check_annotation_name("Ex.com/a", "").is_ok() && check_annotation_name("ops-admin.com/a", "").is_err());
    }
}
