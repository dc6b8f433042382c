//! Arrays as parameters, in PostgreSQL's text format.

use std::fmt::{Display, Write as _};

/// Writes an array of numbers.
pub(super) fn numbers<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let mut text = String::from("{");
    for (index, item) in items.into_iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        // Writing to a String does not fail.
        let _ = write!(text, "{comma}{item}");
    }
    text.push('}');
    text
}

/// Writes an array of texts, each in quotes.
pub(super) fn texts<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut text = String::from("{");
    for (index, item) in items.into_iter().enumerate() {
        text.push_str(if index == 0 { "\"" } else { ",\"" });
        for character in item.chars() {
            if matches!(character, '"' | '\\') {
                text.push('\\');
            }
            text.push(character);
        }
        text.push('"');
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_are_escaped() {
        assert_eq!(numbers([1_i64, -2]), "{1,-2}");
        assert_eq!(numbers::<i64>([]), "{}");
        assert_eq!(texts([]), "{}");
        assert_eq!(texts(["", "NULL", "a,b"]), r#"{"","NULL","a,b"}"#);
        assert_eq!(texts(["a", "", "b\"\\c", "{,}"]), r#"{"a","","b\"\\c","{,}"}"#);
        assert_eq!(texts([r#"{"k": "a\n"}"#]), r#"{"{\"k\": \"a\\n\"}"}"#);
    }
}
