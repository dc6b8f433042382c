//! Parser of libpq's URLs: `postgres://user:password@host:port,…/dbname?key=value&…`.
// The grammar is N45.

use zeroize::Zeroizing;

use super::Config;
use super::error::{ConfigError, Location, ParameterFault};
use super::form::is_space;
use super::keys::{ParameterKey, find};

/// The beginnings of a URL. Case matters, as in libpq.
const SCHEMES: [&str; 2] = ["postgresql://", "postgres://"];

/// Returns the text after the scheme, if `text` is a URL.
pub(super) fn after_scheme(text: &str) -> Option<&str> {
    SCHEMES.iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// A part of the URL, and its offset in bytes.
#[derive(Clone, Copy)]
struct Part<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Part<'a> {
    /// Splits at the first of `stops`, which are ASCII. Returns the part before it, that character, and the part after it.
    fn until(self, stops: &[char]) -> (Self, Option<char>, Self) {
        let end = self.text.find(stops).unwrap_or(self.text.len());
        let (head, tail) = self.text.split_at(end);
        let mut chars = tail.chars();
        let stop = chars.next();
        let rest = chars.as_str();
        let at = self.at + (self.text.len() - rest.len());
        (Self { text: head, at: self.at }, stop, Self { text: rest, at })
    }

    fn fault(self, fault: ParameterFault, key: Option<&'static str>) -> ConfigError {
        ConfigError::new(fault, key, Location::Byte(self.at))
    }

    /// Returns an error if this part contains an `@`.
    ///
    /// libpq ends the user and password at the first `@` before any `/`, and accepts a later `@` as part of a host or a
    /// database. Such a URL usually has a password with `@` or `/` in it, and the rest of the password would be shown as
    /// the name of a host or database.
    // N49.
    fn without_at(self, key: ParameterKey) -> Result<Self, ConfigError> {
        match self.until(&['@']) {
            (_, None, _) => Ok(self),
            (head, Some(_), _) => {
                let at = Location::Byte(self.at + head.text.len());
                Err(ConfigError::new(ParameterFault::StrayAt, Some(key.name()), at))
            }
        }
    }

    /// Returns the decoded bytes: spaces around the part are removed, `%xx` is decoded.
    // N47.
    fn decode(self, key: Option<&'static str>) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        self.trim_start().trim_end().decode_all(key)
    }

    fn trim_start(self) -> Self {
        let text = self.text.trim_start_matches(' ');
        Self { text, at: self.at + (self.text.len() - text.len()) }
    }

    fn trim_end(self) -> Self {
        Self { text: self.text.trim_end_matches(' '), ..self }
    }

    fn decode_all(self, key: Option<&'static str>) -> Result<Zeroizing<Vec<u8>>, ConfigError> {
        let mut value = Zeroizing::new(Vec::with_capacity(self.text.len()));
        let mut bytes = self.text.bytes().enumerate();
        while let Some((offset, byte)) = bytes.next() {
            let fault = |fault| ConfigError::new(fault, key, Location::Byte(self.at + offset));
            let mut digit = || bytes.next().and_then(|(_, b)| char::from(b).to_digit(16));
            let byte = match byte {
                b'%' => digit()
                    .and_then(|high| digit().map(|low| high * 16 + low))
                    .and_then(|code| u8::try_from(code).ok())
                    .ok_or_else(|| fault(ParameterFault::PercentEncoding))?,
                // libpq 18 refuses white space inside a part too.
                _ if is_space(char::from(byte)) => return Err(fault(ParameterFault::WhiteSpace)),
                _ => byte,
            };
            if byte == 0 {
                return Err(fault(ParameterFault::Nul));
            }
            value.push(byte);
        }
        Ok(value)
    }
}

/// Parses a URL into `config`. `rest` is its text after the scheme, and `at` the offset of that text.
pub(super) fn parse(rest: &str, at: usize, config: &mut Config) -> Result<(), ConfigError> {
    let rest = Part { text: rest, at };
    let rest = match rest.until(&['@', '/']) {
        (userinfo, Some('@'), behind) => {
            let (user, _, password) = userinfo.until(&[':']);
            set(config, ParameterKey::User.name(), user)?;
            set(config, "password", password)?;
            behind
        }
        _ => rest,
    };
    let (stop, rest) = authority(rest, config)?;
    let (stop, rest) = match stop {
        Some('/') => {
            let (dbname, stop, rest) = rest.until(&['?']);
            set(config, ParameterKey::Dbname.name(), dbname.without_at(ParameterKey::Dbname)?)?;
            (stop, rest)
        }
        _ => (stop, rest),
    };
    match stop {
        Some(_) => query(rest, config),
        None => Ok(()),
    }
}

/// Stores the value of a part that is not empty. An empty part counts as not given.
fn set(config: &mut Config, key: &'static str, part: Part<'_>) -> Result<(), ConfigError> {
    if part.text.is_empty() {
        return Ok(());
    }
    config.store(key, &part.decode(Some(key))?, Location::Byte(part.at))
}

