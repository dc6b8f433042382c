//! The addresses of a server, and sockets to them.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::{Path, PathBuf};
#[cfg(unix)]
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

#[cfg(unix)]
use super::peer;
use super::stream::Stream;
use super::tcp::TcpSocket;
use crate::config::Config;
#[cfg(unix)]
use crate::config::hosts::SOCKET_DIRECTORY;
use crate::config::{Host, Server};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::Channel;

/// PostgreSQL's own default, used if there is no [`SOCKET_DIRECTORY`]. Every user may create a socket there.
// N190.
#[cfg(unix)]
const SOCKET_DIRECTORY_ELSE: &str = "/tmp";

/// An address of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Address {
    Tcp(SocketAddr),
    #[cfg(unix)]
    Unix {
        directory: String,
        port: u16,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix { directory, port } => write!(f, "{directory}/.s.PGSQL.{port}"),
        }
    }
}

impl Address {
    pub(super) fn is_unix(&self) -> bool {
        !matches!(self, Self::Tcp(_))
    }

    /// Returns the server as errors name it: as it was configured, with the address if that is another text.
    pub(super) fn of(&self, server: &Server) -> String {
        match (self, server.host()) {
            (Self::Tcp(address), Some(Host::Tcp(name))) if name.parse() != Ok(address.ip()) => {
                format!("{name}:{} ({})", address.port(), address.ip())
            }
            _ => self.to_string(),
        }
    }

    /// Returns the hint for a socket that cannot be opened.
    fn hint(&self) -> &'static str {
        match self {
            Self::Tcp(_) => {
                "is the server running, and listening at this address? (listen_addresses, port, firewall)"
            }
            #[cfg(unix)]
            Self::Unix { .. } => {
                "is the server running, and is its socket in this directory? (unix_socket_directories, port) \
                 `host` can name another directory, and host=localhost uses TCP"
            }
        }
    }

    /// Looks up the addresses of a server, at least one. Done at every attempt: a failover may have changed
    /// the addresses of the name.
    pub(super) async fn look_up(server: &Server) -> Result<Vec<Self>, Error> {
        let port = server.port();
        let name = match (server.address(), server.host()) {
            (Some(address), _) => return Ok(vec![Self::Tcp((address, port).into())]),
            #[cfg(unix)]
            (None, Some(Host::Unix(directory))) => {
                return Ok(vec![Self::Unix { directory: directory.clone(), port }]);
            }
            #[cfg(not(unix))]
            (None, Some(Host::Unix(_))) => {
                let message = "no Unix sockets on this platform";
                return Err(Error::new(ErrorKind::Connect, message));
            }
            (None, Some(Host::Tcp(name))) => name.as_str(),
            #[cfg(unix)]
            (None, None) => {
                return Ok(vec![Self::Unix { directory: default_directory().to_owned(), port }]);
            }
            #[cfg(not(unix))]
            (None, None) => "localhost",
        };
        let found = lookup_host((name, port)).await.map_err(|error| unresolved(&error))?;
        let addresses: Vec<_> = found.map(Self::Tcp).collect();
        if addresses.is_empty() {
            let message = "the name has no address";
            return Err(Error::new(ErrorKind::Connect, message).with_hint(NAME_HINT));
        }
        Ok(addresses)
    }

    /// Opens a socket. The result has the kind of connection, which decides whether a password may be sent in clear.
    pub(super) async fn dial(&self, config: &Config) -> Result<Dialled, Error> {
        let opened = match self {
            Self::Tcp(address) => open_tcp(config, *address).await.map(|stream| Dialled {
                stream: Stream::Tcp(TcpSocket::new(stream)),
                channel: Channel::Clear,
            }),
            #[cfg(unix)]
            Self::Unix { directory, port } => {
                let path = socket_path(directory, *port);
                match tokio::net::UnixStream::connect(&path).await {
                    Ok(stream) => {
                        let channel = peer::check(config, &stream).await?;
                        Ok(Dialled { stream: Stream::Unix(stream), channel })
                    }
                    Err(error) => Err(error),
                }
            }
        };
        opened.map_err(|error| {
            Error::new(ErrorKind::Connect, error.to_string()).with_hint(self.hint())
        })
    }
}

