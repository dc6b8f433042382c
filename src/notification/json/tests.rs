//! Tests of payloads of JSON, without a server.

#[cfg(feature = "tokio")]
mod field;
#[cfg(feature = "tokio")]
mod stream;

use std::cell::Cell;
use std::error::Error as _;
use std::fmt::Debug;
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::{DeserializeOwned, Error as _, IgnoredAny};
use serde_json::Value;

use super::super::{Event, Lagged, Notification, NotificationRef, ReceiveInfo};
use super::{JsonError, JsonEvent};
use crate::error::{Error, ErrorKind};
use crate::proto::wire::RawNotification;

/// A part of every value that no text may contain.
const VALUE: &str = "geheim";

fn of_bytes(channel: &str, payload: &[u8]) -> Notification {
    let info = ReceiveInfo::new(SystemTime::UNIX_EPOCH, 1);
    let raw = RawNotification { process_id: 7, channel: channel.as_bytes(), payload };
    NotificationRef::new(raw, 0, &info, None).to_owned()
}

fn notification(payload: &str) -> Notification {
    of_bytes("orders", payload.as_bytes())
}

/// Decodes a payload that is not a `T`.
fn refused<T: DeserializeOwned + Debug>(payload: &str) -> JsonError {
    notification(payload).json::<T>().unwrap_err()
}

/// Returns what is wrong with a payload, as the text of the error says it.
fn reason<T: DeserializeOwned + Debug>(payload: &str) -> String {
    let error = refused::<T>(payload);
    assert_eq!(error.notification().payload(), payload);
    let (text, debug) = (error.to_string(), format!("{error:?} {error:#?}"));
    let start =
        format!("the payload on channel orders, {} bytes, cannot be decoded: ", payload.len());
    for text in [&text, &debug, &format!("{:#?}", Error::from(error))] {
        assert!(!text.contains(VALUE), "{text}");
    }
    text.strip_prefix(&start).unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Order {
    id: u32,
    state: State,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Open,
    Paid,
}

#[test]
fn a_value_can_borrow_from_the_notification_and_from_the_receive_buffer() {
    #[derive(Deserialize)]
    struct Borrowed<'a> {
        action: &'a str,
    }
    let payload = r#"{"action": "login", "more": [1]}"#;
    let owned = notification(payload);
    let value: Borrowed<'_> = owned.json().unwrap();
    assert!(owned.payload_bytes().as_ptr_range().contains(&value.action.as_ptr()));
    let info = ReceiveInfo::new(SystemTime::UNIX_EPOCH, 1);
    let raw = RawNotification { process_id: 7, channel: b"a", payload: payload.as_bytes() };
    // The value outlives the reference.
    let value: Borrowed<'_> = NotificationRef::new(raw, 0, &info, None).json().unwrap();
    assert!(payload.as_bytes().as_ptr_range().contains(&value.action.as_ptr()));
    let error = NotificationRef::new(raw, 5, &info, None).json::<u8>().unwrap_err();
    assert_eq!((error.notification().sequence(), error.notification().payload()), (5, payload));
}

