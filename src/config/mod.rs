//! Connection parameters in libpq's grammar: text in, parameters out.
//!
//! This module reads no environment, no file and no name service. Its callers merge the other sources, in libpq's order:
//! [`Config::with_service`], then [`Config::with_environment`]. [`ServiceFile`] and [`PassFile`] parse the text of a file.

#[cfg(all(feature = "tokio", feature = "tls"))]
mod client_config;
mod conflicts;
mod delivery;
#[allow(dead_code, unreachable_pub, reason = "only connections and the feature `proto` use it")]
pub(crate) mod effective;
mod env;
mod error;
mod form;
pub(crate) mod hosts;
mod keys;
mod keyword;
mod nearest;
mod parameters;
mod passfile;
#[cfg(feature = "tokio")]
pub(crate) mod password_provider;
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
    APPLICATION_NAME_DEFAULT, CONNECT_TIMEOUT_DEFAULT, RESULT_LIMIT_BYTES_DEFAULT,
    TCP_USER_TIMEOUT_DEFAULT,
};
pub use error::ConfigError;
pub use hosts::{Host, PORT_DEFAULT, Server};
pub use passfile::PassFile;
#[cfg(feature = "tokio")]
pub(crate) use password_provider::{PasswordProvider, PasswordRequest};
pub use service::ServiceFile;
pub use values::{
    LoadBalanceHosts, SslCertMode, SslMode, SslNegotiation, TargetSessionAttrs, TlsVersion,
};

pub use crate::proto::auth::{ChannelBinding, Password, RequireAuth, RequireAuthError};
pub use crate::proto::wire::ProtocolVersion;

use error::{Location, ParameterFault};
use keys::{Handling, ParameterKey};

/// The connection parameters of libpq, before names, files and defaults are resolved.
///
/// It is parsed from a URL or from `key=value` pairs. Setters take it and return it:
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
/// and `%3A`. IPv6 addresses are in brackets, a socket directory is written `%2Frun%2Fpostgresql`.
/// `+` is not decoded. White space is written `%20`.
///
/// Any other text is a list of pairs `key = value`, separated by white space. A value that contains white space, or
/// that is empty, is in single quotes. The character after a backslash is taken literally.
///
/// In both forms the last of several equal keys is used, and a zero byte is an error. As in libpq, an empty value means
/// that the parameter is not given, and that no other source may give it.
///
/// Some mistakes would show a password, because a part of it becomes the value of another parameter. libpq accepts them,
/// and this type returns an error: an `@` in the host, port or database part of a URL, an unquoted value that is the next
/// key (`host= password=x`), pairs with `;`, `,` or `&` between them, a connection string inside a value. Values are
/// checked when they are parsed, not when they are used.
///
/// # Secrets
/// Neither `Debug` nor `Display` nor an error shows the password. `Display` writes pairs that parse
/// as the same configuration without the password.
///
/// # Parameters
#[doc = include_str!("keys.md")]
#[derive(Clone, Default)]
pub struct Config {
    /// Every value has the form of its key. An empty value was given as empty.
    values: BTreeMap<ParameterKey, ParameterValue>,
    /// Separate from `values`, so that no loop over the values can show it.
    password: Option<(Password, ValueOrigin)>,
    /// The error of the first setter that failed.
    fault: Option<ConfigError>,
    #[cfg(feature = "tokio")]
    password_provider: Option<PasswordProvider>,
    #[cfg(all(feature = "tokio", feature = "tls"))]
    client_config: Option<client_config::OwnClientConfig>,
    /// Not a parameter of libpq: only a setter sets it.
    result_limit_bytes: Option<usize>,
    delivery_proof: DeliveryProof,
}

#[derive(Clone)]
struct ParameterValue {
    text: String,
    origin: ValueOrigin,
}

/// The source of a value. It decides which other sources may replace the value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ValueOrigin {
    /// A connection string, a setter, a service file.
    Given,
    /// An environment variable. A service file replaces it.
    Environment,
}

impl Config {
    /// Creates a configuration in which no parameter is set.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets a parameter by its name, with a value as in a connection string.
    ///
    /// # Errors
    /// The name is not known, or the value does not have the form of this parameter.
    pub fn set(mut self, key: &str, value: &str) -> Result<Self, ConfigError> {
        self.store(key, value.as_bytes(), Location::Call)?;
        Ok(self)
    }

