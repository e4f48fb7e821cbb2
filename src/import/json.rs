//! Reads JSON and finds fields that an object has more than once. `serde_json` itself keeps the last value and reports
//! nothing.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::fmt;

/// A parsed value, with its repeated fields.
pub struct Json {
    /// The value.
    pub value: Value,
    /// The names of the repeated fields of all objects in the value, once for each repetition.
    pub repeated_fields: Vec<String>,
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        Self { value, repeated_fields: Vec::new() }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Value::Null.into())
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Value::from(value).into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Value::from(value).into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Value::from(value).into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Value::from(value).into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Value::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Json, A::Error> {
        let (mut list, mut twice) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.next_element::<Json>()? {
            list.push(entry.value);
            twice.extend(entry.repeated_fields);
        }
        Ok(Json { value: Value::Array(list), repeated_fields: twice })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let (mut map, mut twice) = (Map::new(), Vec::new());
        while let Some((field, inner)) = fields.next_entry::<String, Json>()? {
            twice.extend(inner.repeated_fields);
            if map.contains_key(&field) {
                twice.push(field.clone());
            }
            map.insert(field, inner.value);
        }
        Ok(Json { value: Value::Object(map), repeated_fields: twice })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_without_repeated_fields_is_read_unchanged() {
        let text = r#"{"a": [1, -2, 0.5, true, null, "x\u00e9"], "b": {"a": {}}}"#;
        let Json { value, repeated_fields: twice } = serde_json::from_str(text).unwrap();
        assert_eq!(value, serde_json::from_str::<Value>(text).unwrap());
        assert!(twice.is_empty());
    }

    #[test]
    fn a_repeated_field_is_found_at_any_depth_and_in_any_spelling() {
        let text = r#"{"a": {"b": 1, "b": 1}, "c": [{"d": 1, "\u0064": 2}], "a": 2}"#;
        assert_eq!(serde_json::from_str::<Json>(text).unwrap().repeated_fields, ["b", "d", "a"]);
    }
}
