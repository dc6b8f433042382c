//! Which servers a configuration names: hosts, addresses and ports, paired.

use core::net::IpAddr;

use super::Config;
use super::error::{ConfigError, Fault, Place};
use super::form::{address, list, port};
use super::keys::Key;

/// Port of a server for which none is given. `DEF_PGPORT` of PostgreSQL.
pub const PORT_DEFAULT: u16 = 5432;

/// Where servers put their sockets: the directory of the packages of Linux distributions.
pub(crate) const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// How a server is called.
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

/// One server to try.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    host: Option<Host>,
    address: Option<IpAddr>,
    /// As it was written: password files have the same spelling.
    address_text: Option<String>,
    port: u16,
}

impl Server {
    /// Its name. `None` with an address: only that is known. `None` without: the default server, whose
    /// socket is in `/var/run/postgresql` where that directory exists, else in `/tmp`; localhost where the
    /// platform has no Unix sockets.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// The address to connect to, so that the name need not be looked up. It wins over a Unix
    /// socket in [`host`](Self::host); the name still counts for certificates.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    pub(super) fn address_text(&self) -> Option<&str> {
        self.address_text.as_deref()
    }

    /// Its TCP port, or the number in the name of its socket file.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Config {
    /// The servers in the order in which they were given, at least one.
    ///
    /// `hostaddr` decides how many there are, else `host`, else there is one. Both lists must
    /// then be of one length. One port is for all; otherwise there must be one for each server,
    /// where an empty one means 5432. Note N48.
    ///
    /// # Errors
    /// The lists do not match, or a setter was given a value that [`check`](Self::check) refuses.
    pub fn servers(&self) -> Result<Vec<Server>, ConfigError> {
        self.check()?;
        self.pair()
    }

    pub(super) fn pair(&self) -> Result<Vec<Server>, ConfigError> {
        // Two lists are at fault, which may come from two sources: no place is right.
        let fault = |fault, key: Key| Err(ConfigError::new(fault, Some(key.name()), Place::Call));
        let items = |key| list(self.text(key).unwrap_or_default());
        let count = |key| items(key).count();

        let (hosts, addresses, ports) = (count(Key::Host), count(Key::Hostaddr), count(Key::Port));
        if hosts > 0 && addresses > 0 && hosts != addresses {
            return fault(Fault::AddressCount { hosts, addresses }, Key::Hostaddr);
        }
        let servers = hosts.max(addresses).max(1);
        if ports > 1 && ports != servers {
            return fault(Fault::PortCount { ports, servers }, Key::Port);
        }

        let mut host = items(Key::Host);
        let mut hostaddr = items(Key::Hostaddr);
        let one = items(Key::Port).next().filter(|_| ports == 1);
        let mut port_of_each = items(Key::Port);
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