    /// Checks that every setter got a valid value, such as one without a zero byte, and that no two parameters contradict
    /// each other.
    ///
    /// Setters do not return errors. The error of the first setter that failed is stored, and returned here and by
    /// [`servers`](Self::servers). A configuration with such an error cannot connect.
    ///
    /// # Errors
    /// The first value that is not valid, or the first contradiction.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.fault.map_or(Ok(()), Err)?;
        self.conflict(false)
    }

    /// Returns whether a parameter is set, to the empty text too. The password is one of the parameters.
    #[must_use]
    pub fn is_set(&self, key: &str) -> bool {
        self.origin(key).is_some()
    }

    /// Returns the text of a parameter, if it is set and not empty. The password is never returned.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        match keys::find(key)?.handling {
            Handling::Kept(key, _) => self.text(key),
            Handling::Password | Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => {
                None
            }
        }
    }

    fn text(&self, key: ParameterKey) -> Option<&str> {
        self.values.get(&key).map(|value| value.text.as_str()).filter(|text| !text.is_empty())
    }

    /// The source of the value of a parameter, if it is set, to the empty text too.
    fn origin(&self, name: &str) -> Option<ValueOrigin> {
        match keys::find(name)?.handling {
            Handling::Kept(key, _) => self.values.get(&key).map(|value| value.origin),
            Handling::Password => self.password.as_ref().map(|(_, origin)| *origin),
            Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => None,
        }
    }

    /// Checks a value and stores it. The values of all sources are stored with this function.
    fn store(&mut self, name: &str, value: &[u8], location: Location) -> Result<(), ConfigError> {
        // An old spelling of `sslmode`, which every version of libpq still accepts.
        if name == "requiressl" {
            let mode = if value.starts_with(b"1") { SslMode::Require } else { SslMode::Prefer };
            return self.store(ParameterKey::Sslmode.name(), mode.as_str().as_bytes(), location);
        }
        let Some(entry) = keys::find(name) else {
            let nearest = nearest::nearest(name);
            return Err(ConfigError::new(ParameterFault::UnknownKey { nearest }, None, location));
        };
        let fault = |fault| ConfigError::new(fault, Some(entry.name), location);
        // A zero byte would end the value in the startup message and begin another one. N49.
        if value.contains(&0) {
            return Err(fault(ParameterFault::Nul));
        }
        let origin = match location {
            Location::Variable(_) => ValueOrigin::Environment,
            Location::Byte(_) | Location::Line(_) | Location::Call => ValueOrigin::Given,
        };
        if let Handling::Password = entry.handling {
            self.password = Some((Password::new(value), origin));
            return Ok(());
        }
        let text = std::str::from_utf8(value).map_err(|_| fault(ParameterFault::NotUtf8))?;
        match entry.handling {
            Handling::Kept(key, form) => {
                form.check(text).map_err(fault)?;
                self.values.insert(key, ParameterValue { text: text.to_owned(), origin });
                Ok(())
            }
            Handling::Only(supported) if !supported.contains(&text) => {
                Err(fault(ParameterFault::UnsupportedValue { supported }))
            }
            Handling::Refused(reason) if !text.is_empty() => {
                Err(fault(ParameterFault::Unsupported { reason }))
            }
            Handling::Password | Handling::Only(_) | Handling::Ignored | Handling::Refused(_) => {
                Ok(())
            }
        }
    }

    /// Like [`store`](Self::store), for setters: an error is stored in `fault`.
    fn with(mut self, key: ParameterKey, value: impl AsRef<str>) -> Self {
        if let Err(error) = self.store(key.name(), value.as_ref().as_bytes(), Location::Call) {
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
        // If the text names no host, its ports may belong to hosts from another source.
        if config.text(ParameterKey::Host).or_else(|| config.text(ParameterKey::Hostaddr)).is_some()
        {
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

/// The memory of the text is cleared after parsing, because it may contain a password.
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

/// Writes `key=value` pairs that parse as the same configuration, without the password.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.values.iter().enumerate() {
            let space = if i == 0 { "" } else { " " };
            write!(f, "{space}{}={}", key.name(), quoted(*key, &value.text))?;
        }
        Ok(())
    }
}

/// Returns the value in the spelling of a pair, in quotes if it needs them.
fn quoted(key: ParameterKey, value: &str) -> Cow<'_, str> {
    let plain = |c: char| !form::is_space(c) && !matches!(c, '\'' | '\\' | '=' | ';');
    // Without quotes, such an end would be parsed as a separator.
    let ends = value.ends_with('&') || (value.ends_with(',') && key != ParameterKey::Port);
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
        #[cfg(feature = "tokio")]
        if let Some(provider) = &self.password_provider {
            config.field("password_provider", provider);
        }
        #[cfg(all(feature = "tokio", feature = "tls"))]
        if let Some(client) = &self.client_config {
            config.field(client_config::SETTING, client);
        }
        if self.delivery_proof != DeliveryProof::Auto {
            config.field("delivery_proof", &self.delivery_proof);
        }
        config.finish()
    }
}
