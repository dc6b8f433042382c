//! Other sources of parameters that are not given: PostgreSQL's environment variables, and services.

use zeroize::Zeroizing;

use super::error::{ConfigError, Location};
use super::keys::ParameterKey;
use super::{Config, ParameterValue, ValueOrigin, values::SslMode};

/// The variables that libpq 13 to 19 reads, and the parameters that they set.
///
/// `keepalives*`, `tcp_user_timeout` and `sslpassword` have no variable.
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
    ("PGOAUTHCAFILE", "oauth_ca_file"),
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

/// The old variable that requires TLS. It is used if `PGSSLMODE` is not set.
const REQUIRE_SSL: &str = "PGREQUIRESSL";

impl Config {
    /// Sets the parameters that are not set from PostgreSQL's environment variables (`PGHOST`, `PGUSER` …). `lookup` returns
    /// the value of a variable by its name.
    ///
    /// A parameter that is set keeps its value, even if that is the empty text. An empty variable counts as missing.
    /// Variables are read only through `lookup`.
    ///
    /// # Errors
    /// The value of a variable is not valid, for the same reasons as in a connection string. The error
    /// names the variable and does not contain its value.
    pub fn with_environment<V: Into<Vec<u8>>>(
        mut self,
        lookup: impl Fn(&str) -> Option<V>,
    ) -> Result<Self, ConfigError> {
        let lookup = |name| {
            lookup(name).map(|value| Zeroizing::new(value.into())).filter(|value| !value.is_empty())
        };
        for &(variable, key) in VARIABLES {
            if self.origin(key).is_none()
                && let Some(value) = lookup(variable)
            {
                self.store(key, &value, Location::Variable(variable))?;
            }
        }
        if self.text(ParameterKey::Sslmode).is_none()
            && lookup(REQUIRE_SSL).is_some_and(|value| value.starts_with(b"1"))
        {
            let require = SslMode::Require.as_str().as_bytes();
            self.store(ParameterKey::Sslmode.name(), require, Location::Variable(REQUIRE_SSL))?;
        }
        Ok(self)
    }

    /// Sets the parameters that are not set, or are set only by the environment, from a service that
    /// [`ServiceFile::service`](super::ServiceFile::service) returned.
    #[must_use]
    pub fn with_service(mut self, service: &Self) -> Self {
        let stays = |origin: Option<ValueOrigin>| origin == Some(ValueOrigin::Given);
        for (key, ParameterValue { text, .. }) in &service.values {
            if !stays(self.origin(key.name())) {
                self.values.insert(
                    *key,
                    ParameterValue { text: text.clone(), origin: ValueOrigin::Given },
                );
            }
        }
        if let Some((password, _)) = &service.password
            && !stays(self.password.as_ref().map(|(_, origin)| *origin))
        {
            self.password = Some((password.clone(), ValueOrigin::Given));
        }
        self
    }
}
