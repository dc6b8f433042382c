//! What other sources say about parameters that are not given: PostgreSQL's environment variables.

use super::error::{ConfigError, Place};
use super::keys::{Handling, KEYS, Key};
use super::{Config, values::SslMode};

/// The variables that libpq 13 to 19 reads, and the parameters they stand for.
///
/// There are none for `keepalives*`, `tcp_user_timeout` and `sslpassword`.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCLIENTENCODING", "client_encoding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGGSSDELEGATION", "gssdelegation"),
    ("PGGSSENCMODE", "gssencmode"),
    ("PGGSSLIB", "gsslib"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGKRBSRVNAME", "krbsrvname"),
    ("PGLOADBALANCEHOSTS", "load_balance_hosts"),
    ("PGMAXPROTOCOLVERSION", "max_protocol_version"),
    ("PGMINPROTOCOLVERSION", "min_protocol_version"),
    ("PGOPTIONS", "options"),
    ("PGPASSFILE", "passfile"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGREQUIREPEER", "requirepeer"),
    ("PGSERVICE", "service"),
    ("PGSERVICEFILE", "servicefile"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLCERTMODE", "sslcertmode"),
    ("PGSSLCOMPRESSION", "sslcompression"),
    ("PGSSLCRL", "sslcrl"),
    ("PGSSLCRLDIR", "sslcrldir"),
    ("PGSSLKEY", "sslkey"),
    ("PGSSLMAXPROTOCOLVERSION", "ssl_max_protocol_version"),
    ("PGSSLMINPROTOCOLVERSION", "ssl_min_protocol_version"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLNEGOTIATION", "sslnegotiation"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLSNI", "sslsni"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// The old variable that asks for TLS where `PGSSLMODE` does not say anything.
const REQUIRE_SSL: &str = "PGREQUIRESSL";

impl Config {
    /// Fills what is not set from PostgreSQL's environment variables (`PGHOST`, `PGUSER` …),
    /// which `lookup` finds by name.
    ///
    /// A parameter that is set stays, also when it is set to the empty text. An empty variable
    /// counts as missing. Nothing is read but through `lookup`.
    ///
    /// # Errors
    /// A variable's value is refused, for the same reasons as in a connection string. The error
    /// names the variable and does not repeat its value.
    pub fn with_environment(
        mut self,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        for &(variable, key) in VARIABLES {
            self.fill(key, Place::Variable(variable), || lookup(variable))?;
        }
        if self.text(Key::Sslmode).is_none()
            && lookup(REQUIRE_SSL).is_some_and(|value| value.starts_with('1'))
        {
            let require = SslMode::Require.as_str().as_bytes();
            self.store(Key::Sslmode.name(), require, Place::Variable(REQUIRE_SSL))?;
        }
        Ok(self)
    }

    /// Fills what is not set from `fallback`, which is asked for each parameter by its name.
    ///
    /// As [`with_environment`](Self::with_environment) for sources that use the parameters' own
    /// names, such as a service file.
    ///
    /// # Errors
    /// A value is refused, for the same reasons as in a connection string.
    pub fn or(mut self, fallback: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        for entry in KEYS {
            self.fill(entry.name, Place::Call, || fallback(entry.name))?;
        }
        Ok(self)
    }

    fn fill(
        &mut self,
        key: &'static str,
        place: Place,
        value: impl FnOnce() -> Option<String>,
    ) -> Result<(), ConfigError> {
        let set = match super::keys::find(key).map(|entry| entry.handling) {
            Some(Handling::Kept(key, _)) => self.values.contains_key(&key),
            Some(Handling::Password) => self.password.is_some(),
            Some(Handling::Only(_) | Handling::Ignored | Handling::Refused) | None => false,
        };
        if set {
            return Ok(());
        }
        match value().map(zeroize::Zeroizing::new) {
            Some(value) if !value.is_empty() => self.store(key, value.as_bytes(), place),
            _ => Ok(()),
        }
    }
}
