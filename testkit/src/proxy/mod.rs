//! A proxy that disturbs the network between a client and a server.

mod pump;
mod state;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::Error;
use crate::port;
use crate::url::{self, HOST};
use pump::accept;
use state::{Door, Shared};

/// The longest time for the end of a connection: longer than any step of a thread.
const END_MAX: Duration = Duration::from_secs(10);

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client to the server.
    ToServer,
    /// From the server to the client.
    ToClient,
}

impl Direction {
    fn index(self) -> usize {
        match self {
            Self::ToServer => 0,
            Self::ToClient => 1,
        }
    }
}

/// What the proxy does with bytes, and with the end of a stream, which is treated like a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flow {
    /// They are forwarded at once.
    Forward,
    /// They are forwarded after this delay, as on a long way. Meanwhile up to 4 MiB more are read.
    Delay(Duration),
    /// They wait: the sender's send buffer fills until it cannot write any more. None is lost.
    Hold,
    /// They are lost, and the sender does not notice it: a half-open connection. A connection that has
    /// lost bytes is reset when bytes are to be forwarded on it again.
    Swallow,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Both sides see the end of the stream.
    Fin,
    /// Both sides see a reset. Bytes that their kernels have not sent yet are lost.
    Reset,
}

/// A TCP proxy on a free port of 127.0.0.1, with which a test disturbs the network.
///
/// It serves at most 256 connections at a time and resets the others. It ends when it is dropped.
///
/// ```no_run
/// use pgbell_testkit::{Cluster, Cut, Direction, Flow, Proxy};
///
/// let cluster = Cluster::start()?;
/// let proxy = Proxy::start(cluster.port())?;
/// let url = proxy.url("postgres", None, "postgres");
/// // … a client connects, then its server sends nothing any more:
/// proxy.handle().set(Direction::ToClient, Flow::Swallow);
/// // … and the connection is reset:
/// proxy.handle().cut(Cut::Reset)?;
/// # let _ = url;
/// # Ok::<(), pgbell_testkit::Error>(())
/// ```
pub struct Proxy {
    handle: ProxyHandle,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// Starts a proxy in front of the server on that port of 127.0.0.1. At first everything is forwarded.
    ///
    /// # Errors
    /// If no port is free or no thread can be started.
    pub fn start(server_port: u16) -> Result<Self, Error> {
        let (port, listener) = port::free_listener()?;
        let shared = Arc::new(Shared::new(server_port));
        let handle = ProxyHandle { port, shared: shared.clone() };
        let acceptor = thread::Builder::new()
            .name("tcp-proxy".to_owned())
            .spawn(move || accept(&shared, listener))
            .map_err(|cause| Error::io("cannot start the proxy's thread", cause))?;
        Ok(Self { handle, acceptor: Some(acceptor) })
    }

    /// Returns the port for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.handle.port
    }

    /// A connection URL. User, password and database are percent-encoded.
    #[must_use]
    pub fn url<'a>(
        &self,
        user: &str,
        password: impl Into<Option<&'a str>>,
        database: &str,
    ) -> String {
        url::tcp(self.port(), user, password.into(), database)
    }

    /// Returns the handle that changes the network. Clones of it work on any thread, and do nothing after the proxy has
    /// ended.
    #[must_use]
    pub fn handle(&self) -> &ProxyHandle {
        &self.handle
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.handle.shared.end();
        self.handle.wake_acceptor();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // Threads that still run have a reset connection and end by themselves.
        let _ = self.handle.cut(Cut::Reset);
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("port", &self.port()).finish_non_exhaustive()
    }
}

/// Changes the network of a [`Proxy`] while it is used.
#[derive(Clone)]
pub struct ProxyHandle {
    port: u16,
    shared: Arc<Shared>,
}

impl ProxyHandle {
    /// Sets what happens to bytes in one direction from now on, on all connections.
    ///
    /// A byte that was read before may still arrive.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.shared.change(|state| state.flow[direction.index()] = flow);
    }

    /// Sets what happens to bytes in both directions.
    pub fn set_both(&self, flow: Flow) {
        self.shared.change(|state| state.flow = [flow; 2]);
    }

    /// Ends all present connections, and waits until they have ended. Returns how many there were.
    ///
    /// # Errors
    /// If one of them did not end within 10 s.
    pub fn cut(&self, cut: Cut) -> Result<usize, Error> {
        self.shared.cut_all(cut, END_MAX)
    }

    /// Forwards this number of bytes more in that direction, on all connections together, and then ends the connection that
    /// had the last of them. This happens once; with 0 it ends the connection that has the next byte.
    pub fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut) {
        self.shared.change(|state| state.fuse[direction.index()] = Some((bytes, cut)));
    }

    /// Forwards new connections to the server on another port, as after an address has moved to a new
    /// primary.
    pub fn retarget(&self, server_port: u16) {
        self.shared.change(|state| state.target = server_port);
    }

    /// Stops listening: from now on connections are refused. Present connections stay.
    ///
    /// # Errors
    /// If the listener did not end within 10 s.
    pub fn refuse(&self) -> Result<(), Error> {
        let mut asked = false;
        self.shared.change(|state| {
            if matches!(state.door, Door::Open) {
                state.door = Door::Closing;
                asked = true;
            }
        });
        if asked {
            self.wake_acceptor();
        }
        let closed = |door: &Door| !matches!(door, Door::Open | Door::Closing);
        if self.shared.wait_for(END_MAX, |state| closed(&state.door)) {
            return Ok(());
        }
        Err(Error::new("the proxy still listens"))
    }

    /// Listens again after [`refuse`](Self::refuse), on the same port.
    ///
    /// # Errors
    /// If another process has taken the port.
    pub fn accept(&self) -> Result<(), Error> {
        let mut outcome = Ok(());
        self.shared.change(|state| {
            if matches!(state.door, Door::Closed) {
                match TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)) {
                    Ok(listener) => state.door = Door::Opening(listener),
                    Err(cause) => outcome = Err(cause),
                }
            }
        });
        outcome.map_err(|cause| {
            Error::io(format!("the proxy cannot listen on {HOST}:{} again", self.port), cause)
        })
    }

    /// Returns the number of bytes that were forwarded in that direction, on all connections.
    #[must_use]
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.shared.lock().forwarded[direction.index()]
    }

    /// Returns the number of bytes that were lost in that direction by [`Flow::Swallow`], on all connections.
    #[must_use]
    pub fn swallowed(&self, direction: Direction) -> u64 {
        self.shared.lock().swallowed[direction.index()]
    }

    /// Returns the number of present connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// Returns the number of connections that were accepted since the start.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Wakes the acceptor by a connection, so that it checks the state of the door. This fails if the proxy does not
    /// listen: then no acceptor waits.
    fn wake_acceptor(&self) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let _ = TcpStream::connect_timeout(&address, END_MAX);
    }
}

impl fmt::Debug for ProxyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.lock();
        f.debug_struct("ProxyHandle")
            .field("port", &self.port)
            .field("to_server", &state.flow[Direction::ToServer.index()])
            .field("to_client", &state.flow[Direction::ToClient.index()])
            .field("connections", &state.links.len())
            .finish_non_exhaustive()
    }
}