/// Parses `host:port,…`. Returns the character that ends it, and the part after that character.
fn authority<'a>(
    mut rest: Part<'a>,
    config: &mut Config,
) -> Result<(Option<char>, Part<'a>), ConfigError> {
    const STOPS: [char; 4] = [':', '/', '?', ','];
    let mut hosts = Joined::new(ParameterKey::Host, rest.at);
    let mut ports = Joined::new(ParameterKey::Port, rest.at);
    loop {
        let (host, mut stop, mut behind) = match rest.text.strip_prefix('[') {
            Some(text) => bracketed(Part { text, at: rest.at + 1 }, &STOPS)?,
            None => rest.until(&STOPS),
        };
        let mut port = Part { text: "", at: behind.at };
        if stop == Some(':') {
            (port, stop, behind) = behind.until(&['/', '?', ',']);
        }
        let last = stop != Some(',');
        hosts.push(host, last)?;
        // A password with a / in it is parsed as a port: N49.
        let is_user = |error: ConfigError| match behind.text.contains('@') {
            true if error.is_port() => port.fault(ParameterFault::PortBeforeAt, error.key()),
            _ => error,
        };
        ports.push(port, last).map_err(is_user)?;
        rest = behind;
        if last {
            hosts.store(config)?;
            ports.store(config)?;
            return Ok((stop, rest));
        }
    }
}

/// Parses `address]`. One of `stops`, or the end of the text, must follow it.
fn bracketed<'a>(
    inside: Part<'a>,
    stops: &[char],
) -> Result<(Part<'a>, Option<char>, Part<'a>), ConfigError> {
    let key = Some(ParameterKey::Host.name());
    let (address, closing, behind) = inside.until(&[']']);
    if closing.is_none() {
        return Err(inside.fault(ParameterFault::BracketOpen, key));
    }
    if address.text.is_empty() {
        return Err(inside.fault(ParameterFault::BracketEmpty, key));
    }
    let (extra, stop, rest) = behind.until(stops);
    if !extra.text.is_empty() {
        return Err(extra.fault(ParameterFault::AfterBracket, key));
    }
    Ok((address, stop, rest))
}

/// A list of hosts or ports, collected from a URL and joined with commas.
struct Joined {
    key: ParameterKey,
    value: Zeroizing<Vec<u8>>,
    /// The offset of the first item that is not empty.
    at: Option<usize>,
    /// The offset of the list, for a list of which all items are empty.
    start: usize,
    first: bool,
    /// The URL has a value here. White space counts too: it is an empty value.
    given: bool,
}

impl Joined {
    fn new(key: ParameterKey, start: usize) -> Self {
        Self { key, value: Zeroizing::new(Vec::new()), at: None, start, first: true, given: false }
    }

    fn push(&mut self, item: Part<'_>, last: bool) -> Result<(), ConfigError> {
        let item = item.without_at(self.key)?;
        self.given |= !item.text.is_empty() || !last;
        let key = Some(self.key.name());
        // White space is trimmed around the list, not around its items, as in libpq.
        let item = if self.first { item.trim_start() } else { item };
        let item = if last { item.trim_end() } else { item };
        let bytes = item.decode_all(key)?;
        if let (ParameterKey::Port, Ok(text)) = (self.key, std::str::from_utf8(&bytes)) {
            // Checked here too, because only here the offset of this item is known.
            super::form::Form::Ports.check(text).map_err(|fault| item.fault(fault, key))?;
        }
        if !std::mem::replace(&mut self.first, false) {
            self.value.push(b',');
        }
        if !bytes.is_empty() {
            self.at.get_or_insert(item.at);
        }
        self.value.extend_from_slice(&bytes);
        Ok(())
    }

    fn store(self, config: &mut Config) -> Result<(), ConfigError> {
        if !self.given {
            return Ok(());
        }
        let at = self.at.unwrap_or(self.start);
        config.store(self.key.name(), &self.value, Location::Byte(at))
    }
}

/// Parses `key=value&…`. The last of several equal keys is used, and replaces a value of the parts before it too.
fn query(rest: Part<'_>, config: &mut Config) -> Result<(), ConfigError> {
    pairs(rest, config).map_err(|error| match rest.until(&['@']) {
        // A password with a ? in it is parsed as a key: N49.
        (head, Some(_), _) if error.key().is_none() => {
            let at = Location::Byte(head.at + head.text.len());
            ConfigError::new(ParameterFault::StrayAt, None, at)
        }
        _ => error,
    })
}

fn pairs(mut rest: Part<'_>, config: &mut Config) -> Result<(), ConfigError> {
    while !rest.text.is_empty() {
        let (pair, _, behind) = rest.until(&['&']);
        rest = behind;
        let (key, equals, value) = pair.until(&['=']);
        if equals.is_none() {
            return Err(pair.fault(ParameterFault::NoEquals, None));
        }
        let decoded = key.decode(None)?;
        // No key has a name that is not UTF-8.
        let name = std::str::from_utf8(&decoded).unwrap_or_default();
        let known = find(name).map(|entry| entry.name);
        if value.text.contains('=') {
            return Err(value.fault(ParameterFault::ExtraEquals, known));
        }
        let bytes = value.decode(known)?;
        match (name, bytes.as_slice()) {
            // JDBC's spelling.
            ("ssl", b"true") => config.store("sslmode", b"require", Location::Byte(value.at))?,
            ("ssl", _) => {
                return Err(
                    value.fault(ParameterFault::Choice { expected: &["true"] }, Some("ssl"))
                );
            }
            _ => {
                let offset = if known.is_some() { value.at } else { key.at };
                config.store(name, &bytes, Location::Byte(offset))?;
            }
        }
    }
    Ok(())
}
