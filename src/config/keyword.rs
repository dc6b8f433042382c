//! The grammar `key = value …` of libpq. Note N46.

use zeroize::Zeroizing;

use super::Config;
use super::error::{ConfigError, Fault, Place};
use super::form::{SEPARATORS, is_space};
use super::keys::{Key, find};

/// Reads the pairs of `text` into `config`. The last of several equal keys wins.
pub(super) fn parse(text: &str, config: &mut Config) -> Result<(), ConfigError> {
    let at = |rest: &str| Place::Byte(text.len() - rest.len());
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let start = at(rest);
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (key, tail) = rest.split_at(end);
        let Some(tail) = tail.trim_start_matches(is_space).strip_prefix('=') else {
            let fault = match key {
                key if key.contains("://") || !text.contains('=') => Fault::Scheme,
                key if key.starts_with(SEPARATORS) => Fault::Separator,
                _ => Fault::Unquoted,
            };
            return Err(ConfigError::new(fault, None, start));
        };
        if key.contains("://") {
            return Err(ConfigError::new(Fault::Scheme, None, start));
        }
        if key.starts_with(SEPARATORS) {
            return Err(ConfigError::new(Fault::Separator, None, start));
        }

        let name = find(key).map(|entry| entry.name);
        let value = tail.trim_start_matches(is_space);
        let (bytes, after) = match value.strip_prefix('\'') {
            Some(quoted) => unquote(quoted)
                .ok_or_else(|| ConfigError::new(Fault::Unterminated, name, at(value)))?,
            // libpq reads `host= password=x` as the host "password=x". N49.
            None if value.len() < tail.len() && begins_with_key(value) => {
                return Err(ConfigError::new(Fault::MissingValue, name, at(tail)));
            }
            None => {
                let (bytes, after) = unescape_unquoted(value);
                let (raw, _) = value.split_at(value.len() - after.len());
                let is_last = after.trim_start_matches(is_space).is_empty();
                if joins_pairs(raw) || (name != Some("password") && ends_pair(raw, name, is_last)) {
                    return Err(ConfigError::new(Fault::Separator, name, at(value)));
                }
                (bytes, after)
            }
        };
        let place = if name.is_some() { at(value) } else { start };
        config.store(key, bytes.as_bytes(), place)?;
        rest = after.trim_start_matches(is_space);
    }
    Ok(())
}

/// A value up to its closing quote, and what follows. `None` if it has none: a backslash takes
/// the quote behind it along, and one at the end of the text closes nothing.
fn unquote(text: &str) -> Option<(Zeroizing<String>, &str)> {
    let (value, rest) = text.split_at(end(text, |c| c == '\''));
    Some((unescape(value), rest.strip_prefix('\'')?))
}

/// A value up to white space, and what follows. A backslash at the end of the text falls away.
fn unescape_unquoted(text: &str) -> (Zeroizing<String>, &str) {
    let (value, rest) = text.split_at(end(text, is_space));
    (unescape(value), rest)
}

/// Where the first character that ends a value is, else the end of the text. A backslash takes the next character
/// as it is.
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

/// A value without its backslashes. There is room for all of it, so that growing leaves no copy of a password behind,
/// and for no more: with room for the rest of the text, many values would take time and memory in the square of it.
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

/// Keys of other connection strings.
const OTHER_KEYS: [&str; 6] = ["database", "username", "uid", "pwd", "server", "user id"];

/// The longest name of a key, and some more.
const KEY_BYTES_MAX: usize = 40;

/// Whether the value goes on with another pair behind a separator that is not libpq's: `localhost;password=x`. libpq takes
/// all of it for the value, and shows it, password included, where it shows the value. N49.
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

/// Whether a value ends with a separator that is not libpq's: `db1, port=5432`. libpq takes a comma there for one more item
/// of a list, which is the default one: as such it counts at the end of the text, and in a list of ports. N49.
fn ends_pair(value: &str, name: Option<&str>, is_last: bool) -> bool {
    let is_item = is_last || name == Some(Key::Port.name());
    value.ends_with(';') || value.ends_with('&') && !is_last || value.ends_with(',') && !is_item
}

/// Whether a known key and `=` come next.
fn begins_with_key(text: &str) -> bool {
    text.split_once('=').is_some_and(|(key, _)| find(key.trim_end_matches(is_space)).is_some())
}
