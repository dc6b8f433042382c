//! What holds where nothing was given. The defaults of a listener, which are not always libpq's.

use std::time::Duration;

use super::Config;
use super::keys::Key;
use super::values::{LoadBalanceHosts, SslMode, TargetSessionAttrs};
use crate::proto::auth::{SCRAM_ITERATIONS_MAX, SCRAM_ITERATIONS_MIN};
use crate::proto::wire::ProtocolVersion;

/// `application_name`, so that `pg_stat_activity` shows who listens.
pub const APPLICATION_NAME_DEFAULT: &str = "pgbell";

/// How long an attempt to connect may take. libpq has no limit.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How long sent data may stay unacknowledged. Linux' own limit is about a quarter of an hour.
pub const TCP_USER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Most bytes that one query may return: 64 MiB.
pub const RESULT_LIMIT_BYTES_DEFAULT: usize = 64 * 1024 * 1024;

/// How a silent TCP connection is probed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepalive {
    /// Silence before the first probe. Zero: the system's.
    pub idle: Duration,
    /// Time between probes. Zero: the system's.
    pub interval: Duration,
    /// Probes unanswered before the connection is dead. Zero: the system's.
    pub count: u32,
}

/// Linux' own two hours leave a listener deaf that long, and cloud load balancers forget an idle
/// connection after about four minutes.
impl Default for Keepalive {
    fn default() -> Self {
        Self { idle: Duration::from_secs(30), interval: Duration::from_secs(10), count: 3 }
    }
}

/// What holds, given or not.
impl Config {
    /// The name to show in `pg_stat_activity`: the given one, the fallback, [`APPLICATION_NAME_DEFAULT`].
    #[must_use]
    pub fn effective_application_name(&self) -> &str {
        self.get_application_name().unwrap_or(APPLICATION_NAME_DEFAULT)
    }

    /// The time for a whole attempt to connect, from the first name that is looked up to the session
    /// that is ready. Always finite: no limit asked for is [`CONNECT_TIMEOUT_DEFAULT`] too.
    #[must_use]
    pub fn effective_connect_timeout(&self) -> Duration {
        self.get_connect_timeout()
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(CONNECT_TIMEOUT_DEFAULT)
    }

    /// How a silent TCP connection is probed, if it is.
    #[must_use]
    pub fn effective_keepalive(&self) -> Option<Keepalive> {
        let default = Keepalive::default();
        self.get_keepalives().unwrap_or(true).then(|| Keepalive {
            idle: self.get_keepalives_idle().unwrap_or(default.idle),
            interval: self.get_keepalives_interval().unwrap_or(default.interval),
            count: self.get_keepalives_count().unwrap_or(default.count),
        })
    }

    /// How long sent data may stay unacknowledged. Zero: the system's.
    #[must_use]
    pub fn effective_tcp_user_timeout(&self) -> Duration {
        self.get_tcp_user_timeout().unwrap_or(TCP_USER_TIMEOUT_DEFAULT)
    }

    /// Most bytes that one query may return: [`RESULT_LIMIT_BYTES_DEFAULT`] where nothing is said.
    #[must_use]
    pub fn effective_result_limit_bytes(&self) -> usize {
        self.get_result_limit_bytes().unwrap_or(RESULT_LIMIT_BYTES_DEFAULT)
    }

    /// The fewest iterations of SCRAM that the server may ask for: [`SCRAM_ITERATIONS_MIN`] where nothing is said, or the most
    /// that it may ask for if these are fewer.
    #[must_use]
    pub fn effective_scram_iterations_min(&self) -> u32 {
        let default = || {
            self.get_scram_iterations_max()
                .map_or(SCRAM_ITERATIONS_MIN, |max| max.min(SCRAM_ITERATIONS_MIN))
        };
        self.get_scram_iterations_min().unwrap_or_else(default)
    }

    /// The most iterations of SCRAM that the server may ask for: [`SCRAM_ITERATIONS_MAX`] where nothing is said, or the fewest
    /// that it may ask for if these are more.
    #[must_use]
    pub fn effective_scram_iterations_max(&self) -> u32 {
        let default = || {
            self.get_scram_iterations_min()
                .map_or(SCRAM_ITERATIONS_MAX, |min| min.max(SCRAM_ITERATIONS_MAX))
        };
        self.get_scram_iterations_max().unwrap_or_else(default)
    }

    /// Which servers are acceptable. When several are given and nothing is said, it is
    /// [`TargetSessionAttrs::Primary`], since `LISTEN` is refused on a standby; libpq takes any.
    #[must_use]
    pub fn effective_target_session_attrs(&self) -> TargetSessionAttrs {
        let several = [Key::Host, Key::Hostaddr]
            .into_iter()
            .any(|key| self.text(key).is_some_and(|list| list.contains(',')));
        self.get_target_session_attrs().unwrap_or(match several {
            true => TargetSessionAttrs::Primary,
            false => TargetSessionAttrs::Any,
        })
    }

    /// The order in which hosts are tried.
    #[must_use]
    pub fn effective_load_balance_hosts(&self) -> LoadBalanceHosts {
        self.get_load_balance_hosts().unwrap_or_default()
    }

    /// Whether the connection is encrypted, and what is checked.
    #[must_use]
    pub fn effective_ssl_mode(&self) -> SslMode {
        self.get_ssl_mode().unwrap_or_default()
    }

    /// The lowest version of the protocol to speak: 3.0 where nothing is said.
    #[must_use]
    pub fn effective_min_protocol_version(&self) -> ProtocolVersion {
        self.get_min_protocol_version().unwrap_or(ProtocolVersion::V3_0)
    }

    /// The version of the protocol to ask for: 3.0 where nothing is said, since poolers fail on 3.2,
    /// or the lowest one if that is higher. As libpq 18. N12.
    #[must_use]
    pub fn effective_max_protocol_version(&self) -> ProtocolVersion {
        self.get_max_protocol_version().unwrap_or(self.effective_min_protocol_version())
    }
}
