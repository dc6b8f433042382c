//! A bad network between a client and a server.

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

/// How long the end of a connection may take: longer than any step of a thread.
const END_MAX: Duration = Duration::from_secs(10);

/// Which way bytes go.
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

/// What becomes of bytes, and of the end of a stream, which is treated like a byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Flow {
    /// They go on at once.
    Forward,
    /// They go on that much later than they came, as on a long way: those behind them come meanwhile, up to 4 MiB.
    Delay(Duration),
    /// They wait: the sender's kernel fills up, until it cannot write any more. None is lost.
    Hold,
    /// They are lost, and the sender does not notice: a peer that is gone without a word. A connection that
    /// lost some is reset when something is to be forwarded on it again.
    Swallow,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Both sides see the end of the stream.
    Fin,
    /// Both sides see a reset. What their kernels did not send yet is lost.
    Reset,
}

/// A TCP proxy on a free port of 127.0.0.1, whose network a test makes bad.
///
/// It serves at most 256 connections at a time and resets the others. All of it ends when it is dropped.
///
/// ```no_run
/// use pgbell_testkit::{Cluster, Cut, Direction, Flow, Proxy};
///
/// let cluster = Cluster::start()?;
/// let proxy = Proxy::start(cluster.port())?;
/// let url = proxy.url("postgres", None, "postgres");
/// // … a client connects, then its server falls silent:
/// proxy.handle().set(Direction::ToClient, Flow::Swallow);
/// // … and is found dead:
/// proxy.handle().cut(Cut::Reset)?;
/// # let _ = url;
/// # Ok::<(), pgbell_testkit::Error>(())
/// ```
pub struct Proxy {
    handle: ProxyHandle,
    acceptor: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy before the server on that port of 127.0.0.1. Everything is forwarded.
    ///
    /// # Errors
    /// When no port is free or no thread can be started.
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

    /// The port that clients connect to.
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

    /// What the network is changed with. Clones of it work from any thread, and do nothing once the proxy is
    /// gone.
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
        // Threads that are still there have a reset connection and end by themselves.
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
    /// What becomes of bytes in one direction from now on, on all connections.
    ///
    /// What was forwarded already is on its way: a byte that was read before may still arrive.
    pub fn set(&self, direction: Direction, flow: Flow) {
        self.shared.change(|state| state.flow[direction.index()] = flow);
    }

    /// The same in both directions.
    pub fn set_both(&self, flow: Flow) {
        self.shared.change(|state| state.flow = [flow; 2]);
    }

    /// Ends all connections that are there, and waits until they have ended. Says how many there were.
    ///
    /// # Errors
    /// When one of them did not end within 10 s.
    pub fn cut(&self, cut: Cut) -> Result<usize, Error> {
        self.shared.cut_all(cut, END_MAX)
    }

    /// Forwards so many more bytes in that direction, on all connections together, and ends the connection that
    /// had the last of them. That happens once; with 0 it is the connection that has the next byte.
    pub fn cut_after(&self, direction: Direction, bytes: u64, cut: Cut) {
        self.shared.change(|state| state.fuse[direction.index()] = Some((bytes, cut)));
    }

    /// Sends connections that are made from now on to the server on another port, as an address does that
    /// moves to the new primary.
    pub fn retarget(&self, server_port: u16) {
        self.shared.change(|state| state.target = server_port);
    }

    /// Stops listening: from now on whoever connects is refused. The connections that are there stay.
    ///
    /// # Errors
    /// When the listener did not end within 10 s.
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
    /// When somebody has taken the port.
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

    /// How many bytes were forwarded in that direction, on all connections.
    #[must_use]
    pub fn forwarded(&self, direction: Direction) -> u64 {
        self.shared.lock().forwarded[direction.index()]
    }

    /// How many bytes were lost in that direction to [`Flow::Swallow`], on all connections.
    #[must_use]
    pub fn swallowed(&self, direction: Direction) -> u64 {
        self.shared.lock().swallowed[direction.index()]
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.lock().links.len()
    }

    /// How many connections were ever accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.shared.lock().accepted
    }

    /// Lets the acceptor look at the door. There may be nobody: then there is nobody to wake.
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
