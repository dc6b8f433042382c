//! The testing backend on a real local socket.

use std::collections::HashMap;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::net::UnixListener;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};

use super::{Backend, BackendConfig, Count, SessionId};

/// Bytes that are read from a client at once.
const READ_BYTES: usize = 64 * 1024;

/// Bytes that are taken out of a session's output at once: these stand outside of its bound.
const WRITE_BYTES: usize = 64 * 1024;

/// How long the socket of a session that is over waits for its client to read what is left.
const LINGER: Duration = Duration::from_secs(5);

/// How long the acceptor waits when the system has no socket for a client.
const ACCEPT_RETRY: Duration = Duration::from_millis(10);

/// A [`Backend`] that listens on 127.0.0.1, on a port that the system chose.
///
/// It lives in the tokio runtime in which it was started, which must have I/O and time, and ends when it is dropped: the port is
/// closed, the sockets too, and no task is left. It is a server for tests and demonstrations:
/// whoever can reach the port can use it, and its salts and nonces can be foreseen.
///
/// ```
/// # #[cfg(feature = "tokio")]
/// # async fn demo() -> std::io::Result<()> {
/// use pgbell::testing::{BackendConfig, Server};
///
/// let server = Server::start(BackendConfig::new()).await?;
/// println!("{}", server.url());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    address: SocketAddr,
    user: String,
    acceptors: Vec<JoinHandle<()>>,
    #[cfg(unix)]
    socket: Option<PathBuf>,
}

#[derive(Debug)]
struct Shared {
    backend: Mutex<Backend>,
    signals: Mutex<HashMap<SessionId, Arc<Signals>>>,
}

impl Server {
    /// Starts a server on TCP.
    ///
    /// # Errors
    /// What the system says when there is no port to be had.
    pub async fn start(config: BackendConfig) -> io::Result<Self> {
        let user = config.any_user().to_owned();
        // The keys of SCRAM are derived here, once.
        let backend = Mutex::new(Backend::new(config));
        let shared = Arc::new(Shared { backend, signals: Mutex::default() });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let acceptor = tokio::spawn(accept_tcp(Arc::clone(&shared), listener));
        Ok(Self {
            shared,
            address,
            user,
            acceptors: vec![acceptor],
            #[cfg(unix)]
            socket: None,
        })
    }

    /// Starts a server on TCP and on a Unix socket in `directory`, named as PostgreSQL names it.
    /// The socket file is removed when the server is dropped.
    ///
    /// # Errors
    /// What the system says when there is no port to be had, or the file cannot be made.
    #[cfg(unix)]
    pub async fn start_in(config: BackendConfig, directory: &Path) -> io::Result<Self> {
        let mut server = Self::start(config).await?;
        let path = directory.join(format!(".s.PGSQL.{}", server.port()));
        let listener = UnixListener::bind(&path)?;
        server.socket = Some(path);
        let shared = Arc::clone(&server.shared);
        server.acceptors.push(tokio::spawn(accept_unix(shared, listener)));
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port, of TCP and in the name of the Unix socket.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// A connection string with a role that exists, without its password.
    #[must_use]
    pub fn url(&self) -> String {
        format!("postgresql://{}@127.0.0.1:{}/postgres?sslmode=disable", self.user, self.port())
    }

    /// How many notifications went through a channel.
    #[must_use]
    pub fn count(&self, channel: &str) -> Count {
        self.shared.backend().count(channel)
    }

    /// How many clients are connected.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.shared.backend().sessions().count()
    }

    /// Ends the session with this process id as `pg_terminate_backend` does. E1, R1.
    pub fn terminate(&self, process_id: i32) {
        let mut backend = self.shared.backend();
        let id = backend.sessions().find(|&id| backend.process_id(id) == Some(process_id));
        if let Some(id) = id {
            backend.terminate(id);
        }
        self.shared.wake(&mut backend);
    }

    /// Ends every session as `pg_terminate_backend` does.
    pub fn terminate_all(&self) {
        let mut backend = self.shared.backend();
        let ids: Vec<_> = backend.sessions().collect();
        for id in ids {
            backend.terminate(id);
        }
        self.shared.wake(&mut backend);
    }

