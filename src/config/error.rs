//! The error of connection parameters. It contains fixed words, a key and a location, and never a part of the input.

use std::fmt;

use super::RequireAuthError;
use crate::error::{Error, ErrorKind};

/// The error of connection parameters that are not valid.
///
/// It names the key and the location, and contains no text of the input: in a mistyped URL a part of the password can be
/// anywhere (`postgres://user:p@ss:word@host/db` has it in the port).
///
/// ```
/// use pgbell::Config;
///
/// let error = "host=db1 prot=5432".parse::<Config>().unwrap_err();
/// assert!(error.to_string().contains("the nearest one is port"), "{error}");
/// assert_eq!(error.position(), Some(9));
/// ```
// The type is `Copy`, so it cannot contain a string of the input. N49.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ConfigError {
    fault: ParameterFault,
    key: Option<&'static str>,
    location: Location,
}

/// The location of the part that is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// An offset in bytes from the start of the parsed text.
    Byte(usize),
    /// The name of an environment variable.
    Variable(&'static str),
    /// The number of a line of a service file, from 1.
    Line(usize),
    /// The value comes from a setter or from several sources, so there is no position in a text.
    Call,
}

/// The kind of mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterFault {
    Scheme,
    NoEquals,
    Unquoted,
    ExtraEquals,
    UnknownKey { nearest: Option<&'static str> },
    Unsupported { reason: &'static str },
    UnsupportedValue { supported: &'static [&'static str] },
    Unterminated,
    MissingValue,
    Separator,
    PercentEncoding,
    WhiteSpace,
    StrayAt,
    PortBeforeAt,
    BracketOpen,
    BracketEmpty,
    AfterBracket,
    Nul,
    NotUtf8,
    Nested,
    Host,
    HostMark,
    HostNumber,
    Port,
    Address,
    Integer,
    Iterations,
    Seconds,
    Choice { expected: &'static [&'static str] },
    Encoding,
    PortCount { ports: usize, servers: usize },
    AddressCount { hosts: usize, addresses: usize },
    RequireAuth(RequireAuthError),
    BindingWithoutTls,
    WeakForDirect,
    WeakForSystem,
    Above { other: &'static str },
    SpaceInKey,
    NestedService,
    Ldap,
}

impl ConfigError {
    #[cold]
    pub(super) fn new(
        fault: ParameterFault,
        key: Option<&'static str>,
        location: Location,
    ) -> Self {
        Self { fault, key, location }
    }

    /// Returns whether a port is not a valid number.
    pub(super) fn is_port(&self) -> bool {
        matches!(self.fault, ParameterFault::Port)
    }

    /// Returns the key whose value is not valid, as libpq spells it. `None` if the syntax around keys and values is wrong,
    /// or if the key is not known.
    #[must_use]
    pub fn key(&self) -> Option<&'static str> {
        self.key
    }

    /// Returns the offset of the part that is not valid, in bytes from the start of the parsed text. `None` if the value
    /// comes from a setter, the environment or a service file.
    #[must_use]
    pub fn position(&self) -> Option<usize> {
        match self.location {
            Location::Byte(at) => Some(at),
            Location::Variable(_) | Location::Line(_) | Location::Call => None,
        }
    }

    /// Returns the environment variable that the value comes from, if it comes from one.
    #[must_use]
    pub fn variable(&self) -> Option<&'static str> {
        match self.location {
            Location::Variable(name) => Some(name),
            Location::Byte(_) | Location::Line(_) | Location::Call => None,
        }
    }

    /// Returns the number of the line of a service file that is not valid, from 1, if the value comes from such a file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self.location {
            Location::Line(number) => Some(number),
            Location::Byte(_) | Location::Variable(_) | Location::Call => None,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.location, self.key) {
            (Location::Byte(at), Some(key)) => write!(f, "{key} at byte {at}: ")?,
            (Location::Byte(at), None) => write!(f, "at byte {at}: ")?,
            (Location::Variable(name), _) => write!(f, "{name}: ")?,
            (Location::Line(number), Some(key)) => write!(f, "{key} in line {number}: ")?,
            (Location::Line(number), None) => write!(f, "line {number}: ")?,
            (Location::Call, Some(key)) => write!(f, "{key}: ")?,
            (Location::Call, None) => {}
        }
        self.fault.fmt(f)
    }
}

