//! One field of an object, as a topic.

use std::borrow::Cow;
use std::fmt;

use serde_core::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Returns the field of a JSON object: the content of a string, or a number, `true` or `false` as it is written. `None` if the payload is not
/// a JSON object, has no such field, or has a null, an array or an object there. Of several fields with this name it is the last one.
///
/// Only this field is decoded. In the others only the syntax is checked, without recursion. A number is not parsed, so two large numbers that
/// are equal as `f64` are two topics.
pub(in crate::notification) fn field<'a>(payload: &'a str, name: &str) -> Option<Cow<'a, str>> {
    let mut payload = serde_json::Deserializer::from_str(payload);
    let found = Field(name).deserialize(&mut payload).ok()?;
    payload.end().ok()?;
    let text = found?.get();
    match text.as_bytes() {
        [b'"', .., b'"'] if text.contains('\\') => serde_json::from_str(text).ok().map(Cow::Owned),
        [b'"', inner @ .., b'"'] => std::str::from_utf8(inner).ok().map(Cow::Borrowed),
        [b'-' | b'0'..=b'9' | b't' | b'f', ..] => Some(Cow::Borrowed(text)),
        _ => None,
    }
}

/// Finds the field with this name, if there is one.
struct Field<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, object: D) -> Result<Self::Value, D::Error> {
        object.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = fields.next_key_seed(Name(self.0))? {
            if is_it {
                found = Some(fields.next_value()?);
            } else {
                fields.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a name with this one.
struct Name<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, name: D) -> Result<bool, D::Error> {
        name.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a field")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
