//! Parts of the schema that say more than a Rust type can: sets, enumerations in lists, bounds for CEL's cost.

use crate::account::{AllowedIps, Role};
use schemars::{Schema, SchemaGenerator, json_schema};

/// A set of role names.
pub(super) fn roles(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": [],
        "maxItems": Role::ALL.len(),
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "enum": Role::ALL.map(Role::as_str) },
    })
}

/// A set of addresses and networks in canonical text.
pub(super) fn allowed_ips(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "default": [],
        "maxItems": AllowedIps::MAX_ENTRIES,
        "x-kubernetes-list-type": "set",
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
                    "messageExpression": "'has bits set after its prefix; write ' + string(cidr(self).masked()) + ' for the network or ' + string(cidr(self).ip()) + ' for the one address'",
                },
                {
                    "rule": "!isIP(self) || ip.isCanonical(self)",
                    "messageExpression": "'is not in canonical form; write ' + string(ip(self))",
                },
                {
                    "rule": "!isCIDR(self) || cidr(self) != cidr(self).masked() || string(cidr(self)) == self",
                    "messageExpression": "'is not in canonical form; write ' + string(cidr(self))",
                },
            ],
        },
    })
}

/// A map of texts, bounded so that the API server can bound the cost of its rules.
pub(super) fn labels_or_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 4096 },
    })
}
