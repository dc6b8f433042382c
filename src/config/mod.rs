//! Connection parameters in libpq's grammar: text in, parameters out.
//!
//! Nothing is looked up here: no environment, no file, no name service. Other sources are merged
//! by whoever has them, in libpq's order: [`Config::with_service`], then
//! [`Config::with_environment`]; [`ServiceFile`] and [`PassFile`] read the files' texts.

mod attachments;
mod conflicts;
mod delivery;
mod effective;
mod env;
mod error;
mod form;
pub(crate) mod hosts;
mod keys;
mod keyword;
mod nearest;
mod parameters;
mod passfile;
pub(crate) mod security;
mod service;
mod url;
mod values;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

pub use delivery::DeliveryProof;
pub use effective::{
    APPLICATION_NAME_DEFAULT, CONNECT_TIMEOUT_DEFAULT, Keepalive, RESULT_LIMIT_BYTES_DEFAULT,
    TCP_USER_TIMEOUT_DEFAULT,
};
pub use error::ConfigError;
pub use hosts::{Host, PORT_DEFAULT, Server};
pub use passfile::PassFile;
pub use service::ServiceFile;
pub use values::{
    LoadBalanceHosts, SslCertMode, SslMode, SslNegotiation, TargetSessionAttrs, TlsVersion,
};

pub use crate::proto::auth::{ChannelBinding, RequireAuth};
pub use crate::proto::wire::ProtocolVersion;

use crate::proto::auth::Password;
use attachments::Attachments;
use error::{Fault, Place};
use keys::{Handling, Key};

/// How to connect: libpq's connection parameters, not resolved yet.
///
/// It is read from a URL or from `key=value` pairs, and changed by setters that return it:
///
/// ```
/// use pgbell::Config;
///
/// # fn main() -> Result<(), pgbell::config::ConfigError> {
/// let config: Config = "postgres://bob:secret@db1,db2:5433/shop?connect_timeout=5".parse()?;
/// let same: Config = "host=db1,db2 port=,5433 user=bob password=secret dbname=shop connect_timeout=5".parse()?;
/// assert_eq!(config.to_string(), same.to_string());
/// assert_eq!(config.to_string(), "host=db1,db2 port=,5433 dbname=shop user=bob connect_timeout=5");
///
/// let local = Config::new().host("/run/postgresql").user("bob").password("secret");
/// assert_eq!(local.to_string(), "host=/run/postgresql user=bob");
/// # Ok(())
/// # }
/// ```
///
/// # Grammar
/// A text that begins with `postgres://` or `postgresql://` is a URL:
/// `scheme://[user[:password]@][host][:port][,…][/dbname][?key=value&…]`. The user and password
/// end at the first `@` before any `/`, so `@`, `/` and `:` inside them are written `%40`, `%2F`
/// and `%3A`. IPv6 addresses stand in brackets, a socket directory is written `%2Frun%2Fpostgresql`.
/// `+` is itself. White space is `%20`.
///
/// Any other text is pairs `key = value` between white space. A value with white space in it, or
/// none at all, stands in single quotes; a backslash takes the next character as it is.
///
/// In both the last of several equal keys wins, a zero byte is refused, and the empty value means
/// "not given, and do not look elsewhere", as libpq has it.
///
/// Where libpq would take a mistake that puts a password in plain sight, this type refuses:
/// an `@` in the host, port or database part of a URL, an unquoted value that is really the next
/// key (`host= password=x`), pairs with `;`, `,` or `&` between them, a connection string inside a value. Values are checked when they are
/// read, not when they are used.
///
/// # Secrets
/// Neither `Debug` nor `Display` nor an error shows the password. `Display` gives pairs that read
/// back as the same configuration without it.
///
/// # Parameters
#[doc = include_str!("keys.md")]
#[derive(Clone, Default)]
pub struct Config {
    /// Every value was checked against its key's form. An empty one was given as empty.
    values: BTreeMap<Key, Value>,
    /// Apart from the others, so that no loop over them can show it.
    password: Option<(Password, Origin)>,
    /// The first value that a setter could not keep.
    fault: Option<ConfigError>,
    attachments: Attachments,
    /// Not a parameter of libpq: a setter alone sets it.
    result_limit_bytes: Option<usize>,
    delivery_proof: DeliveryProof,
}

#[derive(Clone)]
struct Value {
    text: String,
    origin: Origin,
}

/// Where a value comes from, which decides what may replace it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// A connection string, a setter, a service file.
    Given,
    /// An environment variable: a service file wins over it.
    Environment,
}

