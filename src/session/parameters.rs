//! What the server reported of its settings.

use std::collections::BTreeMap;

use super::violation::Violation;

/// Most parameters that are remembered. PostgreSQL 18 reports fifteen.
const PARAMETERS_MAX: usize = 64;

/// Longest name that is remembered, in bytes: PostgreSQL's identifiers have 63.
const NAME_BYTES_MAX: usize = 63;

/// Longest part of a value that is remembered, in bytes.
const VALUE_BYTES_MAX: usize = 1_024;

/// The reported parameters, bounded: of the ones beyond, nothing is remembered.
#[derive(Debug, Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        let name = String::from_utf8_lossy(name);
        let known = self.0.contains_key(name.as_ref());
        if known || (self.0.len() < PARAMETERS_MAX && name.len() <= NAME_BYTES_MAX) {
            // Cut, not passed over: an old value must not outlive a change.
            let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
            self.0.insert(name.into_owned(), String::from_utf8_lossy(value).into_owned());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// `client_encoding` must be what we asked for: in some others a byte of a character can look
    /// like a quote. N36.
    pub(super) fn check_encoding(&self) -> Result<(), Violation> {
        match self.get("client_encoding") {
            Some(name) if is_utf8(name) => Ok(()),
            found => Err(Violation::Encoding { found: found.map(str::to_owned) }),
        }
    }

    /// Whether a name has as many bytes in the database as in UTF-8. A proxy need not report that.
    pub(super) fn is_database_utf8(&self) -> bool {
        self.get("server_encoding").is_some_and(is_utf8)
    }
}

/// PostgreSQL reports `UTF8`. Servers and poolers that only speak its protocol have spellings of
/// their own, which PostgreSQL takes for the same: case, `-` and `_` do not count there.
fn is_utf8(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    plain.eq_ignore_ascii_case("utf8") || plain.eq_ignore_ascii_case("unicode")
}