    /// Ends the server, and waits until its tasks are gone.
    pub async fn stop(mut self) {
        for acceptor in std::mem::take(&mut self.acceptors) {
            acceptor.abort();
            // An error says that it was aborted.
            let _ = acceptor.await;
        }
        // The tasks of the sessions were aborted with it; each leaves the backend when it is dropped.
        while self.clients() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The tasks of the sessions belong to the acceptors, and end with them.
        for acceptor in &self.acceptors {
            acceptor.abort();
        }
        #[cfg(unix)]
        if let Some(path) = &self.socket {
            // Nothing can be done about it here, and the directory is the caller's.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Shared {
    fn backend(&self) -> MutexGuard<'_, Backend> {
        self.backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn signals(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Signals>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the tasks of the sessions that got something to write, or were ended.
    fn wake(&self, backend: &mut Backend) {
        let signals = self.signals();
        while let Some(id) = backend.poll_wake() {
            if let Some(signals) = signals.get(&id) {
                signals.raise(backend.is_closed(id));
            }
        }
    }
}

/// What the task of a session waits for besides its socket.
#[derive(Debug, Default)]
struct Signals {
    output: Notify,
    over: Notify,
    /// The client has sent its last byte.
    ended: AtomicBool,
}

impl Signals {
    fn raise(&self, over: bool) {
        self.output.notify_one();
        if over {
            self.over.notify_one();
        }
    }

    /// No more input will come.
    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
        self.raise(true);
    }
}

/// A session that is forgotten when its task ends, whatever the reason.
struct Visit {
    shared: Arc<Shared>,
    id: SessionId,
    signals: Arc<Signals>,
}

impl Visit {
    fn new(shared: Arc<Shared>) -> Self {
        let id = shared.backend().connect();
        let signals = Arc::new(Signals::default());
        shared.signals().insert(id, Arc::clone(&signals));
        Self { shared, id, signals }
    }

    fn handle(&self, input: &mut BytesMut) {
        let mut backend = self.shared.backend();
        backend.handle_input(self.id, input);
        self.signals.raise(backend.is_closed(self.id));
        self.shared.wake(&mut backend);
    }

    /// Takes out what is to be written next; `None` when nothing will ever follow.
    fn take_output(&self) -> Option<BytesMut> {
        let mut backend = self.shared.backend();
        let output = backend.transmit(self.id);
        let bytes = output.len().min(WRITE_BYTES);
        let output = output.split_to(bytes);
        let last = backend.is_closed(self.id) || self.signals.ended.load(Ordering::Relaxed);
        (!output.is_empty() || !last).then_some(output)
    }

    /// Reads while it writes. Ends when both directions have ended, or [`LINGER`] after the session.
    async fn run(self, stream: impl AsyncRead + AsyncWrite) {
        let (read, write) = tokio::io::split(stream);
        let mut reading = pin!(self.read(read));
        let mut writing = pin!(self.write(write));
        let mut lingering = pin!(async {
            self.signals.over.notified().await;
            tokio::time::sleep(LINGER).await;
        });
        let (mut read, mut written) = (false, false);
        poll_fn(|cx| {
            read = read || reading.as_mut().poll(cx).is_ready();
            written = written || writing.as_mut().poll(cx).is_ready();
            if read && written {
                return Poll::Ready(());
            }
            lingering.as_mut().poll(cx)
        })
        .await;
    }

    /// To the end of the stream. What comes after the end of the session is read and dropped: to
    /// close a socket with unread bytes would take the last words back.
    async fn read(&self, mut stream: impl AsyncRead + Unpin) {
        let mut input = BytesMut::with_capacity(READ_BYTES);
        while let Ok(1..) = stream.read_buf(&mut input).await {
            self.handle(&mut input);
            input.reserve(READ_BYTES);
        }
        self.signals.end();
    }

    async fn write(&self, mut stream: impl AsyncWrite + Unpin) {
        while let Some(output) = self.take_output() {
            if output.is_empty() {
                self.signals.output.notified().await;
            } else if stream.write_all(&output).await.is_err() {
                break;
            }
        }
        self.signals.over.notify_one();
        // If the client is gone there is nothing to shut down.
        let _ = stream.shutdown().await;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.shared.signals().remove(&self.id);
        self.shared.backend().disconnect(self.id);
    }
}

/// Accepts until it is aborted; the tasks of its sessions end with it.
async fn accept_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let mut sessions = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Without it small answers wait for an acknowledgement: slow, but not wrong.
                let _ = stream.set_nodelay(true);
                sessions.spawn(Visit::new(Arc::clone(&shared)).run(stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
        while sessions.try_join_next().is_some() {}
    }
}

#[cfg(unix)]
async fn accept_unix(shared: Arc<Shared>, listener: UnixListener) {
    let mut sessions = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                sessions.spawn(Visit::new(Arc::clone(&shared)).run(stream));
            }
            Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
        }
        while sessions.try_join_next().is_some() {}
    }
}
