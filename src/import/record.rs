//! Parses one account of an import file from its fields, and reports everything that is wrong with it.

use super::secrecy;
use crate::account::{
    AccountName, AffiliateName, AllowedIp, AllowedIps, ApiKey, Description, Role, SecretKey, Settings, UnknownRole,
};
use crate::reconcile::parse_namespace;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashSet};
use std::fmt::Display;

/// The names of the fields: those of `spec`, the namespace and the two keys.
pub const FIELDS: [&str; 10] = [
    "name",
    "description",
    "enabled",
    "useRefreshToken",
    "affiliate",
    "roles",
    "allowedIPs",
    "namespace",
    "apiKey",
    "secretKey",
];

/// The message for a field that contains a secret key.
const NOT_HERE: &str = "contains a secret key, which everybody can read in this field; write it only in secretKey";

/// An account to import, with its keys.
#[derive(Clone)]
pub struct Record {
    /// The settings.
    pub settings: Settings,
    /// The namespace whose resources may adopt the account, if the line names one.
    pub namespace: Option<String>,
    /// The API key.
    pub api_key: ApiKey,
    /// The secret key.
    pub secret_key: SecretKey,
}

/// One line of the file.
pub struct Line {
    /// The number of the line, counted from 1.
    pub number: usize,
    /// The account, or everything that is wrong with the line.
    pub record: Result<Record, Vec<String>>,
}

impl Record {
    /// Parses the fields.
    ///
    /// # Errors
    /// Every problem, with its field. A secret key in another field than `secretKey` is a problem. No message repeats a
    /// value, because a key may be in a wrong field.
    pub fn parse(fields: &Map<String, Value>) -> Result<Self, Vec<String>> {
        let secret_key =
            fields.get("secretKey").and_then(Value::as_str).filter(|text| SecretKey::imported(text).is_ok());
        let mut reader = Reader { fields, secret_key, wrong: Vec::new() };
        let record = reader.record();
        reader.refuse_unknown_fields();
        match record {
            Some(record) if reader.wrong.is_empty() => Ok(record),
            _ => Err(reader.wrong),
        }
    }
}

struct Reader<'a> {
    fields: &'a Map<String, Value>,
    /// The text of `secretKey`, if it is a valid secret key.
    secret_key: Option<&'a str>,
    wrong: Vec<String>,
}

