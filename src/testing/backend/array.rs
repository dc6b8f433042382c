//! Array literals of one dimension, as `array_in` reads them.

use super::refusal::Refusal;

/// The highest number of elements of an array. A limit of this backend.
const ELEMENTS_MAX: usize = 2_000_000;

/// Returns the elements of `{a,"b c",NULL}`. `None` is NULL.
pub(super) fn elements(literal: &str) -> Result<Vec<Option<String>>, Refusal> {
    // Each element but the first has a comma before it.
    if literal.bytes().filter(|byte| *byte == b',').count() >= ELEMENTS_MAX {
        return Err(Refusal::limit_exceeded("the elements of an array"));
    }
    parse(literal).ok_or_else(|| {
        let inside = literal.trim_start().strip_prefix('{').map(str::trim_start);
        if inside.is_none_or(|inside| inside.starts_with('{')) && literal.contains('{') {
            return Refusal::unsupported("an array of several dimensions or with bounds");
        }
        Refusal::new("22P02", format!("malformed array literal: \"{literal}\""))
    })
}

/// Returns the literal of these elements.
pub(super) fn literal(elements: &[Option<String>]) -> String {
    let mut literal = String::from("{");
    for (index, element) in elements.iter().enumerate() {
        if index > 0 {
            literal.push(',');
        }
        let Some(text) = element else {
            literal.push_str("NULL");
            continue;
        };
        if !needs_quotes(text) {
            literal.push_str(text);
            continue;
        }
        literal.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(c);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

/// Returns whether `array_out` writes the element in quotes.
fn needs_quotes(text: &str) -> bool {
    let special = |c: char| {
        matches!(c, '"' | '\\' | '{' | '}' | ',') || c.is_ascii_whitespace() || c == '\x0b'
    };
    text.is_empty() || text.eq_ignore_ascii_case("null") || text.contains(special)
}

fn parse(literal: &str) -> Option<Vec<Option<String>>> {
    let body = literal.trim().strip_prefix('{')?.strip_suffix('}')?;
    let mut elements = Vec::new();
    if body.trim().is_empty() {
        return Some(elements);
    }
    let mut characters = body.chars().peekable();
    loop {
        while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        let element = if characters.next_if_eq(&'"').is_some() {
            let element = quoted(&mut characters)?;
            while characters.next_if(|c| c.is_ascii_whitespace()).is_some() {}
            Some(element)
        } else {
            let element = bare(&mut characters)?;
            (!element.eq_ignore_ascii_case("null")).then_some(element)
        };
        elements.push(element);
        match characters.next() {
            None => return Some(elements),
            Some(',') => {}
            Some(_) => return None,
        }
    }
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

/// Reads up to the closing quote. A backslash escapes the next character.
fn quoted(characters: &mut Characters<'_>) -> Option<String> {
    let mut element = String::new();
    loop {
        match characters.next()? {
            '"' => return Some(element),
            '\\' => element.push(characters.next()?),
            other => element.push(other),
        }
    }
}

/// Reads up to the next comma, without the blanks around the element. Never empty.
fn bare(characters: &mut Characters<'_>) -> Option<String> {
    let mut element = String::new();
    // Blanks at the end are not part of the element, unless a backslash escapes them.
    let mut length = 0;
    while let Some(character) = characters.next_if(|&c| c != ',') {
        match character {
            '\\' => {
                element.push(characters.next()?);
                length = element.len();
            }
            // Another dimension, or a quote inside the element.
            '{' | '}' | '"' => return None,
            other => {
                element.push(other);
                if !other.is_ascii_whitespace() {
                    length = element.len();
                }
            }
        }
    }
    element.truncate(length);
    (!element.is_empty()).then_some(element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_backslashes_and_null() {
        for (literal, expected) in [
            ("{}", &[][..]),
            (" { } ", &[]),
            ("{a,b}", &[Some("a"), Some("b")]),
            ("{ a b , NULL,\"null\",\"\"}", &[Some("a b"), None, Some("null"), Some("")]),
            (r#"{"a,\"b\\\"", \{x\ }"#, &[Some("a,\"b\\\""), Some("{x ")]),
            ("{\"\n\u{1}é\"}", &[Some("\n\u{1}é")]),
        ] {
            let found = elements(literal).unwrap();
            assert_eq!(found.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn a_malformed_array_is_refused() {
        for literal in
            ["", "a", "{", "{a", "a}", "{a,}", "{,a}", "{\"a}", "{\"a\"b}", "{a,{b}}", "{a\\}"]
        {
            assert_eq!(elements(literal).unwrap_err().code(), "22P02", "{literal}");
        }
        for literal in ["{{a},{b}}", " { {a}}", "[0:1]={a,b}"] {
            assert_eq!(elements(literal).unwrap_err().code(), "0A000", "{literal}");
        }
    }
}
