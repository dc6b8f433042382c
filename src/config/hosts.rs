//! The servers of a configuration, from its lists of hosts, addresses and ports.

use core::net::IpAddr;

use super::Config;
use super::error::{ConfigError, Location, ParameterFault};
use super::form::{address, list, port};
use super::keys::ParameterKey;

/// The default port of a server: `DEF_PGPORT` of PostgreSQL.
pub const PORT_DEFAULT: u16 = 5432;

/// The directory of the sockets of servers that come from the packages of Linux distributions.
pub(crate) const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// The name of a server.
///
/// ```
/// use pgbell::Config;
/// use pgbell::config::Host;
///
/// let config: Config = "host=db1,/run/postgresql".parse().unwrap();
/// let servers = config.servers().unwrap();
/// assert_eq!(servers[0].host(), Some(&Host::Tcp("db1".into())));
/// assert_eq!(servers[1].host(), Some(&Host::Unix("/run/postgresql".into())));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Host {
    /// A DNS name or an IP address without brackets.
    Tcp(String),
    /// The directory of a Unix socket, whose file is `<directory>/.s.PGSQL.<port>`: a path that
    /// begins with `/`, or a name in Linux' abstract namespace that begins with `@`.
    Unix(String),
}

impl Host {
    fn new(text: &str) -> Option<Self> {
        match text.chars().next()? {
            '/' | '@' => Some(Self::Unix(text.to_owned())),
            _ => Some(Self::Tcp(text.to_owned())),
        }
    }
}

/// One server of a configuration.
///
/// ```
/// use pgbell::Config;
///
/// let config: Config = "host=db1,db2 port=5432,5433".parse().unwrap();
/// let servers = config.servers().unwrap();
/// assert_eq!(servers.iter().map(|server| server.port()).collect::<Vec<_>>(), [5432, 5433]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    host: Option<Host>,
    address: Option<IpAddr>,
    /// The address as it was given, because password files are searched for the same spelling.
    address_text: Option<String>,
    port: u16,
}

impl Server {
    /// Returns its name. `None` with an [`address`](Self::address): only the address was given. `None` without an address:
    /// the default server, whose socket is in `/var/run/postgresql` if that directory exists, else in `/tmp`. On platforms
    /// without Unix sockets the default server is localhost.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Returns the address to connect to, so that the name need not be looked up. It is used instead of a Unix
    /// socket in [`host`](Self::host). Certificates are still checked for the name.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(super) fn address_text(&self) -> Option<&str> {
        self.address_text.as_deref()
    }

    /// Returns its TCP port, or the number in the name of its socket file.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Config {
    /// Returns the servers in the order in which they were given, at least one.
    ///
    /// Their number is the number of items in `hostaddr`, or in `host` if there is no `hostaddr`, or one if there is
    /// neither. If both lists are given, they must have the same length. A single port is for all servers. Otherwise there
    /// must be one port for each server, and an empty port means 5432.
    ///
    /// # Errors
    /// The lists do not match, or [`check`](Self::check) returns an error.
    pub fn servers(&self) -> Result<Vec<Server>, ConfigError> {
        self.check()?;
        self.pair()
    }

    pub(super) fn pair(&self) -> Result<Vec<Server>, ConfigError> {
        // The cause is two lists, which may come from two sources, so the error has no location. The rules are N48.
        let fault = |fault, key: ParameterKey| {
            Err(ConfigError::new(fault, Some(key.name()), Location::Call))
        };
        let items = |key| list(self.text(key).unwrap_or_default());
        let count = |key| items(key).count();

        let (hosts, addresses, ports) =
            (count(ParameterKey::Host), count(ParameterKey::Hostaddr), count(ParameterKey::Port));
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return fault(
                ParameterFault::AddressCount { hosts, addresses },
                ParameterKey::Hostaddr,
            );
        }
        let servers = hosts.max(addresses).max(1);
        if ports > 1 && ports != servers {
            return fault(ParameterFault::PortCount { ports, servers }, ParameterKey::Port);
        }

        let mut host = items(ParameterKey::Host);
        let mut hostaddr = items(ParameterKey::Hostaddr);
        let one = items(ParameterKey::Port).next().filter(|_| ports == 1);
        let mut port_of_each = items(ParameterKey::Port);
        Ok((0..servers)
            .map(|_| {
                let text = hostaddr.next().filter(|text| !text.is_empty());
                Server {
                    host: host.next().and_then(Host::new),
                    address: text.and_then(address),
                    address_text: text.map(ToOwned::to_owned),
                    port: one
                        .or_else(|| port_of_each.next())
                        .and_then(port)
                        .unwrap_or(PORT_DEFAULT),
                }
            })
            .collect())
    }
}