/// Writes the same text as `Display`, because `fn main() -> Result<(), ConfigError>` prints `Debug`.
impl fmt::Debug for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The codes for special characters of a user and password in a URL.
const CODES: &str = "in them / is written %2F, @ %40, ? %3F, # %23, : %3A and % %25";

impl fmt::Display for ParameterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => {
                "expected key=value pairs, or a URL that begins with postgres:// or postgresql://"
            }
            Self::NoEquals => "expected = after a key",
            Self::Unquoted => {
                "expected = after a key, a value with white space in it is quoted: 'a b'"
            }
            Self::ExtraEquals => "found a second = in one parameter, write %3D inside a value",
            Self::UnknownKey { nearest: None } => "this key is not known",
            Self::UnknownKey { nearest: Some(key) } => {
                return write!(f, "this key is not known, the nearest one is {key}");
            }
            Self::Unsupported { reason } => reason,
            Self::UnsupportedValue { supported } => {
                return write!(f, "this version supports only {}", supported.join(", "));
            }
            Self::Unterminated => "the quoted value has no closing quote",
            Self::MissingValue => {
                "the value is missing before the next key, an empty one is written ''"
            }
            Self::Separator => {
                "pairs are separated by blanks, not by ; , or &, and a value that contains one is quoted: 'a;b'"
            }
            Self::PercentEncoding => {
                "expected two hexadecimal digits after %, and % itself is written %25"
            }
            Self::WhiteSpace => "found white space in a URL, write it percent-encoded",
            Self::StrayAt => {
                return write!(f, "found @ after the user and password: {CODES}");
            }
            Self::PortBeforeAt => {
                return write!(
                    f,
                    "{}, and found @ later: a user and password are written before @, {CODES}",
                    Self::Port
                );
            }
            Self::BracketOpen => "the IPv6 address has no closing bracket",
            Self::BracketEmpty => "the brackets of the IPv6 address are empty",
            Self::AfterBracket => "expected one of : , / ? after the closing bracket",
            Self::Nul => "found a zero byte",
            Self::NotUtf8 => "expected UTF-8",
            Self::Nested => "found a whole connection string inside one value",
            Self::Host => "expected a host name, found @ in it",
            Self::HostMark => {
                "expected a host name, found one of : ; = & in it; a port is written port=5432"
            }
            Self::HostNumber => "expected a host name, found a number; a port is written port=5432",
            Self::Port => "expected a number from 1 to 65535",
            Self::Address => "expected an IP address, names belong in host",
            Self::Iterations => "expected a number from 1 to 2147483647",
            Self::Integer => "expected a whole number of 32 bits",
            Self::Seconds => "expected a number of seconds",
            Self::Choice { expected } => {
                return write!(f, "expected one of {}", expected.join(", "));
            }
            Self::Encoding => "the client encoding is always UTF8",
            Self::PortCount { ports, servers } => {
                return write!(
                    f,
                    "found {ports} ports for {servers} hosts, expected one, or one for each"
                );
            }
            Self::AddressCount { hosts, addresses } => {
                return write!(f, "found {addresses} addresses for {hosts} hosts");
            }
            Self::RequireAuth(error) => return error.fmt(f),
            Self::BindingWithoutTls => "require needs TLS, which sslmode=disable forbids",
            Self::WeakForDirect => "sslnegotiation=direct needs require, verify-ca or verify-full",
            Self::WeakForSystem => "sslrootcert=system needs verify-full, which is its default",
            Self::Above { other } => return write!(f, "the value is greater than {other}"),
            Self::SpaceInKey => "a service file has no white space before =",
            Self::NestedService => "a service cannot name another service",
            Self::Ldap => "services in LDAP are not supported",
        })
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for Error {
    fn from(error: ConfigError) -> Self {
        Self::because(ErrorKind::Config, error)
    }
}
