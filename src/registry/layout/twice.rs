//! JSON in which an object has a key twice: of such a node the last one counts, and nobody sees that.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Fails with the first key that stands twice in one object, and its place.
pub(super) fn refuse(data: &[u8]) -> Result<(), String> {
    if data.trim_ascii().is_empty() {
        return Ok(());
    }
    serde_json::from_slice::<Once>(data).map(|_| ()).map_err(|e| e.to_string())
}

struct Once;

impl<'de> Deserialize<'de> for Once {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Keys)
    }
}

struct Keys;

impl<'de> Visitor<'de> for Keys {
    type Value = Once;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Once, M::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            map.next_value::<Once>()?;
            if seen.contains(&key) {
                return Err(M::Error::custom(format!("{key:?} stands there twice; keep one of them")));
            }
            seen.insert(key);
        }
        Ok(Once)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut items: S) -> Result<Once, S::Error> {
        while items.next_element::<Once>()?.is_some() {}
        Ok(Once)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Once, E> {
        Ok(Once)
    }

    fn visit_unit<E: Error>(self) -> Result<Once, E> {
        Ok(Once)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_stands_twice_in_one_object_is_refused_wherever_that_is() {
        for good in ["", r#"{"a":1,"b":[{"a":-1.5},{"a":null}],"c":{"a":"a","b":true}}"#] {
            assert_eq!(refuse(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [r#"{"a":1,"a":1}"#, r#"{"b":[0,{"a":1,"c":2,"\u0061":3}]}"#] {
            let reason = refuse(bad.as_bytes()).unwrap_err();
            assert!(reason.starts_with("\"a\" stands there twice; keep one of them"), "{bad}: {reason}");
        }
    }
}