impl Reader<'_> {
    /// Reads the record, and adds every problem to `wrong`. `None`: a required field has no valid value.
    fn record(&mut self) -> Option<Record> {
        let name = self.required("name", AccountName::parse);
        let description = self.optional("description", Description::parse);
        let (enabled, use_refresh_token) = (self.flag("enabled", true), self.flag("useRefreshToken", false));
        let affiliate =
            self.optional("affiliate", |text| AffiliateName::parse(text).map_err(|invalid| invalid.of_field()));
        let roles: BTreeSet<Role> =
            self.list("roles", |text| Role::parse(text).map_err(|_| UnknownRole::FAULT)).into_iter().collect();
        let networks = self.list("allowedIPs", |text| AllowedIp::parse(text).map_err(|invalid| invalid.fault));
        if networks.len() > AllowedIps::MAX_ENTRIES {
            self.add_problem("allowedIPs", format!("has more than {} entries", AllowedIps::MAX_ENTRIES));
        }
        let namespace = self.optional("namespace", parse_namespace);
        let api_key = self.required("apiKey", ApiKey::imported);
        let secret_key = self.required("secretKey", SecretKey::imported);
        let settings = Settings {
            name: name?,
            description: description.unwrap_or_default(),
            enabled,
            use_refresh_token,
            affiliate,
            roles,
            allowed_ips: AllowedIps::from_networks(networks),
        };
        Some(Record { settings, namespace, api_key: api_key?, secret_key: secret_key? })
    }

    fn refuse_unknown_fields(&mut self) {
        let others: Vec<&String> = self.fields.keys().filter(|field| !FIELDS.contains(&field.as_str())).collect();
        for field in others {
            self.wrong.push(format!("unknown {}; the fields are {}", secrecy::field(field), FIELDS.join(", ")));
        }
    }

    fn add_problem(&mut self, field: &str, message: impl Display) {
        self.wrong.push(format!("{field}: {message}"));
    }

    /// Returns the value of a text field; null counts as absent. Null in a flag or a list is a problem instead: the
    /// default of the field may give the account more rights than intended.
    fn given(&self, field: &str) -> Option<&Value> {
        self.fields.get(field).filter(|value| !value.is_null())
    }

    fn required<T, E: Display>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        if self.given(field).is_none() {
            self.add_problem(field, "is missing");
        }
        self.optional(field, parse)
    }

    fn optional<T, E: Display>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let parsed = match self.given(field)? {
            Value::String(text) => parse(text).map_err(|error| error.to_string()).and_then(|value| {
                let is_in_place = field == "secretKey" || !self.has_secret_key(text);
                is_in_place.then_some(value).ok_or_else(|| NOT_HERE.to_owned())
            }),
            _ => Err("must be a text".to_owned()),
        };
        parsed.map_err(|message| self.add_problem(field, message)).ok()
    }

    fn has_secret_key(&self, text: &str) -> bool {
        text.contains(SecretKey::PREFIX) || self.secret_key.is_some_and(|secret_key| text.contains(secret_key))
    }

    fn flag(&mut self, field: &str, default: bool) -> bool {
        match self.fields.get(field) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.add_problem(field, "must be true or false");
                default
            }
        }
    }

    /// Returns the entries, and adds a problem for each wrong entry. With a problem the whole record is refused, so a
    /// wrong list never becomes a shorter list.
    fn list<T, E: Display>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, E>) -> Vec<T> {
        let mut seen = HashSet::new();
        let entries: Vec<Result<T, String>> = match self.fields.get(field) {
            None => Vec::new(),
            Some(Value::Null) => vec![Err("is null; write the entries, or [] for none".to_owned())],
            Some(Value::Array(entries)) => (1..)
                .zip(entries)
                .map(|(number, entry)| match entry {
                    Value::String(text) if !seen.insert(text) => {
                        Err(format!("entry {number} is the same as one before it"))
                    }
                    Value::String(text) if self.has_secret_key(text) => Err(format!("entry {number} {NOT_HERE}")),
                    Value::String(text) => parse(text).map_err(|fault| format!("entry {number} {fault}")),
                    _ => Err(format!("entry {number} must be a text")),
                })
                .collect(),
            Some(_) => vec![Err("must be a list of texts".to_owned())],
        };
        let mut values = Vec::new();
        for entry in entries {
            match entry {
                Ok(value) => values.push(value),
                Err(message) => self.add_problem(field, message),
            }
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SECRET: &str = "legacy-secret-0123456789";

    fn parse(fields: &Value) -> Result<Record, Vec<String>> {
        Record::parse(fields.as_object().unwrap())
    }

    #[test]
    fn a_name_and_two_keys_are_enough() {
        let record = parse(&json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": SECRET })).unwrap();
        assert!(record.settings.enabled && record.settings.allowed_ips.is_any());
        assert_eq!(record.secret_key.expose(), SECRET);
    }

    #[test]
    fn every_problem_is_reported_and_no_key_is_shown() {
        let wrong = parse(&json!({
            "name": " ", "enabled": "yes", "roles": ["Admin"], "allowedIPs": ["10.0.0.1/8", SECRET], "apiKey": 7,
            "secretKey": SECRET, "affilate": "North", "affiliate": null,
        }));
        let wrong = wrong.err().unwrap();
        let fields: Vec<&str> = wrong.iter().map(|message| message.split(':').next().unwrap()).collect();
        let unknown = "unknown field \"affilate\"; the fields are name, description, enabled, useRefreshToken, affiliate, \
                       roles, allowedIPs, namespace, apiKey, secretKey";
        assert_eq!(fields, ["name", "enabled", "roles", "allowedIPs", "allowedIPs", "apiKey", unknown]);
        assert!(!wrong.join("\n").contains(SECRET), "{wrong:?}");
    }

    #[test]
    fn a_repeated_entry_and_an_api_key_equal_to_the_secret_key_are_refused() {
        let wrong = parse(&json!({
            "name": "Acme", "roles": ["Customer", "Customer"], "allowedIPs": ["10.0.0.0/8", "192.0.2.1", "10.0.0.0/8"],
            "apiKey": SECRET, "secretKey": SECRET,
        }));
        let expected = [
            "roles: entry 2 is the same as one before it",
            "allowedIPs: entry 3 is the same as one before it",
            "apiKey: contains a secret key, which everybody can read in this field; write it only in secretKey",
        ];
        assert_eq!(wrong.err().unwrap(), expected);
    }

    #[test]
    fn a_problem_is_reported_by_its_place_when_a_key_is_in_a_wrong_field() {
        let wrong = |more: Value| {
            let mut fields = json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": SECRET });
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            parse(&fields).err().unwrap()
        };
        let list = FIELDS.join(", ");
        assert_eq!(wrong(json!({ SECRET: 1 })), [format!("unknown field of 24 characters; the fields are {list}")]);
        // The columns are shifted, or the key is no text.
        for secret_key in [json!("0123456789abcdef"), json!([SECRET]), json!(null), json!("short")] {
            let shifted = wrong(json!({ "secretKey": secret_key, "allowedIPs": ["::", SECRET], "roles": [SECRET] }));
            assert!(shifted[0].starts_with("roles: entry 1 is not a role; the roles are Customer"), "{shifted:?}");
            assert!(shifted[1].starts_with("allowedIPs: entry 2 is no IP address or CIDR; write it"), "{shifted:?}");
            assert!(!shifted.concat().contains(SECRET), "{shifted:?}");
        }
        let host_bits = wrong(json!({ "allowedIPs": ["10.0.0.1/8"] }));
        assert!(host_bits[0].ends_with("write 10.0.0.0/8 for the network or 10.0.0.1 for the one address"));
        let swapped = wrong(json!({ "apiKey": "opsa_sk_swapped00000000000000" })).concat();
        assert!(swapped.starts_with("apiKey: ") && swapped.ends_with("are the two keys swapped?"), "{swapped}");
    }

    #[test]
    fn a_secret_key_in_another_field_is_refused_and_not_repeated() {
        let with = |field: &str, value: Value, secret_key: &str| {
            let mut fields = json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": secret_key });
            fields.as_object_mut().unwrap().insert(field.to_owned(), value);
            parse(&fields).err()
        };
        for slipped in [SECRET, "opsa_sk_", "opsa_sk_0123"] {
            for field in ["name", "description", "affiliate", "apiKey"] {
                let told = with(field, json!(format!("x-{slipped}")), SECRET);
                assert_eq!(told, Some(vec![format!("{field}: {NOT_HERE}")]), "{slipped}");
            }
            let told = with("roles", json!(["Customer", slipped]), SECRET);
            assert_eq!(told, Some(vec![format!("roles: entry 2 {NOT_HERE}")]), "{slipped}");
        }
        let told = with("name", json!("opsa_sk_\u{e9}0123"), SECRET);
        assert_eq!(told, Some(vec![format!("name: {NOT_HERE}")]));
        let address = "2001:db8:0:1::/64";
        let told = with("allowedIPs", json!([address]), address);
        assert_eq!(told, Some(vec![format!("allowedIPs: entry 1 {NOT_HERE}")]));
        // A text that is too short for a key may be part of any text.
        assert_eq!(with("description", json!("any"), ""), with("description", json!(null), ""));
    }

    #[test]
    fn null_in_a_flag_or_a_list_is_not_the_default() {
        for (field, said) in [
            ("enabled", "enabled: must be true or false"),
            ("useRefreshToken", "useRefreshToken: must be true or false"),
            ("allowedIPs", "allowedIPs: is null; write the entries, or [] for none"),
            ("roles", "roles: is null; write the entries, or [] for none"),
        ] {
            let fields = json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": SECRET, field: null });
            assert_eq!(parse(&fields).err(), Some(vec![said.to_owned()]));
        }
    }

    #[test]
    fn one_bad_address_never_becomes_any_address() {
        let fields = json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": SECRET, "allowedIPs": ["nowhere"] });
        assert!(parse(&fields).is_err());
        let fields = json!({ "name": "Acme", "apiKey": "legacy-1", "secretKey": SECRET, "allowedIPs": "10.0.0.0/8" });
        assert!(parse(&fields).is_err());
    }
}