const NAME_HINT: &str = "the name is not known to the resolver of this machine, or no resolver answers: check its spelling, \
    the DNS settings and, in a container, whether both are in one network";

/// The name of a server could not be resolved.
#[cold]
fn unresolved(error: &io::Error) -> Error {
    Error::new(ErrorKind::Connect, error.to_string()).with_hint(NAME_HINT)
}

/// An open socket to a server. Nothing was sent yet.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: Stream,
    /// The kind of connection before TLS.
    pub(super) channel: Channel,
}

async fn open_tcp(config: &Config, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = config.effective().keepalive() {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(config.effective().tcp_user_timeout()))?;
    Ok(stream)
}

/// Returns the directory of the default server's socket.
#[cfg(unix)]
pub(super) fn default_directory() -> &'static str {
    static WAS_THERE: AtomicBool = AtomicBool::new(false);
    choose_directory(Path::new(SOCKET_DIRECTORY).is_dir(), &WAS_THERE)
}

/// Returns `/tmp` if the usual directory does not exist and did not exist before. Some systems remove it when the server
/// stops, and any user can listen in `/tmp`.
// N190.
#[cfg(unix)]
fn choose_directory(is_there: bool, was_there: &AtomicBool) -> &'static str {
    let was_there = was_there.fetch_or(is_there, Ordering::Relaxed);
    if is_there || was_there { SOCKET_DIRECTORY } else { SOCKET_DIRECTORY_ELSE }
}

/// Returns `<directory>/.s.PGSQL.<port>`. `@name` means Linux' abstract namespace, in which a path begins with a NUL.
#[cfg(unix)]
fn socket_path(directory: &str, port: u16) -> PathBuf {
    match directory.strip_prefix('@') {
        Some(name) => PathBuf::from(format!("\0{name}/.s.PGSQL.{port}")),
        None => PathBuf::from(format!("{directory}/.s.PGSQL.{port}")),
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Returns the socket options that a configuration sets.
    async fn options(text: &str) -> (Option<[u64; 3]>, Duration, bool) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config: Config = format!("host=127.0.0.1 {text}").parse().unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let Ok(Dialled { stream: Stream::Tcp(mut socket), channel: Channel::Clear }) =
            address.dial(&config).await
        else {
            panic!("no socket")
        };
        let stream = socket.stream().unwrap();
        let socket = SockRef::from(&*stream);
        let keepalive = socket.keepalive().unwrap().then(|| {
            [
                socket.tcp_keepalive_time().unwrap().as_secs(),
                socket.tcp_keepalive_interval().unwrap().as_secs(),
                u64::from(socket.tcp_keepalive_retries().unwrap()),
            ]
        });
        let user_timeout = socket.tcp_user_timeout().unwrap().unwrap_or_default();
        (keepalive, user_timeout, stream.nodelay().unwrap())
    }

    /// The usual directory may be removed with its server. `/tmp` is not used instead.
    #[test]
    fn the_default_directory_is_never_replaced_by_one_that_every_user_can_write_to() {
        let was_there = AtomicBool::new(false);
        assert_eq!(choose_directory(false, &was_there), "/tmp");
        assert_eq!(choose_directory(true, &was_there), "/var/run/postgresql");
        assert_eq!(choose_directory(false, &was_there), "/var/run/postgresql");
        let is_there = Path::new("/var/run/postgresql").is_dir();
        assert_eq!(default_directory() == "/tmp", !is_there);
    }

    #[tokio::test]
    async fn keepalives_and_the_user_timeout_are_set_on_the_socket() {
        let seconds = Duration::from_secs;
        assert_eq!(options("").await, (Some([30, 10, 3]), seconds(30), true));
        let text =
            "keepalives_idle=7 keepalives_interval=5 keepalives_count=2 tcp_user_timeout=9000";
        assert_eq!(options(text).await, (Some([7, 5, 2]), seconds(9), true));
        assert_eq!(options("keepalives=0").await, (None, seconds(30), true));
    }
}
