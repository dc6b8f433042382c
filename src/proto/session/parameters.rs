//! The settings that the server has reported.

use std::collections::BTreeMap;

use super::violation::Violation;

/// The highest number of parameters that are kept. PostgreSQL 18 reports fifteen.
const PARAMETERS_MAX: usize = 64;

/// The longest name that is kept, in bytes: the length of an identifier.
const NAME_BYTES_MAX: usize = 63;

/// The longest part of a value that is kept, in bytes.
const VALUE_BYTES_MAX: usize = 1_024;

/// The reported parameters. Above the limit, parameters are not kept.
#[derive(Debug, Default)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(super) fn set(&mut self, name: &[u8], value: &[u8]) {
        let name = String::from_utf8_lossy(name);
        let known = self.0.contains_key(name.as_ref());
        if known || (self.0.len() < PARAMETERS_MAX && name.len() <= NAME_BYTES_MAX) {
            // A long value is cut and not ignored, because the old value is not valid any more.
            let value = value.get(..VALUE_BYTES_MAX).unwrap_or(value);
            self.0.insert(name.into_owned(), String::from_utf8_lossy(value).into_owned());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Checks that `client_encoding` is UTF8. In some encodings a byte of a character can be equal to that of a quote.
    pub(super) fn check_encoding(&self) -> Result<(), Violation> {
        match self.get("client_encoding") {
            Some(name) if is_utf8(name) => Ok(()),
            found => Err(Violation::Encoding { found: found.map(str::to_owned) }),
        }
    }

    /// Returns true if the encoding of the database is UTF-8. A proxy may not report it.
    pub(super) fn is_database_utf8(&self) -> bool {
        self.get("server_encoding").is_some_and(is_utf8)
    }
}

/// Returns true for all spellings of UTF-8. PostgreSQL reports `UTF8`; other servers and poolers have other spellings,
/// which PostgreSQL accepts too: it ignores case, `-` and `_`.
fn is_utf8(name: &str) -> bool {
    let plain: String = name.chars().filter(|c| !matches!(c, '-' | '_')).collect();
    plain.eq_ignore_ascii_case("utf8") || plain.eq_ignore_ascii_case("unicode")
}
