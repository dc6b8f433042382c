//! Opening a socket to one of the servers that a configuration names.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpStream, lookup_host};

use super::stream::Stream;
use crate::config::{Host, Server};
use crate::{Config, Error, ErrorKind};

/// Silence before the first keepalive. Linux' own two hours leave a listener deaf that long, and
/// cloud load balancers forget an idle connection after about four minutes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Between keepalives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Keepalives unanswered before the connection is dead.
const KEEPALIVE_COUNT: u32 = 3;

/// How long sent data may stay unacknowledged.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// Where PostgreSQL puts its sockets: Debian's directory, then PostgreSQL's own.
#[cfg(unix)]
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Connects to the first server, in their order, that takes a connection.
///
/// # Errors
/// [`ErrorKind::Connect`] with what each server's address answered.
pub(crate) async fn dial(config: &Config) -> Result<Stream, Error> {
    let mut refusals = Vec::new();
    for server in config.servers()? {
        match open(config, &server, &mut refusals).await {
            Some(stream) => return Ok(stream),
            None => continue,
        }
    }
    let message = format!("no server could be reached: {}", refusals.join("; "));
    Err(Error::new(ErrorKind::Connect, message).with_hint(
        "is the server running, and listening at this address? (listen_addresses, port, firewall)",
    ))
}

/// Tries every address of one server; what each of them answered goes to `refusals`.
async fn open(config: &Config, server: &Server, refusals: &mut Vec<String>) -> Option<Stream> {
    let port = server.port();
    let name = match (server.address(), server.host()) {
        (Some(address), _) => address.to_string(),
        #[cfg(unix)]
        (None, Some(Host::Unix(directory))) => return open_unix(directory, port, refusals).await,
        (None, Some(Host::Tcp(name))) => name.clone(),
        (None, None) => {
            #[cfg(unix)]
            for directory in SOCKET_DIRECTORIES {
                if socket_path(directory, port).exists() {
                    return open_unix(directory, port, refusals).await;
                }
            }
            "localhost".to_owned()
        }
        #[cfg(not(unix))]
        (None, Some(Host::Unix(directory))) => {
            refusals.push(format!("{directory}: no Unix sockets on this platform"));
            return None;
        }
    };
    // Looked up at every attempt: a failover may have changed what the name means.
    let addresses: Vec<SocketAddr> = match lookup_host((name.as_str(), port)).await {
        Ok(addresses) => addresses.collect(),
        Err(error) => {
            refusals.push(format!("{name}: {error}"));
            return None;
        }
    };
    if addresses.is_empty() {
        refusals.push(format!("{name}: the name has no address"));
    }
    for address in addresses {
        match open_tcp(config, address).await {
            Ok(stream) => return Some(Stream::Tcp(stream)),
            Err(error) => refusals.push(format!("{address}: {error}")),
        }
    }
    None
}

async fn open_tcp(config: &Config, address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let socket = SockRef::from(&stream);
    if config.get_keepalives().unwrap_or(true) {
        let keepalive = TcpKeepalive::new()
            .with_time(config.get_keepalives_idle().unwrap_or(KEEPALIVE_IDLE))
            .with_interval(config.get_keepalives_interval().unwrap_or(KEEPALIVE_INTERVAL))
            .with_retries(config.get_keepalives_count().unwrap_or(KEEPALIVE_COUNT));
        socket.set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(config.get_tcp_user_timeout().unwrap_or(USER_TIMEOUT)))?;
    Ok(stream)
}

#[cfg(unix)]
async fn open_unix(directory: &str, port: u16, refusals: &mut Vec<String>) -> Option<Stream> {
    let path = socket_path(directory, port);
    match tokio::net::UnixStream::connect(&path).await {
        Ok(stream) => Some(Stream::Unix(stream)),
        Err(error) => {
            refusals.push(format!("{directory}/.s.PGSQL.{port}: {error}"));
            None
        }
    }
}

/// `<directory>/.s.PGSQL.<port>`; `@name` stands for Linux' abstract namespace, which begins with a NUL.
#[cfg(unix)]
fn socket_path(directory: &str, port: u16) -> PathBuf {
    match directory.strip_prefix('@') {
        Some(name) => PathBuf::from(format!("\0{name}/.s.PGSQL.{port}")),
        None => PathBuf::from(format!("{directory}/.s.PGSQL.{port}")),
    }
}
