//! Parts of the schema that say more than a Rust type can: lists that are one value, enumerations in lists, bounds for CEL's
//! cost.

use super::EVERY_ADDRESS;
use crate::account::{AffiliateName, AllowedIps, EVERY_AFFILIATE, Role};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// Who applies such a list applies all of it. In a set, what somebody else added would stay: a sync must not leave a role or
/// an address that its manifest does not have.
const AS_ONE: &str = "atomic";

/// The rule that no entry is listed twice, in the words that a spec is refused with elsewhere too.
fn each_once() -> Value {
    json!({
        "rule": "self.all(entry, self.indexOf(entry) == self.lastIndexOf(entry))",
        "message": "must not list an entry twice",
        "messageExpression":
            "self.filter(entry, self.indexOf(entry) != self.lastIndexOf(entry))[0] + ' is listed twice'",
    })
}

/// Role names.
pub(super) fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": [],
        "maxItems": Role::ALL.len(),
        "x-kubernetes-list-type": AS_ONE,
        "x-kubernetes-validations": [each_once()],
        "items": { "type": "string", "enum": Role::ALL.map(Role::as_str) },
    })
}

/// An affiliate's name, or every affiliate.
pub(super) fn affiliate(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "default": EVERY_AFFILIATE,
        "maxLength": AffiliateName::MAX_CHARS,
        "x-kubernetes-validations": [
            {
                "rule": "self.trim() == self && size(self) > 0",
                "message": "an affiliate must not be blank, nor begin or end with a space; leave the field out for an account that sees every affiliate's plans",
            },
            {
                "rule": r"!self.matches('[\\x00-\\x1f\\x7f-\\x9f]')",
                "message": "an affiliate must not contain control characters, such as a tab or a line break",
            },
        ],
    })
}

/// Addresses and networks in canonical text.
pub(super) fn allowed_ips(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": EVERY_ADDRESS,
        "maxItems": AllowedIps::MAX_ENTRIES,
        "x-kubernetes-list-type": AS_ONE,
        "x-kubernetes-validations": [each_once()],
        "items": {
            "type": "string",
            "maxLength": 64,
            "x-kubernetes-validations": [
                {
                    "rule": "isIP(self) || isCIDR(self)",
                    "message": "must be an IP address or CIDR like 203.0.113.7, 203.0.113.0/24 or 2001:db8::/32, without leading zeros or a zone, and not an IPv4-mapped IPv6 address",
                },
                {
                    "rule": "!isCIDR(self) || cidr(self) == cidr(self).masked()",
                    "message": "has bits set after its prefix; write 192.168.0.0/16 for the network or 192.168.0.1 for the one address, not 192.168.0.1/16",
                },
                {
                    "rule": "!isIP(self) || ip.isCanonical(self)",
                    "message": "is not in canonical form; write IPv6 in lower case with its longest run of zeros as ::, like 2001:db8::1",
                },
                {
                    "rule": "!isCIDR(self) || ip.isCanonical(self.split('/')[0])",
                    "message": "is not in canonical form; write IPv6 in lower case with its longest run of zeros as ::, like 2001:db8::/32",
                },
            ],
        },
    })
}

/// Labels, bounded so that the API server can bound the cost of their rules.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    bounded_map(63)
}

/// Annotations, bounded so that the API server can bound the cost of their rules.
pub(super) fn annotations(_: &mut SchemaGenerator) -> Schema {
    bounded_map(4096)
}

fn bounded_map(max_length: u16) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": max_length },
    })
}
