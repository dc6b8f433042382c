//! Typed setters and getters of the parameters, except those of `security.rs`.

use std::time::Duration;

use zeroize::Zeroizing;

use super::Config;
use super::error::Location;
use super::form::{integer, seconds, seconds_text, whole};
use super::keys::ParameterKey;
use super::values::{LoadBalanceHosts, TargetSessionAttrs};

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Setters. [`check`](Config::check) returns an error if a value is not valid.
impl Config {
    /// Sets the server: a name, an IP address, or a socket directory that begins with `/`.
    /// Several are separated by commas. The previous value is replaced.
    #[must_use]
    pub fn host(self, host: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Host, host)
    }

    /// Sets the IP address to connect to, so that [`host`](Self::host) is not looked up. Several
    /// are separated by commas, one for each host.
    #[must_use]
    pub fn hostaddr(self, hostaddr: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Hostaddr, hostaddr)
    }

    /// Sets the port of all hosts. For different ports: `.set("port", "5432,5433")`.
    #[must_use]
    pub fn port(self, port: u16) -> Self {
        self.with(ParameterKey::Port, port.to_string())
    }

    /// Sets the database.
    #[must_use]
    pub fn dbname(self, dbname: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Dbname, dbname)
    }

    /// Sets the role to log in as.
    #[must_use]
    pub fn user(self, user: impl AsRef<str>) -> Self {
        self.with(ParameterKey::User, user)
    }

    /// Sets the password, which need not be UTF-8. The empty password counts as no password.
    #[must_use]
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Self {
        let password = Zeroizing::new(password.into());
        if let Err(error) = self.store("password", &password, Location::Call) {
            self.fault.get_or_insert(error);
        }
        self
    }

    /// Sets how many bytes one query may return: the memory for its rows and their descriptions. The default is 64 MiB;
    /// less than 64 KiB counts as 64 KiB. A longer result is an error of kind
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported). The session stays usable: the rest of the result is
    /// discarded as it arrives. The server has executed the statement nevertheless.
    ///
    /// The limit is used for every session with this configuration: of a [`Connection`](crate::Connection), of a
    /// [`Listener`](crate::Listener) and of the connections of its hook. It is not a parameter of libpq: a connection
    /// string cannot set it, and `Display` does not show it.
    ///
    /// While one row arrives, its session uses memory of up to four times the length of the row.
    #[must_use]
    pub fn result_limit_bytes(mut self, bytes: usize) -> Self {
        self.result_limit_bytes = Some(bytes);
        self
    }

    /// Sets the path of the password file: see [`PassFile`](super::PassFile). It is read at every attempt.
    #[must_use]
    pub fn passfile(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Passfile, path)
    }

    /// Sets the service, whose parameters are used if they are not set here.
    #[must_use]
    pub fn service(self, name: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Service, name)
    }

    /// Sets the path of the service file: see [`ServiceFile`](super::ServiceFile).
    #[must_use]
    pub fn service_file(self, path: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Servicefile, path)
    }

    /// Sets the name that `pg_stat_activity` shows.
    #[must_use]
    pub fn application_name(self, name: impl AsRef<str>) -> Self {
        self.with(ParameterKey::ApplicationName, name)
    }

    /// Sets the command line for the server process, such as `-c search_path=a`.
    #[must_use]
    pub fn options(self, options: impl AsRef<str>) -> Self {
        self.with(ParameterKey::Options, options)
    }

    /// Sets the timeout of one attempt to connect, rounded up to milliseconds. Zero means not given: the default is used.
    #[must_use]
    pub fn connect_timeout(self, timeout: Duration) -> Self {
        self.with(ParameterKey::ConnectTimeout, seconds_text(timeout))
    }

    /// Sets whether TCP keepalives are sent.
    #[must_use]
    pub fn keepalives(self, on: bool) -> Self {
        self.with(ParameterKey::Keepalives, if on { "1" } else { "0" })
    }

    /// Sets the idle time before the first keepalive, rounded up to seconds. Zero: the default of the system.
    #[must_use]
    pub fn keepalives_idle(self, idle: Duration) -> Self {
        self.with(ParameterKey::KeepalivesIdle, whole(idle, SECOND).to_string())
    }

    /// Sets the time between keepalives, rounded up to seconds. Zero: the default of the system.
    #[must_use]
    pub fn keepalives_interval(self, interval: Duration) -> Self {
        self.with(ParameterKey::KeepalivesInterval, whole(interval, SECOND).to_string())
    }

    /// Sets the number of unanswered keepalives after which the connection is dead. Zero: the default of the system.
    #[must_use]
    pub fn keepalives_count(self, count: u32) -> Self {
        self.with(ParameterKey::KeepalivesCount, count.to_string())
    }

    /// Sets the time for which sent data may stay unacknowledged, rounded up to milliseconds. Zero: the default of the
    /// system.
    #[must_use]
    pub fn tcp_user_timeout(self, timeout: Duration) -> Self {
        self.with(ParameterKey::TcpUserTimeout, whole(timeout, MILLISECOND).to_string())
    }

    /// Sets the kind of server that is accepted.
    #[must_use]
    pub fn target_session_attrs(self, attrs: TargetSessionAttrs) -> Self {
        self.with(ParameterKey::TargetSessionAttrs, attrs.as_str())
    }

    /// Sets the order in which hosts are tried.
    #[must_use]
    pub fn load_balance_hosts(self, order: LoadBalanceHosts) -> Self {
        self.with(ParameterKey::LoadBalanceHosts, order.as_str())
    }
}

