//! JSON objects of a client in which no key is there twice.
//!
//! RFC 7519 section 4 lets a reader refuse a repeated key or take the last one. Two readers that differ in this could
//! be made to see two different assertions.

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// Reads an object; `None` for anything else, and for an object in which a key is repeated at any depth.
pub(super) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice(bytes) {
        Ok(Unique(Value::Object(object))) => Some(object),
        Ok(_) | Err(_) => None,
    }
}

/// A value without repeated keys.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated keys")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Unique(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = entries.next_entry()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key is repeated"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_object_without_repeated_keys_is_read_as_any_parser_reads_it() {
        let text = r#"{"a": [1, -2, 3.5, null, true, {"a": "\u00e9"}], "b": {"a": {}}}"#;
        assert_eq!(object(text.as_bytes()).map(Value::Object), serde_json::from_str(text).ok());
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            r#"{"a": 1, "a": 1}"#,
            r#"{"a": 1, "\u0061": 1}"#,
            r#"{"x": {"a": 1, "a": 2}}"#,
            r#"{"x": [{"a": 1, "a": 2}]}"#,
            "[]",
            "{} {}",
            "{",
            "",
            "\u{feff}{}",
            r#"{"a": 1e999}"#,
            r#"{"a": NaN}"#,
            r#"{"a": "\ud800"}"#,
            "{'a': 1}",
            r#"{"a": 1,}"#,
        ] {
            assert_eq!(object(text.as_bytes()), None, "{text}");
        }
        assert_eq!(object(b"{\"a\": \"\xff\"}"), None);
        assert_eq!(object("[".repeat(10_000).as_bytes()), None);
        assert_eq!(object(format!("{{\"a\":{}", "[".repeat(10_000)).as_bytes()), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            prop_assert_eq!(object(&bytes), None);
        }

        #[test]
        fn a_repeated_key_is_refused_anywhere(keys in prop::collection::btree_set("[a-z]{1,3}", 1..6), at: prop::sample::Index) {
            let entries: Vec<_> = keys.iter().map(|key| format!("{}:1", json!(key))).collect();
            let whole = format!("{{{}}}", entries.join(","));
            prop_assert_eq!(object(whole.as_bytes()).map(|object| object.len()), Some(keys.len()));
            let repeated = format!("{{{},{}}}", entries.join(","), entries[at.index(entries.len())]);
            prop_assert_eq!(object(repeated.as_bytes()), None);
        }
    }
}
