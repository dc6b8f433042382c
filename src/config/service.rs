//! Service files: named groups of parameters.

use std::fmt;

use super::Config;
use super::error::{ConfigError, Location, ParameterFault};
use super::form::is_space_byte;
use super::keys::{ParameterKey, find};
use super::nearest::nearest;

/// The text of a service file, such as `~/.pg_service.conf`.
///
/// A line `[name]` begins a service. Lines `key=value` follow, without white space around `=` and
/// without quotes. White space around a line is ignored. A line that begins with `#` is a comment. The first of several
/// equal keys is used, and the first of several services with the same name.
///
/// ```
/// use pgbell::config::ServiceFile;
///
/// let file = ServiceFile::new(b"[shop]\nhost=db1\nuser=bob\n");
/// let service = file.service("shop")?.unwrap();
/// assert_eq!(service.to_string(), "host=db1 user=bob");
/// assert!(file.service("other")?.is_none());
/// # Ok::<_, pgbell::config::ConfigError>(())
/// ```
#[derive(Clone, Copy)]
pub struct ServiceFile<'a> {
    text: &'a [u8],
}

impl<'a> ServiceFile<'a> {
    /// Creates a service file from its text. The text is not checked until [`service`](Self::service) is called.
    #[must_use]
    pub fn new(text: &'a [u8]) -> Self {
        Self { text }
    }

    /// Returns the parameters of a service, or `None` if the file does not contain it.
    ///
    /// Lines of other services, and lines before the first service, are not checked.
    ///
    /// # Errors
    /// A line of the service is not `key=value`, or its value is not valid, for the same reasons as
    /// in a connection string; or it names another service, or LDAP.
    /// [`line`](ConfigError::line) returns the number of the line.
    pub fn service(&self, name: &str) -> Result<Option<Config>, ConfigError> {
        let mut found = None;
        for (number, line) in self.text.split(|byte| *byte == b'\n').map(trim).enumerate() {
            match (&mut found, line.first()) {
                (_, None | Some(b'#')) => {}
                (None, Some(b'[')) if is_header(line, name) => found = Some(Config::new()),
                (None, _) => {}
                (Some(_), Some(b'[')) => break,
                (Some(config), Some(_)) => config.store_line(line, Location::Line(number + 1))?,
            }
        }
        Ok(found)
    }
}

/// Returns whether the line begins the service `name`. As in libpq, the text after the bracket is ignored.
fn is_header(line: &[u8], name: &str) -> bool {
    line.strip_prefix(b"[")
        .and_then(|line| line.strip_prefix(name.as_bytes()))
        .is_some_and(|line| line.starts_with(b"]"))
}

fn trim(mut line: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = line
        && is_space_byte(*first)
    {
        line = rest;
    }
    while let [rest @ .., last] = line
        && is_space_byte(*last)
    {
        line = rest;
    }
    line
}

impl Config {
    fn store_line(&mut self, line: &[u8], location: Location) -> Result<(), ConfigError> {
        let fault = |fault, key| Err(ConfigError::new(fault, key, location));
        if line.starts_with(b"ldap") {
            return fault(ParameterFault::Ldap, None);
        }
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else {
            return fault(ParameterFault::NoEquals, None);
        };
        let (key, value) = line.split_at(equals);
        // No key has a name that is not UTF-8.
        let key = str::from_utf8(key).unwrap_or_default();
        let Some(entry) = find(key) else {
            let trimmed = find(key.trim_end()).map(|entry| entry.name);
            return match trimmed {
                Some(key) => fault(ParameterFault::SpaceInKey, Some(key)),
                None => fault(ParameterFault::UnknownKey { nearest: nearest(key) }, None),
            };
        };
        if [ParameterKey::Service.name(), ParameterKey::Servicefile.name()].contains(&entry.name) {
            return fault(ParameterFault::NestedService, Some(entry.name));
        }
        if self.origin(entry.name).is_some() {
            return Ok(());
        }
        self.store(entry.name, value.get(1..).unwrap_or_default(), location)
    }
}

/// Shows only the number of bytes, because lines may contain passwords.
impl fmt::Debug for ServiceFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceFile({} bytes)", self.text.len())
    }
}
