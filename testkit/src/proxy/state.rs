//! The state that all threads of a proxy share.

use std::collections::HashMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::{Cut, Direction, Flow};
use crate::error::Error;

/// The largest number of connections that are served at a time. Each has two threads.
const LINKS_MAX: usize = 256;

/// Whether the proxy listens.
pub(super) enum Door {
    Open,
    /// The acceptor must drop its listener.
    Closing,
    Closed,
    /// The acceptor must use this listener.
    Opening(TcpListener),
    /// The acceptor must end.
    Ended,
}

pub(super) struct State {
    pub(super) flow: [Flow; 2],
    /// The number of bytes until a cut.
    pub(super) fuse: [Option<(u64, Cut)>; 2],
    pub(super) target: u16,
    pub(super) door: Door,
    pub(super) links: HashMap<u64, Link>,
    pub(super) accepted: u64,
    pub(super) forwarded: [u64; 2],
    pub(super) swallowed: [u64; 2],
}

/// A client's connection and the connection to the server that belongs to it.
pub(super) struct Link {
    client: Arc<TcpStream>,
    server: Option<Arc<TcpStream>>,
    /// The number of its threads. The last one to end closes the sockets.
    threads: u8,
    /// Whether it was cut. Its threads then end.
    cut: bool,
    /// Whether it has lost bytes. Then bytes after them must not be forwarded.
    torn: bool,
}

/// The decision about bytes that were read.
pub(super) enum Verdict {
    /// Forward this number of bytes, then cut.
    Forward(usize, Option<Cut>),
    Swallowed,
    /// Forward them after this time, if the state does not change before.
    Early(Duration),
    /// The connection has ended.
    Over,
}

pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    pub(super) fn new(target: u16) -> Self {
        let state = State {
            flow: [Flow::Forward; 2],
            fuse: [None; 2],
            target,
            door: Door::Open,
            links: HashMap::new(),
            accepted: 0,
            forwarded: [0; 2],
            swallowed: [0; 2],
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the condition is true. Returns `false` after the longest time.
    pub(super) fn wait_for(&self, longest: Duration, is_so: impl Fn(&State) -> bool) -> bool {
        let waited = self.changed.wait_timeout_while(self.lock(), longest, |state| !is_so(state));
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        is_so(&state)
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.changed.notify_all();
    }

    pub(super) fn end(&self) {
        self.change(|state| state.door = Door::Ended);
    }

    /// Adds a connection with one thread. Returns `None` if there are too many: then it is reset.
    pub(super) fn enter(&self, client: TcpStream) -> Option<(u64, Arc<TcpStream>)> {
        let mut state = self.lock();
        if state.links.len() >= LINKS_MAX {
            reset(&client);
            return None;
        }
        state.accepted += 1;
        let (id, client) = (state.accepted, Arc::new(client));
        let link =
            Link { client: client.clone(), server: None, threads: 1, cut: false, torn: false };
        state.links.insert(id, link);
        Some((id, client))
    }

    /// Returns the port of the server for a connection. Waits while bytes are held. A connection whose bytes are swallowed
    /// has no server.
    pub(super) fn target(&self, id: u64) -> Option<u16> {
        let mut state = self.lock();
        loop {
            let flow = state.flow[Direction::ToServer.index()];
            let target = state.target;
            let link = state.links.get_mut(&id).filter(|link| !link.cut)?;
            match flow {
                Flow::Hold => state = self.wait(state),
                Flow::Swallow => {
                    link.torn = true;
                    return None;
                }
                Flow::Forward | Flow::Delay(_) => return Some(target),
            }
        }
    }

    /// Adds the server's side and its thread. Returns `false` if the connection was cut meanwhile.
    pub(super) fn join(&self, id: u64, server: &Arc<TcpStream>) -> bool {
        let mut state = self.lock();
        let link = state.links.get_mut(&id).filter(|link| !link.cut);
        let Some(link) = link else { return false };
        link.server = Some(server.clone());
        link.threads += 1;
        true
    }

    /// Removes a thread. Its own handles of the sockets must be dropped before.
    pub(super) fn leave(&self, id: u64) {
        self.change(|state| {
            let Some(link) = state.links.get_mut(&id) else { return };
            link.threads -= 1;
            if link.threads == 0 {
                state.links.remove(&id);
            }
        });
    }

    pub(super) fn is_over(&self, id: u64) -> bool {
        self.lock().links.get(&id).is_none_or(|link| link.cut)
    }

    /// Decides about bytes, and waits as long as they must wait. No bytes mean the end of the stream. A caller that can read
    /// meanwhile does not wait for the end of a delay.
    pub(super) fn judge(
        &self,
        id: u64,
        direction: Direction,
        bytes: usize,
        arrived: Instant,
        can_read: bool,
    ) -> Verdict {
        let way = direction.index();
        let mut state = self.lock();
        loop {
            let flow = state.flow[way];
            let Some(link) = state.links.get_mut(&id).filter(|link| !link.cut) else {
                return Verdict::Over;
            };
            match flow {
                Flow::Hold => state = self.wait(state),
                Flow::Swallow if bytes == 0 => state = self.wait(state),
                Flow::Swallow => {
                    link.torn = true;
                    state.swallowed[way] += length(bytes);
                    return Verdict::Swallowed;
                }
                Flow::Forward | Flow::Delay(_) if link.torn => {
                    link.end(Cut::Reset);
                    self.changed.notify_all();
                    return Verdict::Over;
                }
                Flow::Delay(delay) if arrived.elapsed() < delay => {
                    let rest = delay.saturating_sub(arrived.elapsed());
                    if can_read && !rest.is_zero() {
                        return Verdict::Early(rest);
                    }
                    let waited = self.changed.wait_timeout(state, rest);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                Flow::Forward | Flow::Delay(_) => return state.burn(way, bytes),
            }
        }
    }

    pub(super) fn count(&self, direction: Direction, bytes: usize) {
        self.lock().forwarded[direction.index()] += length(bytes);
    }

    pub(super) fn uncount(&self, direction: Direction, bytes: usize) {
        self.lock().forwarded[direction.index()] -= length(bytes);
    }

    pub(super) fn cut(&self, id: u64, cut: Cut) {
        self.change(|state| {
            if let Some(link) = state.links.get_mut(&id) {
                link.end(cut);
            }
        });
    }

    pub(super) fn cut_all(&self, cut: Cut, longest: Duration) -> Result<usize, Error> {
        let mut ids = Vec::new();
        self.change(|state| {
            for (id, link) in &mut state.links {
                link.end(cut);
                ids.push(*id);
            }
        });
        if self.wait_for(longest, |state| ids.iter().all(|id| !state.links.contains_key(id))) {
            return Ok(ids.len());
        }
        Err(Error::new("a connection of the proxy did not end"))
    }
}

impl State {
    /// Returns how many of these bytes are forwarded before the cut. The end of a stream does not count.
    fn burn(&mut self, way: usize, bytes: usize) -> Verdict {
        match self.fuse[way] {
            Some((left, cut)) if bytes > 0 && length(bytes) >= left => {
                self.fuse[way] = None;
                Verdict::Forward(usize::try_from(left).unwrap_or(bytes), Some(cut))
            }
            Some((left, cut)) => {
                self.fuse[way] = Some((left.saturating_sub(length(bytes)), cut));
                Verdict::Forward(bytes, None)
            }
            None => Verdict::Forward(bytes, None),
        }
    }
}

impl Link {
    /// Ends both sides. Threads that read or write wake up and end.
    fn end(&mut self, cut: Cut) {
        if self.cut {
            return;
        }
        self.cut = true;
        for stream in [Some(&self.client), self.server.as_ref()].into_iter().flatten() {
            // A side that has ended already returns an error, which is ignored.
            match cut {
                Cut::Fin => drop(stream.shutdown(Shutdown::Both)),
                Cut::Reset => {
                    reset(stream);
                    // This wakes a reader and sends nothing. The last thread's close sends the reset.
                    drop(stream.shutdown(Shutdown::Read));
                }
            }
        }
    }
}

/// Makes the close of a connection a reset. std has no function for this.
fn reset(stream: &TcpStream) {
    // It fails if the connection has ended: then no reset is needed.
    let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
