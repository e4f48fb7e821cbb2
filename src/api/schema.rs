//! The parts of the schema that Rust types cannot express: atomic lists, enumerations in lists, and bounds for the cost
//! of CEL rules.

use super::EVERY_ADDRESS;
use crate::account::{AffiliateName, AllowedIps, EVERY_AFFILIATE, Role};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

/// The list type of server-side apply that replaces a list as a whole. In a list of type `set`, entries of other field
/// managers would stay: a sync must not leave a role or an address that its manifest does not have.
const ATOMIC: &str = "atomic";

/// Returns the rule that no entry is listed twice. The message is the same as in the program's own check of a spec.
fn each_once() -> Value {
    json!({
        "rule": "self.all(entry, self.indexOf(entry) == self.lastIndexOf(entry))",
        "message": "must not list an entry twice",
        "messageExpression":
            "self.filter(entry, self.indexOf(entry) != self.lastIndexOf(entry))[0] + ' is listed twice'",
    })
}

/// Returns the schema of a list of role names.
pub(super) fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": [],
        "maxItems": Role::ALL.len(),
        "x-kubernetes-list-type": ATOMIC,
        "x-kubernetes-validations": [each_once()],
        "items": { "type": "string", "enum": Role::ALL.map(Role::as_str) },
    })
}

/// Returns the schema of an affiliate's name or [`EVERY_AFFILIATE`].
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

/// Returns the schema of a list of addresses and networks in canonical form.
pub(super) fn allowed_ips(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": EVERY_ADDRESS,
        "maxItems": AllowedIps::MAX_ENTRIES,
        "x-kubernetes-list-type": ATOMIC,
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

/// Returns the schema of labels, with bounds from which the API server can estimate the cost of their rules.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    bounded_map(63)
}

/// Returns the schema of annotations, with bounds from which the API server can estimate the cost of their rules.
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