#[test]
fn an_error_says_what_was_expected_and_found_and_where_and_contains_no_value() {
    assert_eq!(
        reason::<Order>(r#"{"id": "geheim", "state": "open"}"#),
        "found a string, expected u32, line 1 column 15"
    );
    assert_eq!(reason::<u32>("\n  \"geheim\""), "found a string, expected u32, line 2 column 10");
    assert_eq!(reason::<String>("4711"), "found an integer, expected a string, line 1 column 4");
    assert_eq!(reason::<u8>("4711"), "found an integer, expected u8, line 1 column 4");
    assert_eq!(reason::<String>("true"), "found a boolean, expected a string, line 1 column 4");
    assert_eq!(reason::<String>("null"), "found null, expected a string, line 1 column 4");
    assert_eq!(
        reason::<u32>("4711.5"),
        "found a floating-point number, expected u32, line 1 column 6"
    );
    assert_eq!(reason::<u32>("[4711]"), "found an array, expected u32, line 1 column 0");
    assert_eq!(reason::<u32>("{}"), "found an object, expected u32, line 1 column 0");
    assert_eq!(
        reason::<(u8, u8)>("[1]"),
        "found another length, expected a tuple of size 2, line 1 column 3"
    );
    assert_eq!(reason::<Order>(r#"{"id": 4711}"#), "missing field `state`, line 1 column 12");
    assert_eq!(
        reason::<Order>(r#"{"id": 4711, "id": 4711}"#),
        "duplicate field `id`, line 1 column 17"
    );
    assert_eq!(
        reason::<State>("\"geheim\""),
        "found an unknown variant, expected `open` or `paid`, line 1 column 8"
    );
    assert_eq!(reason::<Order>(r#"{"geheim": 1}"#), "found an unknown field, line 1 column 9");
    assert_eq!(reason::<Order>("geheim"), "expected value, line 1 column 1");
    assert_eq!(reason::<Order>("{\"id\": 1"), "EOF while parsing an object, line 1 column 8");
    assert_eq!(reason::<u8>("1 geheim"), "trailing characters, line 1 column 3");
    assert_eq!(reason::<String>("\"geheim\n\""), {
        "control character (\\u0000-\\u001F) found while parsing a string, line 2 column 0"
    });
}

/// The texts of serde contain a value before what was expected. The value cannot look like the end.
#[test]
fn a_value_that_looks_like_the_text_of_an_error_is_not_shown() {
    let value = r#""x, expected `geheim`, expected geheim""#;
    assert_eq!(reason::<u8>(value), "found a string, expected u8, line 1 column 39");
    let found = "found an unknown variant, expected `open` or `paid`, line 1 column 39";
    assert_eq!(reason::<State>(value), found);

    #[derive(Debug, Deserialize)]
    enum Never {}
    assert_eq!(reason::<Never>(value), "found an unknown variant, line 1 column 39");

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    let field = format!("{{{value}: 1}}");
    assert_eq!(reason::<Nothing>(&field), "found an unknown field, line 1 column 40");

    /// Its errors are texts of its own.
    #[derive(Debug)]
    struct Strange;
    impl<'de> Deserialize<'de> for Strange {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Err(D::Error::custom(String::deserialize(from)?))
        }
    }
    for text in [
        "geheim",
        "geheim at line 7 column 4711",
        "geheim at line 0 column 4711",
        "invalid type: geheim",
        "invalid type: geheim, expected geheim",
        "missing field `a` geheim",
        "missing field `a` or `geheim`",
        "data did not match geheim",
    ] {
        // serde_json has passed the value, and adds no position.
        assert_eq!(reason::<Strange>(&format!("\"{text}\"")), "the type refuses a value", "{text}");
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Untagged {
        #[allow(dead_code, reason = "never decoded")]
        Number(u8),
    }
    assert_eq!(reason::<Untagged>("\"geheim\""), "no variant of the enum matches");
}

/// With a flattened field, serde's text of an unknown field ends with the name, and not with what was expected.
#[test]
fn the_name_of_a_field_that_a_flattened_type_denies_is_not_shown_as_what_was_expected() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Flat {
        #[serde(flatten)]
        _inner: Inner,
    }
    #[derive(Debug, Deserialize)]
    struct Inner {
        #[serde(rename = "id")]
        _id: u32,
    }
    for field in [", expected geheim", "x`, expected `geheim", "geheim"] {
        let payload = format!(r#"{{"id": 1, "{field}": 2}}"#);
        let found = reason::<Flat>(&payload);
        assert!(found.starts_with("found an unknown field, line 1 column "), "{found}");
    }
}

#[test]
fn whatever_a_type_has_found_is_named_without_its_value() {
    use serde::de::Unexpected;

    thread_local! {
        static FOUND: Cell<Unexpected<'static>> = const { Cell::new(Unexpected::Unit) };
    }
    #[derive(Debug)]
    struct Picky;
    impl<'de> Deserialize<'de> for Picky {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            IgnoredAny::deserialize(from)?;
            Err(D::Error::invalid_type(FOUND.get(), &"a picture"))
        }
    }
    for (found, expected) in [
        (Unexpected::Bool(true), "a boolean"),
        (Unexpected::Unsigned(4711), "an integer"),
        (Unexpected::Signed(-4711), "an integer"),
        (Unexpected::Float(4711.5), "a floating-point number"),
        (Unexpected::Char('g'), "a character"),
        (Unexpected::Str("geheim"), "a string"),
        (Unexpected::Bytes(b"geheim"), "bytes"),
        (Unexpected::Unit, "null"),
        (Unexpected::Option, "an option"),
        (Unexpected::NewtypeStruct, "a newtype struct"),
        (Unexpected::Seq, "an array"),
        (Unexpected::Map, "an object"),
        (Unexpected::Enum, "an enum"),
        (Unexpected::UnitVariant, "a unit variant"),
        (Unexpected::NewtypeVariant, "a newtype variant"),
        (Unexpected::TupleVariant, "a tuple variant"),
        (Unexpected::StructVariant, "a struct variant"),
        // Of serde_json with `arbitrary_precision`.
        (Unexpected::Other("number"), "a number"),
    ] {
        FOUND.set(found);
        assert_eq!(reason::<Picky>("[]"), format!("found {expected}, expected a picture"));
    }
    FOUND.set(Unexpected::Other("geheim"));
    assert_eq!(reason::<Picky>("[]"), "the type refuses a value");
}

#[test]
fn as_an_error_of_the_crate_it_has_its_own_kind_and_the_notification() {
    let error = Error::from(refused::<Order>("[]"));
    assert_eq!((error.kind(), error.is_transient()), (ErrorKind::Decode, false));
    let text = "decoding: the payload on channel orders, 2 bytes, cannot be decoded: ";
    assert!(error.to_string().starts_with(text), "{error}");
    assert!(error.source().is_none() && error.hint().is_none());
    let reason = error.reason().and_then(|reason| reason.downcast_ref::<JsonError>()).unwrap();
    assert!(reason.source().is_none());
    assert_eq!(reason.notification(), &notification("[]"));
    assert_eq!(reason.cause().line(), 1);
    // The notification is moved out of the last one, and copied out of another one.
    for copy in [reason.clone(), refused::<Order>("[]")] {
        assert_eq!(copy.into_notification(), notification("[]"));
    }
}

#[test]
fn an_empty_payload_is_an_error_with_a_hint() {
    let error = refused::<Order>("");
    assert_eq!(error.to_string(), "the payload on channel orders is empty, expected JSON");
    assert!(error.hint().is_some_and(|hint| hint.contains("NOTIFY without a payload")));
    let text = Error::from(error).to_string();
    assert!(text.contains("(hint: a NOTIFY without a payload sends an empty one"), "{text}");
    assert!(refused::<Order>(" ").hint().is_none());
}

#[test]
fn a_channel_with_control_characters_is_escaped() {
    let error = of_bytes("a\u{1b}[2J", b"x").json::<u8>().unwrap_err();
    assert!(error.to_string().contains("on channel a\\u{1b}[2J, 1 byte,"), "{error}");
}

#[test]
fn a_payload_that_is_nested_too_deeply_is_an_error_and_no_stack_overflow() {
    // A frame has at most 256 KiB.
    for depth in [128, 7_999, 250_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let payload = open.repeat(depth) + "1" + &close.repeat(depth);
            let error = refused::<Value>(&payload);
            assert!(error.to_string().contains("recursion limit exceeded"), "{error}");
            assert!(refused::<Value>(&open.repeat(depth)).to_string().contains("recursion limit"));
        }
    }
    let payload = "[".repeat(127) + &"]".repeat(127);
    assert!(notification(&payload).json::<Value>().is_ok());
    // What is not decoded is read without recursion.
    let ignored = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(notification(&ignored).json::<IgnoredAny>().is_ok());
}

#[test]
fn numbers_that_do_not_fit_are_errors() {
    let huge = "9".repeat(7_999);
    for error in [
        refused::<i64>(&huge),
        refused::<f64>(&huge),
        refused::<Value>(&huge),
        refused::<f64>("1e999"),
        refused::<f64>("-1e999"),
    ] {
        assert!(error.to_string().contains("number out of range"), "{error}");
    }
    let above = (u128::from(u64::MAX) + 1).to_string();
    assert!(reason::<u64>(&above).starts_with("found a floating-point number, expected u64"));
    let max = u64::MAX.to_string();
    assert_eq!(notification(&max).json::<u64>().unwrap(), u64::MAX);
    assert!(reason::<i64>(&max).starts_with("found an integer, expected i64"));
    assert!(refused::<u64>("-1").to_string().contains("found an integer"));
    assert!(refused::<f64>("NaN").to_string().contains("expected value"));
}

/// PostgreSQL sends none. In a test, bytes can be something else.
#[test]
fn a_payload_that_is_not_utf8_is_an_error() {
    let error = of_bytes("orders", b"\"a\xff\"").json::<String>().unwrap_err();
    assert!(error.to_string().contains("invalid unicode code point"), "{error}");
    let error = of_bytes("orders", b"\xff").json::<Value>().unwrap_err();
    assert!(error.to_string().contains("expected value"), "{error}");
}

#[test]
fn the_texts_of_an_event_contain_no_value() {
    let event =
        |payload: &str| JsonEvent::<String>::from(Event::Notification(notification(payload)));
    let (value, invalid) = (event("\"geheim\""), event("{\"geheim\": 1}"));
    assert_eq!(value.value().map(String::as_str), Some("geheim"));
    assert_eq!(value.to_string(), "orders: 8 bytes from process 7");
    assert!(invalid.value().is_none() && invalid.loss().is_none());
    assert!(invalid.notification().unwrap().payload().contains(VALUE));
    assert!(invalid.to_string().contains("found an object, expected a string"), "{invalid}");
    assert_eq!(value.clone().into_value().as_deref(), Some("geheim"));
    assert!(invalid.clone().into_value().is_none());
    for event in [&value, &invalid] {
        assert_eq!(event.clone().into_notification().as_ref(), event.notification());
    }
    let lagged = Lagged { first_sequence: 3, count: 2 };
    let lost = JsonEvent::<String>::from(Event::Lagged(lagged));
    assert!(lost.value().is_none() && lost.notification().is_none() && lost.loss().is_some());
    assert!(lost.clone().into_value().is_none() && lost.clone().into_notification().is_none());
    assert_eq!(lost.to_string(), lagged.to_string());
    for event in [&value, &invalid, &lost] {
        let texts = format!("{event} {event:?} {event:#?}");
        assert!(!texts.contains(VALUE), "{texts}");
    }
}
