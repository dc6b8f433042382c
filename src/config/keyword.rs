//! Parser of libpq's pairs `key = value …`.
// The grammar is N46.

use zeroize::Zeroizing;

use super::Config;
use super::error::{ConfigError, Location, ParameterFault};
use super::form::{SEPARATORS, is_space};
use super::keys::{ParameterKey, find};

/// Parses the pairs of `text` into `config`. The last of several equal keys is used.
pub(super) fn parse(text: &str, config: &mut Config) -> Result<(), ConfigError> {
    let at = |rest: &str| Location::Byte(text.len() - rest.len());
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let start = at(rest);
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (key, tail) = rest.split_at(end);
        let Some(tail) = tail.trim_start_matches(is_space).strip_prefix('=') else {
            let fault = match key {
                key if key.contains("://") || !text.contains('=') => ParameterFault::Scheme,
                key if key.starts_with(SEPARATORS) => ParameterFault::Separator,
                _ => ParameterFault::Unquoted,
            };
            return Err(ConfigError::new(fault, None, start));
        };
        if key.contains("://") {
            return Err(ConfigError::new(ParameterFault::Scheme, None, start));
        }
        if key.starts_with(SEPARATORS) {
            return Err(ConfigError::new(ParameterFault::Separator, None, start));
        }

        let name = find(key).map(|entry| entry.name);
        let value = tail.trim_start_matches(is_space);
        let (bytes, after) = match value.strip_prefix('\'') {
            Some(quoted) => unquote(quoted)
                .ok_or_else(|| ConfigError::new(ParameterFault::Unterminated, name, at(value)))?,
            // libpq parses `host= password=x` as the host "password=x": N49.
            None if value.len() < tail.len() && begins_with_key(value) => {
                return Err(ConfigError::new(ParameterFault::MissingValue, name, at(tail)));
            }
            None => {
                let (bytes, after) = unescape_unquoted(value);
                let (raw, _) = value.split_at(value.len() - after.len());
                let is_last = after.trim_start_matches(is_space).is_empty();
                if joins_pairs(raw) || (name != Some("password") && ends_pair(raw, name, is_last)) {
                    return Err(ConfigError::new(ParameterFault::Separator, name, at(value)));
                }
                (bytes, after)
            }
        };
        let location = if name.is_some() { at(value) } else { start };
        config.store(key, bytes.as_bytes(), location)?;
        rest = after.trim_start_matches(is_space);
    }
    Ok(())
}

/// Returns a value up to its closing quote, and the text after it. `None` if the value has no closing quote. A quote after
/// a backslash does not close the value.
fn unquote(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let (value, rest) = text.split_at(end(text, |c| c == '\''));
    Some((unescape(value), rest.strip_prefix('\'')?))
}

/// Returns a value up to white space, and the text after it. A backslash at the end of the text is removed.
fn unescape_unquoted(text: &str) -> (Zeroizing<String>, &str) {
    let (value, rest) = text.split_at(end(text, is_space));
    (unescape(value), rest)
}

/// Returns the offset of the first character that ends a value, or the end of the text. A character after a backslash
/// does not end a value.
fn end(text: &str, ends: impl Fn(char) -> bool) -> usize {
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if ends(c) {
            return at;
        }
        if c == '\\' {
            chars.next();
        }
    }
    text.len()
}

/// Returns a value without its backslashes.
///
/// The capacity is the length of the value. With less, the string would grow and leave a copy of a password in memory.
/// With the length of the rest of the text, the cost of many values would be quadratic.
fn unescape(value: &str) -> Zeroizing<String> {
    let mut bare = Zeroizing::new(String::with_capacity(value.len()));
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => bare.extend(chars.next()),
            c => bare.push(c),
        }
    }
    bare
}

/// Keys in the connection strings of other clients.
const OTHER_KEYS: [&str; 6] = ["database", "username", "uid", "pwd", "server", "user id"];

/// A length that is greater than that of every key.
const KEY_BYTES_MAX: usize = 40;

/// Returns whether the value contains another pair, after a separator that libpq does not have: `localhost;password=x`.
/// For libpq all of it is the value, and where libpq shows the value, it shows the password too.
// N49.
fn joins_pairs(value: &str) -> bool {
    value.match_indices(SEPARATORS).any(|(at, separator)| {
        let rest = value.get(at + separator.len()..).unwrap_or_default();
        let Some(end) = rest.bytes().take(KEY_BYTES_MAX).position(|byte| byte == b'=') else {
            return false;
        };
        let key = rest.get(..end).unwrap_or_default().to_ascii_lowercase();
        find(&key).is_some() || OTHER_KEYS.contains(&key.as_str())
    })
}

/// Returns whether a value ends with a separator that libpq does not have: `db1, port=5432`.
///
/// For libpq a comma at the end adds an empty item to a list, for which the default is used. A comma is accepted in this
/// meaning at the end of the text, and in a list of ports.
// N49.
fn ends_pair(value: &str, name: Option<&str>, is_last: bool) -> bool {
    let is_item = is_last || name == Some(ParameterKey::Port.name());
    value.ends_with(';') || value.ends_with('&') && !is_last || value.ends_with(',') && !is_item
}

/// Returns whether the text begins with a known key and `=`.
fn begins_with_key(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| find(key.trim_end_matches(is_space)).is_some())
}