impl Config {
    /// No parameter is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a parameter by its name, with a value as in a connection string.
    ///
    /// # Errors
    /// The name is not known, or the value is not one of its kind.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self, ConfigError> {
        self.store(key, value.as_bytes(), Place::Call)?;
        Ok(self)
    }

    /// Whether every setter got a value that can be kept, such as one without a zero byte, and no
    /// two of the parameters contradict each other.
    ///
    /// Setters do not return errors: the first one is kept here, [`servers`](Self::servers)
    /// returns it too, and nothing is connected to.
    ///
    /// # Errors
    /// The first value that was refused, or the first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.fault.map_or(Ok(()), Err)?;
        self.conflict(false)
    }

    /// Whether a parameter is set, be it to the empty text. The password is one of them.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.origin(key).is_some()
    }

    /// The text of a parameter that is set and not empty. The password is not among them.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        match keys::find(key)?.handling {
            Handling::Kept(key, _) => self.text(key),
            Handling::Password | Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => {
                None
            }
        }
    }

    fn text(&self, key: Key) -> Option<&str> {
        self.values.get(&key).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// Where the value of a parameter comes from, if it is set, empty or not.
    fn origin(&self, name: &str) -> Option<Origin> {
        match keys::find(name)?.handling {
            Handling::Kept(key, _) => self.values.get(&key).map(|value| value.origin),
            Handling::Password => self.password.as_ref().map(|(_, origin)| *origin),
            Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => None,
        }
    }

    /// Checks and keeps a value. Every value of every source comes through here.
    fn store(&mut self, name: &str, value: &[u8], place: Place) -> Result<(), ConfigError> {
        // Older libpq's way to say it, still understood by all of them.
        if name == "requiressl" {
            let mode = if value.starts_with(b"1") { SslMode::Require } else { SslMode::Prefer };
            return self.store(Key::Sslmode.name(), mode.as_str().as_bytes(), place);
        }
        let Some(entry) = keys::find(name) else {
            let nearest = nearest::nearest(name);
            return Err(ConfigError::new(Fault::UnknownKey { nearest }, None, place));
        };
        let fault = |fault| ConfigError::new(fault, Some(entry.name), place);
        // A zero byte would end the value in the startup message and begin another one. N49.
        if value.contains(&0) {
            return Err(fault(Fault::Nul));
        }
        let origin = match place {
            Place::Variable(_) => Origin::Environment,
            Place::Byte(_) | Place::Line(_) | Place::Call => Origin::Given,
        };
        if let Handling::Password = entry.handling {
            self.password = Some((Password::new(value), origin));
            return Ok(());
        }
        let text = std::str::from_utf8(value).map_err(|_| fault(Fault::NotUtf8))?;
        match entry.handling {
            Handling::Kept(key, form) => {
                form.check(text).map_err(fault)?;
                self.values.insert(key, Value { text: text.to_owned(), origin });
                Ok(())
            }
            Handling::Only(supported) if !supported.contains(&text) => {
                Err(fault(Fault::UnsupportedValue { supported }))
            }
            Handling::Refused(reason) if !text.is_empty() => {
                Err(fault(Fault::Unsupported { reason }))
            }
            Handling::Password | Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => {
                Ok(())
            }
        }
    }

    /// As [`store`](Self::store) for setters, which keep the fault for later.
    fn with(mut self, key: Key, value: impl AsRef<str>) -> Self {
        if let Err(error) = self.store(key.name(), value.as_ref().as_bytes(), Place::Call) {
            self.fault.get_or_insert(error);
        }
        self
    }
}

impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let mut config = Self::new();
        match url::after_scheme(text) {
            Some(rest) => url::parse(rest, text.len() - rest.len(), &mut config)?,
            None => keyword::parse(text, &mut config)?,
        }
        // Without a host here, the ports may belong to hosts that another source names.
        if config.text(Key::Host).or_else(|| config.text(Key::Hostaddr)).is_some() {
            config.pair()?;
        }
        config.conflict(false)?;
        Ok(config)
    }
}

impl TryFrom<&str> for Config {
    type Error = ConfigError;

    fn try_from(text: &str) -> Result<Self, ConfigError> {
        text.parse()
    }
}

impl TryFrom<&String> for Config {
    type Error = ConfigError;

    fn try_from(text: &String) -> Result<Self, ConfigError> {
        text.parse()
    }
}

/// The text is overwritten in memory when it has been read: it may hold a password.
impl TryFrom<String> for Config {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        Zeroizing::new(text).parse()
    }
}

impl From<&Config> for Config {
    fn from(config: &Config) -> Self {
        config.clone()
    }
}

/// `key=value` pairs that read back as the same configuration, without the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.values.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}={}", key.name(), quoted(*key, &value.text))?;
        }
        Ok(())
    }
}

/// A value as it is written in a pair.
fn quoted(key: Key, value: &str) -> Cow<'_, str> {
    let plain = |c: char| !form::is_space(c) && !matches!(c, '\'' | '\\' | '=' | ';');
    // Else it would be read as a separator.
    let ends = value.ends_with('&') || (value.ends_with(',') && key != Key::Port);
    if !value.is_empty() && !ends && value.chars().all(plain) {
        return Cow::Borrowed(value);
    }
    Cow::Owned(format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'")))
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut config = f.debug_struct("Config");
        for (key, value) in &self.values {
            config.field(key.name(), &value.text);
        }
        if let Some((password, _)) = &self.password {
            config.field("password", password);
        }
        if let Some(bytes) = &self.result_limit_bytes {
            config.field("result_limit_bytes", bytes);
        }
        if let Some(fault) = &self.fault {
            config.field("fault", fault);
        }
        self.attachments.show(&mut config);
        if self.delivery_proof != DeliveryProof::Auto {
            config.field("delivery_proof", &self.delivery_proof);
        }
        config.finish()
    }
}
