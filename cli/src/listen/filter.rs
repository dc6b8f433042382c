//! [`Filter`]: which notifications are printed.

use serde_json::Value;

use super::template::{parsed, text_of};

/// One `--filter`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Filter {
    is_negated: bool,
    condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Condition {
    /// The payload begins with it.
    Prefix(String),
    /// The payload is JSON and has this place.
    Exists(String),
    /// The payload is JSON and has this value at this place.
    Equals(String, String),
}

impl Filter {
    /// Parses `PREFIX`, `/POINTER` and `/POINTER=VALUE`, with `!` before it for the opposite, and `=TEXT` for a prefix that begins with one of
    /// these characters.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (is_negated, text) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if text.is_empty() {
            return Err(
                "expected a prefix of the payload, or a place in JSON such as /type".to_owned()
            );
        }
        let condition = match (text.strip_prefix('='), text.split_once('=')) {
            (Some(prefix), _) => Condition::Prefix(prefix.to_owned()),
            (None, Some((pointer, value))) if pointer.starts_with('/') => {
                Condition::Equals(pointer.to_owned(), value.to_owned())
            }
            (None, _) if text.starts_with('/') => Condition::Exists(text.to_owned()),
            (None, _) => Condition::Prefix(text.to_owned()),
        };
        Ok(Self { is_negated, condition })
    }
}

/// Returns whether all filters match a payload.
pub(super) fn all_match(filters: &[Filter], payload: &str) -> bool {
    // It is parsed once, and only if it is needed.
    let mut json = None;
    filters.iter().all(|filter| {
        let mut place = |pointer: &str| -> Option<Value> {
            json.get_or_insert_with(|| parsed(payload)).as_ref()?.pointer(pointer).cloned()
        };
        let matches = match &filter.condition {
            Condition::Prefix(prefix) => payload.starts_with(prefix.as_str()),
            Condition::Exists(pointer) => place(pointer).is_some(),
            Condition::Equals(pointer, value) => place(pointer).is_some_and(|found| match found {
                Value::Null => value == "null",
                found => text_of(Some(&found)) == *value,
            }),
        };
        matches != filter.is_negated
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_chosen_by_prefix_and_by_places_in_json() {
        let json = "{\"type\":\"paid\",\"order\":{\"id\":7},\"none\":null}";
        for (filter, payload, expected) in [
            ("paid", "paid 7", true),
            ("paid", "unpaid", false),
            ("!paid", "unpaid", true),
            ("=/a", "/a", true),
            ("=!", "!", true),
            ("/type", json, true),
            ("/type", "text", false),
            ("!/type", "text", true),
            ("/type=paid", json, true),
            ("/type=pai", json, false),
            ("/order/id=7", json, true),
            ("/order={\"id\":7}", json, true),
            ("/none=null", json, true),
            ("/none", json, true),
            ("/none=", json, false),
            ("!/order/id=7", json, false),
        ] {
            let filters = [Filter::parse(filter).unwrap()];
            assert_eq!(all_match(&filters, payload), expected, "{filter} {payload}");
        }
        let both = [Filter::parse("/type=paid").unwrap(), Filter::parse("!/order/id=8").unwrap()];
        assert!(all_match(&both, json));
        assert!(all_match(&[], "anything"));
        assert!(Filter::parse("").is_err() && Filter::parse("!").is_err());
    }
}
