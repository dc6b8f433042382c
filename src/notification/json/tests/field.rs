//! Tests of the field that is a topic.

use std::borrow::Cow;

use proptest::prelude::*;
use serde_json::{Map, Value};

use super::super::field::field;
use crate::error::ErrorKind;
use crate::notification::TopicOf;

/// Returns the topic by way of a `Value`.
fn by_value(object: &Value, name: &str) -> Option<String> {
    match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[test]
fn a_field_is_the_content_of_a_string_or_a_number_or_boolean_as_it_is_written() {
    for (payload, expected) in [
        (r#"{"id":"a"}"#, "a"),
        (" { \"x\" : [ {\"id\": 1} ] ,\n\t\"id\" : \"b c\" } \r\n", "b c"),
        (r#"{"id":"ä\n\"\u00e9\ud83d\ude00\u0000"}"#, "ä\n\"é😀\0"),
        (r#"{"id":"42"}"#, "42"),
        (r#"{"id": 42 }"#, "42"),
        (r#"{"id":42.0}"#, "42.0"),
        (r#"{"id":-0}"#, "-0"),
        (r#"{"id":1E+5}"#, "1E+5"),
        (r#"{"id":1e999}"#, "1e999"),
        // Equal as `f64`.
        (r#"{"id":12345678901234567890123}"#, "12345678901234567890123"),
        (r#"{"id":12345678901234567890124}"#, "12345678901234567890124"),
        (r#"{"id":true}"#, "true"),
        (r#"{"id":false,"other":null}"#, "false"),
        (r#"{"\u0069\u0064":7}"#, "7"),
        (r#"{"id":""}"#, ""),
        // The last one counts, as for a `Value` and for the type jsonb.
        (r#"{"id":1,"id":2}"#, "2"),
        (r#"{"id":[],"ID":3,"id":"x"}"#, "x"),
        (r#"{"":1,"id":2,"id ":3}"#, "2"),
    ] {
        assert_eq!(field(payload, "id").as_deref(), Some(expected), "{payload}");
    }
    assert_eq!(field(r#"{"ü \"":1}"#, "ü \"").as_deref(), Some("1"));
}

#[test]
fn a_payload_that_is_no_object_with_the_field_has_none() {
    for payload in [
        "",
        " ",
        "42",
        "null",
        "\"id\"",
        "[{\"id\":1}]",
        "42:{\"id\":1}",
        "{}",
        "{\"x\":{\"id\":1}}",
        "{\"ID\":1}",
        "{\"id\":null}",
        "{\"id\":[1]}",
        "{\"id\":{\"a\":1}}",
        "{\"id\":1,\"id\":null}",
        "{\"id\":1",
        "{\"id\":1}x",
        "{\"id\":1}{}",
        "{\"id\":1,}",
        "{id:1}",
        "{'id':1}",
        "{\"id\":01}",
        "{\"id\":1.}",
        "{\"id\":+1}",
        "{\"id\":NaN}",
        "{\"id\":tru}",
        "{\"id\":\"a}",
        "{\"id\":\"\\x\"}",
        "{\"id\":\"\n\"}",
        "{\"id\":\"\\ud800\"}",
        "{\"id\":1 \"x\":2}",
        "{\"id\":1,\"x\":\\}",
        "\u{feff}{\"id\":1}",
    ] {
        assert_eq!(field(payload, "id"), None, "{payload:?}");
    }
}

#[test]
fn a_string_without_escapes_and_a_number_are_not_copied() {
    for payload in [r#"{"x":"\n","id":"abc"}"#, r#"{"id":4711}"#, r#"{"id":true}"#] {
        assert!(matches!(field(payload, "id"), Some(Cow::Borrowed(_))), "{payload}");
    }
}

#[test]
fn a_payload_that_is_nested_deeply_has_a_topic_and_needs_no_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = open.repeat(50_000) + "1" + &close.repeat(50_000);
        let payload = format!("{{\"x\":{deep},\"id\":1,\"y\":{deep}}}");
        assert_eq!(field(&payload, "id").as_deref(), Some("1"));
        assert_eq!(field(&format!("{{\"id\":{deep}}}"), "id"), None);
        assert_eq!(field(&open.repeat(50_000), "id"), None);
    }
}

#[test]
fn a_topic_by_field_leaves_the_payload_and_is_never_empty() {
    let topics = TopicOf::json_field("id");
    assert_eq!(topics.split(r#"{"id":"a:b"}"#), Some(("a:b".into(), r#"{"id":"a:b"}"#)));
    assert_eq!(topics.split(r#"{"id":""}"#), None);
    assert!(topics.check().is_ok() && topics.check_topic("a:b").is_ok());
    assert_eq!(topics.check_topic("").unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(TopicOf::json_field("").check().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(format!("{topics:?}"), "JsonField(\"id\")");
}

/// JSON with few names, so that fields are often found, and often twice.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "[a-c:,\"{}\\\\\u{0}é]{0,4}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::from),
        ]
    })
}

fn object(inner: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    let name = prop::sample::select(vec!["id", "ID", "i", "", "id\"", "\\u0069d", "ä\n"]);
    prop::collection::vec((name.prop_map(str::to_owned), inner), 0..5)
        .prop_map(|fields| fields.into_iter().collect())
}

/// Writes an object whose names are all escaped.
fn escaped(object: &Map<String, Value>) -> String {
    let fields = object.iter().map(|(name, value)| {
        let units = name.encode_utf16().map(|unit| format!("\\u{unit:04x}"));
        format!("\"{}\":{value}", units.collect::<String>())
    });
    format!("{{{}}}", fields.collect::<Vec<_>>().join(" ,"))
}

proptest! {
    #[test]
    fn the_field_is_that_of_a_value_however_the_object_is_written(object in object(value())) {
        let value = Value::Object(object.clone());
        for text in [value.to_string(), format!("{value:#}"), escaped(&object)] {
            for name in ["id", "ID", "", "id\"", "ä\n", "missing"] {
                prop_assert_eq!(
                    field(&text, name).map(Cow::into_owned),
                    by_value(&value, name),
                    "{} in {}", name, text
                );
            }
        }
    }

    /// The first value is not used, whatever it is.
    #[test]
    fn of_two_fields_with_one_name_the_last_one_counts(first in value(), last in value()) {
        let text = format!("{{\"id\":{first},\"id\":{last}}}");
        // Not parsed: a parser may change the last digit of a number.
        let object = Value::Object([("id".to_owned(), last)].into_iter().collect());
        prop_assert_eq!(field(&text, "id").map(Cow::into_owned), by_value(&object, "id"));
    }

    #[test]
    fn a_part_of_an_object_has_no_field(object in object(value()), at in any::<prop::sample::Index>()) {
        let text = Value::Object(object).to_string();
        let ends: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
        prop_assert_eq!(field(&text[..*at.get(&ends)], "id"), None);
    }

    /// Where a `Value` can be read, both agree. The field is found in a few more texts: numbers that do not fit, and halves of surrogates.
    #[test]
    fn any_text_has_the_field_of_its_value(text in "[{]?( |[{}\\[\\]:,\"\\\\]|id|\"id\":|[0-9.eE+-]|true|null|\"a\"){0,12}[}]?") {
        let found = field(&text, "id").map(Cow::into_owned);
        match serde_json::from_str::<Value>(&text) {
            Ok(value) => {
                // The field is a number as it is written, and a `Value` writes it in its own form.
                let is_number = value.get("id").is_some_and(Value::is_number);
                let found = match found {
                    Some(number) if is_number => {
                        serde_json::from_str::<Value>(&number).ok().map(|number| number.to_string())
                    }
                    found => found,
                };
                prop_assert_eq!(found, by_value(&value, "id"));
            }
            Err(error) if error.to_string().contains("number out of range") => {}
            Err(_) => prop_assert_eq!(found, None),
        }
    }
}
