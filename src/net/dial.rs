//! Opening a socket to an address of a server.

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

#[cfg(unix)]
use super::peer::check_peer;
use super::stream::Stream;
#[cfg(unix)]
use crate::config::hosts::SOCKET_DIRECTORIES;
use crate::config::{Host, Server};
use crate::{Config, Error, ErrorKind};

/// Where a server can be reached.
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

    /// The addresses of a server, at least one. Looked up at every attempt: a failover may have changed
    /// what the name means.
    pub(super) async fn look_up(server: &Server) -> Result<Vec<Self>, Error> {
        let port = server.port();
        let name = match (server.address(), server.host()) {
            (Some(address), _) => return Ok(vec![Self::Tcp((address, port).into())]),
            #[cfg(unix)]
            (None, Some(Host::Unix(directory))) => {
                return Ok(vec![Self::Unix { directory: directory.clone(), port }]);
            }
            #[cfg(not(unix))]
            (None, Some(Host::Unix(directory))) => {
                let message = format!("{directory}: no Unix sockets on this platform");
                return Err(Error::new(ErrorKind::Connect, message));
            }
            (None, Some(Host::Tcp(name))) => name.as_str(),
            (None, None) => {
                #[cfg(unix)]
                for directory in SOCKET_DIRECTORIES {
                    if socket_path(directory, port).exists() {
                        return Ok(vec![Self::Unix { directory: directory.to_owned(), port }]);
                    }
                }
                "localhost"
            }
        };
        let found = lookup_host((name, port))
            .await
            .map_err(|error| Error::new(ErrorKind::Connect, format!("{name}: {error}")))?;
        let addresses: Vec<_> = found.map(Self::Tcp).collect();
        if addresses.is_empty() {
            let message = format!("{name}: the name has no address");
            return Err(Error::new(ErrorKind::Connect, message));
        }
        Ok(addresses)
    }

    pub(super) async fn dial(&self, config: &Config) -> Result<Stream, Error> {
        let opened = match self {
            Self::Tcp(address) => open_tcp(config, *address).await.map(Stream::Tcp),
            #[cfg(unix)]
            Self::Unix { directory, port } => {
                let path = socket_path(directory, *port);
                match tokio::net::UnixStream::connect(&path).await {
                    Ok(stream) => {
                        check_peer(config, &stream).await?;
                        Ok(Stream::Unix(stream))
                    }
                    Err(error) => Err(error),
                }
            }
        };
        opened.map_err(|error| {
            Error::new(ErrorKind::Connect, format!("{self}: {error}")).with_hint(
                "is the server running, and listening at this address? (listen_addresses, port, firewall)",
            )
        })
    }
}

async fn open_tcp(config: &Config, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = config.effective_keepalive() {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(config.effective_tcp_user_timeout()))?;
    Ok(stream)
}

/// `<directory>/.s.PGSQL.<port>`; `@name` stands for Linux' abstract namespace, which begins with a NUL.
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

    /// What the kernel was told, for a configuration.
    async fn options(text: &str) -> (Option<[u64; 3]>, Duration, bool) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config: Config = format!("host=127.0.0.1 {text}").parse().unwrap();
        let address = Address::Tcp(listener.local_addr().unwrap());
        let Ok(Stream::Tcp(stream)) = address.dial(&config).await else { panic!("no socket") };
        let socket = SockRef::from(&stream);
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

    #[tokio::test]
    async fn keepalives_and_the_user_timeout_reach_the_kernel() {
        let seconds = Duration::from_secs;
        assert_eq!(options("").await, (Some([30, 10, 3]), seconds(30), true));
        let text =
            "keepalives_idle=7 keepalives_interval=5 keepalives_count=2 tcp_user_timeout=9000";
        assert_eq!(options(text).await, (Some([7, 5, 2]), seconds(9), true));
        assert_eq!(options("keepalives=0").await, (None, seconds(30), true));
    }
}