/// Getters. `None` means not given: the default is chosen when a session is opened. For the hosts see
/// [`servers`](Config::servers).
impl Config {
    /// Returns the database.
    #[must_use]
    pub fn get_dbname(&self) -> Option<&str> {
        self.text(ParameterKey::Dbname)
    }

    /// Returns the role to log in as.
    #[must_use]
    pub fn get_user(&self) -> Option<&str> {
        self.text(ParameterKey::User)
    }

    /// Returns the bytes of the password. Do not show or log them.
    #[must_use]
    pub fn get_password(&self) -> Option<&[u8]> {
        self.password
            .as_ref()
            .map(|(password, _)| password.expose())
            .filter(|bytes| !bytes.is_empty())
    }

    /// Returns how many bytes one query may return, if the limit was set.
    #[must_use]
    pub fn get_result_limit_bytes(&self) -> Option<usize> {
        self.result_limit_bytes
    }

    /// Returns the path of the password file.
    #[must_use]
    pub fn get_passfile(&self) -> Option<&str> {
        self.text(ParameterKey::Passfile)
    }

    /// Returns the name of the service.
    #[must_use]
    pub fn get_service(&self) -> Option<&str> {
        self.text(ParameterKey::Service)
    }

    /// Returns the path of the service file.
    #[must_use]
    pub fn get_service_file(&self) -> Option<&str> {
        self.text(ParameterKey::Servicefile)
    }

    /// Returns the name that `pg_stat_activity` shows, or the fallback for it.
    #[must_use]
    pub fn get_application_name(&self) -> Option<&str> {
        self.text(ParameterKey::ApplicationName)
            .or_else(|| self.text(ParameterKey::FallbackApplicationName))
    }

    /// Returns the command line for the server process.
    #[must_use]
    pub fn get_options(&self) -> Option<&str> {
        self.text(ParameterKey::Options)
    }

    /// Returns the timeout of one attempt to connect. Zero means not given: the default is used.
    #[must_use]
    pub fn get_connect_timeout(&self) -> Option<Duration> {
        self.text(ParameterKey::ConnectTimeout).and_then(seconds)
    }

    /// Returns whether TCP keepalives are sent.
    #[must_use]
    pub fn get_keepalives(&self) -> Option<bool> {
        self.text(ParameterKey::Keepalives).and_then(integer).map(|on| on != 0)
    }

    /// Returns the idle time before the first keepalive. Zero: the default of the system.
    #[must_use]
    pub fn get_keepalives_idle(&self) -> Option<Duration> {
        self.number(ParameterKey::KeepalivesIdle).map(|seconds| SECOND * seconds)
    }

    /// Returns the time between keepalives. Zero: the default of the system.
    #[must_use]
    pub fn get_keepalives_interval(&self) -> Option<Duration> {
        self.number(ParameterKey::KeepalivesInterval).map(|seconds| SECOND * seconds)
    }

    /// Returns the number of unanswered keepalives after which the connection is dead. Zero: the default of the system.
    #[must_use]
    pub fn get_keepalives_count(&self) -> Option<u32> {
        self.number(ParameterKey::KeepalivesCount)
    }

    /// Returns the time for which sent data may stay unacknowledged. Zero: the default of the system.
    #[must_use]
    pub fn get_tcp_user_timeout(&self) -> Option<Duration> {
        self.number(ParameterKey::TcpUserTimeout).map(|millis| MILLISECOND * millis)
    }

    /// Returns the kind of server that is accepted.
    #[must_use]
    pub fn get_target_session_attrs(&self) -> Option<TargetSessionAttrs> {
        self.text(ParameterKey::TargetSessionAttrs).and_then(|text| text.parse().ok())
    }

    /// Returns the order in which hosts are tried.
    #[must_use]
    pub fn get_load_balance_hosts(&self) -> Option<LoadBalanceHosts> {
        self.text(ParameterKey::LoadBalanceHosts).and_then(|text| text.parse().ok())
    }

    /// Returns the number of a parameter. A negative number counts as zero.
    pub(super) fn number(&self, key: ParameterKey) -> Option<u32> {
        self.text(key).and_then(integer).map(|number| u32::try_from(number).unwrap_or(0))
    }
}
