//! The values that are used when a parameter is not given. Some defaults differ from libpq's, because a listener needs
//! other ones.

use std::time::Duration;

use super::Config;
use super::keys::ParameterKey;
use super::values::{LoadBalanceHosts, SslMode, TargetSessionAttrs};
use crate::proto::auth::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};
use crate::proto::wire::ProtocolVersion;

/// The default of `application_name`, which `pg_stat_activity` shows.
pub const APPLICATION_NAME_DEFAULT: &str = "pgbell";

/// The default timeout of an attempt to connect. libpq has no limit.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// The default time for which sent data may stay unacknowledged. The limit of Linux is about 15 minutes.
pub const TCP_USER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// The default limit of the bytes that one query may return: 64 MiB.
pub const RESULT_LIMIT_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// The settings of TCP keepalive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// The idle time before the first keepalive. Zero: the default of the system.
    pub idle: Duration,
    /// The time between keepalives. Zero: the default of the system.
    pub interval: Duration,
    /// The number of unanswered keepalives after which the connection is dead. Zero: the default of the system.
    pub count: u32,
}

/// The default of Linux is two hours. A listener would not notice a dead connection in that time, and cloud load balancers
/// drop an idle connection after about four minutes.
impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 3 }
    }
}

/// The values of a [`Config`] that are used: each is the given one, or the default.
///
/// ```
/// # #[cfg(feature = "proto")] {
/// use std::time::Duration;
///
/// use pgbell::Config;
/// use pgbell::proto::Effective;
///
/// let config = Config::new().host("db.example").keepalives_idle(Duration::from_secs(60));
/// let used = Effective::of(&config);
/// assert_eq!(used.connect_timeout(), Duration::from_secs(10));
/// let keepalive = used.keepalive().unwrap();
/// assert_eq!((keepalive.idle, keepalive.interval), (Duration::from_secs(60), Duration::from_secs(10)));
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Effective<'a>(&'a Config);

impl Config {
    /// Returns the values that are used.
    pub(crate) fn effective(&self) -> Effective<'_> {
        Effective::of(self)
    }
}

impl<'a> Effective<'a> {
    /// Returns the values of `config` that are used.
    #[must_use]
    pub fn of(config: &'a Config) -> Self {
        Self(config)
    }

    /// Returns the name that `pg_stat_activity` shows: the given one, the fallback, or [`APPLICATION_NAME_DEFAULT`].
    #[must_use]
    pub fn application_name(self) -> &'a str {
        self.0.get_application_name().unwrap_or(APPLICATION_NAME_DEFAULT)
    }

    /// Returns the timeout of a whole attempt to connect, from the first name lookup to the session that is ready.
    /// It is always finite: if no limit is asked for, it is [`CONNECT_TIMEOUT_DEFAULT`] too.
    #[must_use]
    pub fn connect_timeout(self) -> Duration {
        self.0
            .get_connect_timeout()
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(CONNECT_TIMEOUT_DEFAULT)
    }

    /// Returns the settings of TCP keepalive, or `None` if it is off.
    #[must_use]
    pub fn keepalive(self) -> Option<Keepalive> {
        let default = Keepalive::default();
        self.0.get_keepalives().unwrap_or(true).then(|| Keepalive {
            idle: self.0.get_keepalives_idle().unwrap_or(default.idle),
            interval: self.0.get_keepalives_interval().unwrap_or(default.interval),
            count: self.0.get_keepalives_count().unwrap_or(default.count),
        })
    }

    /// Returns the time for which sent data may stay unacknowledged. Zero: the default of the system.
    #[must_use]
    pub fn tcp_user_timeout(self) -> Duration {
        self.0.get_tcp_user_timeout().unwrap_or(TCP_USER_TIMEOUT_DEFAULT)
    }

    /// Returns the limit of the bytes that one query may return. If not given: [`RESULT_LIMIT_BYTES_DEFAULT`].
    #[must_use]
    pub fn result_limit_bytes(self) -> usize {
        self.0.get_result_limit_bytes().unwrap_or(RESULT_LIMIT_BYTES_DEFAULT)
    }

    /// Returns the minimum of SCRAM iterations that the server may ask for. If not given, it is 4096,
    /// or the given maximum if that is lower.
    #[must_use]
    pub fn scram_iterations_min(self) -> u32 {
        let default = || {
            self.0
                .get_scram_iterations_max()
                .map_or(SCRAM_ITERATIONS_MIN, |max| max.min(SCRAM_ITERATIONS_MIN))
        };
        self.0.get_scram_iterations_min().unwrap_or_else(default)
    }

    /// Returns the maximum of SCRAM iterations that the server may ask for. If not given, it is 2,000,000,
    /// or the given minimum if that is higher.
    #[must_use]
    pub fn scram_iterations_max(self) -> u32 {
        let default = || {
            self.0
                .get_scram_iterations_min()
                .map_or(SCRAM_ITERATIONS_MAX, |min| min.max(SCRAM_ITERATIONS_MAX))
        };
        self.0.get_scram_iterations_max().unwrap_or_else(default)
    }

    /// Returns the kind of server that is accepted. If it is not given and there are several hosts, it is
    /// [`TargetSessionAttrs::Primary`], because a standby refuses `LISTEN`. libpq accepts any server.
    #[must_use]
    pub fn target_session_attrs(self) -> TargetSessionAttrs {
        let several = [ParameterKey::Host, ParameterKey::Hostaddr]
            .into_iter()
            .any(|key| self.0.text(key).is_some_and(|list| list.contains(',')));
        self.0.get_target_session_attrs().unwrap_or(match several {
            true => TargetSessionAttrs::Primary,
            false => TargetSessionAttrs::Any,
        })
    }

    /// Returns the order in which hosts are tried.
    #[must_use]
    pub fn load_balance_hosts(self) -> LoadBalanceHosts {
        self.0.get_load_balance_hosts().unwrap_or_default()
    }

    /// Returns whether the connection is encrypted, and how the server's certificate is checked.
    #[must_use]
    pub fn ssl_mode(self) -> SslMode {
        self.0.get_ssl_mode().unwrap_or_default()
    }

    /// Returns the lowest version of the protocol to use. If not given: 3.0.
    #[must_use]
    pub fn min_protocol_version(self) -> ProtocolVersion {
        self.0.get_min_protocol_version().unwrap_or(ProtocolVersion::V3_0)
    }

    /// Returns the version of the protocol to request. If not given, it is 3.0, or the lowest version if that is higher,
    /// as in libpq 18: some poolers fail if 3.2 is requested.
    #[must_use]
    pub fn max_protocol_version(self) -> ProtocolVersion {
        // N12.
        self.0.get_max_protocol_version().unwrap_or(self.min_protocol_version())
    }
}
