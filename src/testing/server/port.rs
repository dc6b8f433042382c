//! A TCP port or a Unix socket to which clients connect.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::client_task::ClientTask;
use super::shared::Shared;

/// The delay after a failed accept: the system may have no socket for a client.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Clients that may wait to be accepted: the number of the standard library.
const LISTEN_BACKLOG: u32 = 128;

/// The tasks of the sessions of one port.
pub(super) type Sessions = JoinSet<()>;

/// A TCP port or a Unix socket, open or closed.
#[derive(Debug)]
pub(super) struct Port {
    address: PortAddress,
    acceptor: Option<Acceptor>,
}

#[derive(Debug)]
enum PortAddress {
    Tcp {
        address: SocketAddr,
        /// Reserves the number while the port is closed: it is bound and does not listen.
        reserved: Option<TcpSocket>,
    },
    #[cfg(unix)]
    Unix(PathBuf),
}

/// The task that accepts clients.
#[derive(Debug)]
struct Acceptor {
    closing: Arc<Notify>,
    task: JoinHandle<Sessions>,
}

enum PortListener {
    Tcp(TcpListener),
    #[cfg(unix)]
    Unix(UnixListener),
}

impl Port {
    /// Opens a TCP port.
    pub(super) async fn tcp(shared: &Arc<Shared>, address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let port_address = PortAddress::Tcp { address, reserved: None };
        let acceptor = Some(Acceptor::start(shared, PortListener::Tcp(listener)));
        Ok(Self { address: port_address, acceptor })
    }

    /// Opens a Unix socket.
    #[cfg(unix)]
    pub(super) fn unix(shared: &Arc<Shared>, path: PathBuf) -> io::Result<Self> {
        let listener = UnixListener::bind(&path)?;
        let acceptor = Some(Acceptor::start(shared, PortListener::Unix(listener)));
        Ok(Self { address: PortAddress::Unix(path), acceptor })
    }

    /// Returns the address of a TCP port.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        match &self.address {
            PortAddress::Tcp { address, .. } => Some(*address),
            #[cfg(unix)]
            PortAddress::Unix(_) => None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Accepts no more clients, and returns the sessions of those that are connected.
    pub(super) async fn close(&mut self) -> Sessions {
        let Some(acceptor) = &mut self.acceptor else { return Sessions::new() };
        acceptor.closing.notify_one();
        // An error means that the task was aborted: its sessions were aborted with it.
        let sessions = (&mut acceptor.task).await.unwrap_or_default();
        self.acceptor = None;
        match &mut self.address {
            PortAddress::Tcp { address, reserved } => *reserved = reserve(*address),
            #[cfg(unix)]
            PortAddress::Unix(_) => self.remove_file(),
        }
        sessions
    }

    /// Accepts clients again, at the same address.
    pub(super) async fn open(&mut self, shared: &Arc<Shared>) -> io::Result<()> {
        if self.is_open() {
            return Ok(());
        }
        let listening = match &mut self.address {
            PortAddress::Tcp { address, reserved } => PortListener::Tcp(match reserved.take() {
                Some(socket) => socket.listen(LISTEN_BACKLOG)?,
                None => TcpListener::bind(*address).await?,
            }),
            #[cfg(unix)]
            PortAddress::Unix(path) => PortListener::Unix(UnixListener::bind(path)?),
        };
        self.acceptor = Some(Acceptor::start(shared, listening));
        Ok(())
    }

    /// Ends the sessions and the acceptor at once.
    pub(super) async fn abort(&mut self) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.task.abort();
            // The error means that it was aborted.
            let _ = (&mut acceptor.task).await;
        }
    }

    #[cfg(unix)]
    fn remove_file(&self) {
        if let PortAddress::Unix(path) = &self.address {
            // An error cannot be handled here. The caller removes the directory.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        // The tasks of the sessions belong to the acceptor, and end with it.
        if let Some(acceptor) = &self.acceptor {
            acceptor.task.abort();
        }
        #[cfg(unix)]
        self.remove_file();
    }
}

/// Reserves the number of a closed port, so that no other program gets it before the port is opened again.
fn reserve(address: SocketAddr) -> Option<TcpSocket> {
    let socket = TcpSocket::new_v4().ok()?;
    // On Windows this option would let other programs take the port.
    #[cfg(unix)]
    socket.set_reuseaddr(true).ok()?;
    socket.bind(address).ok()?;
    Some(socket)
}

impl Acceptor {
    fn start(shared: &Arc<Shared>, listening: PortListener) -> Self {
        let closing = Arc::new(Notify::new());
        let task = tokio::spawn(accept(Arc::clone(shared), listening, Arc::clone(&closing)));
        Self { closing, task }
    }
}

/// Accepts clients until `closing` is notified, and returns the sessions. If it is aborted, they end too.
async fn accept(shared: Arc<Shared>, listening: PortListener, closing: Arc<Notify>) -> Sessions {
    let mut sessions = Sessions::new();
    let mut closing = pin!(closing.notified());
    loop {
        let accepted = poll_fn(|cx| match closing.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(None),
            Poll::Pending => listening.poll_accept(cx, &shared, &mut sessions).map(Some),
        });
        match accepted.await {
            None => return sessions,
            Some(Ok(())) => {}
            Some(Err(_)) => tokio::time::sleep(ACCEPT_RETRY_DELAY).await,
        }
        while sessions.try_join_next().is_some() {}
    }
}

impl PortListener {
    /// Accepts one client.
    fn poll_accept(
        &self,
        cx: &mut Context<'_>,
        shared: &Arc<Shared>,
        sessions: &mut Sessions,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                // Without it small answers are delayed until an acknowledgement arrives.
                let _ = stream.set_nodelay(true);
                sessions.spawn(ClientTask::new(Arc::clone(shared)).run(stream));
            }),
            #[cfg(unix)]
            Self::Unix(listener) => listener.poll_accept(cx).map_ok(|(stream, _)| {
                sessions.spawn(ClientTask::new(Arc::clone(shared)).run(stream));
            }),
        }
    }
}
