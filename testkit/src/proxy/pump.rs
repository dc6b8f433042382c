//! The threads of a proxy: one accepts connections, and two forward the bytes of each connection.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use super::state::{Door, Shared, Verdict};
use super::{Cut, Direction};

/// The largest number of bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// The largest number of delayed bytes in one direction of a connection. With so many, no more are read.
const UNDERWAY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// The longest time for connecting to the server.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a writer blocks before it checks whether its connection was cut.
const WRITE_STEP: Duration = Duration::from_millis(20);

/// How long a reader waits for more before it checks whether delayed bytes can be forwarded.
const READ_STEP: Duration = Duration::from_millis(20);

/// Below this rest of a delay a reader does not wait with a timeout of the socket, which ends up to two ticks of the kernel late:
/// 8 ms with 250 ticks in a second.
const EXACT_BELOW: Duration = Duration::from_millis(40);

/// The pauses between two looks at the socket in that time. Bytes that arrive are delayed by this much longer at most.
const LOOK_STEP: Duration = Duration::from_micros(250);

/// Accepts until the proxy ends.
pub(super) fn accept(shared: &Arc<Shared>, listener: TcpListener) {
    let mut listener = Some(listener);
    loop {
        let mut accepted = listener.as_ref().map(TcpListener::accept);
        let mut state = shared.lock();
        loop {
            match &state.door {
                Door::Open => break,
                Door::Ended => return,
                Door::Closing => {
                    // A connection that was accepted is dropped. It was made only to wake this thread, or it arrived when the
                    // proxy was already closing.
                    (listener, accepted) = (None, None);
                    state.door = Door::Closed;
                    drop(state);
                    shared.change(|_| {});
                    state = shared.lock();
                }
                Door::Closed => state = shared.wait(state),
                Door::Opening(_) => {
                    if let Door::Opening(new) = std::mem::replace(&mut state.door, Door::Open) {
                        listener = Some(new);
                    }
                }
            }
        }
        drop(state);
        match accepted {
            Some(Ok((client, _))) => serve(shared, client),
            // For example, no descriptor is free: one may become free soon.
            Some(Err(_)) => thread::sleep(WRITE_STEP),
            None => {}
        }
    }
}

/// Gives a connection its threads.
fn serve(shared: &Arc<Shared>, client: TcpStream) {
    let Some((id, client)) = shared.enter(client) else { return };
    let own = shared.clone();
    let started = thread::Builder::new().name(format!("tcp-proxy {id}")).spawn(move || {
        carry(&own, id, &client);
        drop(client);
        own.leave(id);
    });
    if started.is_err() {
        shared.cut(id, Cut::Reset);
        shared.leave(id);
    }
}

/// Connects to the server and forwards bytes to it. Another thread forwards those in the other direction.
fn carry(shared: &Arc<Shared>, id: u64, client: &Arc<TcpStream>) {
    let Some(port) = shared.target(id) else {
        return pump(shared, id, Direction::ToServer, client, None);
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(server) = TcpStream::connect_timeout(&address, CONNECT_MAX) else {
        return shared.cut(id, Cut::Reset);
    };
    let server = Arc::new(server);
    let prepared = [client, &server].iter().all(|stream| {
        stream.set_nodelay(true).is_ok() && stream.set_write_timeout(Some(WRITE_STEP)).is_ok()
    });
    if !prepared {
        return shared.cut(id, Cut::Reset);
    }
    if !shared.join(id, &server) {
        return;
    }
    let back = (shared.clone(), client.clone(), server.clone());
    let started = thread::Builder::new().name(format!("tcp-proxy {id} back")).spawn(move || {
        let (shared, client, server) = back;
        pump(&shared, id, Direction::ToClient, &server, Some(&client));
        drop((client, server));
        shared.leave(id);
    });
    if started.is_err() {
        shared.cut(id, Cut::Reset);
        return shared.leave(id);
    }
    pump(shared, id, Direction::ToServer, client, Some(&server));
}

/// The bytes of one read. An empty one means the end of the stream.
struct Chunk {
    arrived: Instant,
    bytes: Vec<u8>,
    /// Whether the stream ended with an error.
    broken: bool,
}

/// Bytes that were read and have to wait.
#[derive(Default)]
struct Underway {
    chunks: VecDeque<Chunk>,
    bytes: usize,
    /// Whether reads have a timeout.
    is_timed: bool,
}

impl Underway {
    fn can_read(&self) -> bool {
        self.bytes < UNDERWAY_BYTES_MAX
            && self.chunks.back().is_none_or(|last| !last.bytes.is_empty())
    }

    /// Reads and adds the bytes. Waits at most for `longest`, or without a limit if it is `None`.
    fn read(&mut self, mut from: &TcpStream, buffer: &mut [u8], longest: Option<Duration>) {
        if self.is_timed || longest.is_some() {
            // If this fails, the read has the timeout of the one before, and ends with the connection.
            let _ = from.set_read_timeout(longest);
            self.is_timed = longest.is_some();
        }
        let (bytes, broken) = match from.read(buffer) {
            Ok(count) => (buffer.get(..count).unwrap_or_default(), false),
            Err(cause) if is_interrupted(&cause) => return,
            Err(_) => (&[][..], true),
        };
        self.bytes += bytes.len();
        self.chunks.push_back(Chunk { arrived: Instant::now(), bytes: bytes.to_vec(), broken });
    }

    fn take_first(&mut self) {
        if let Some(first) = self.chunks.pop_front() {
            self.bytes -= first.bytes.len();
        }
    }
}

/// Returns whether a read would return at once: with bytes, at the end of the stream, or with an error.
fn can_be_read(from: &TcpStream) -> bool {
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    let looked = SockRef::from(from).recv_with_flags(&mut [MaybeUninit::uninit()], flags);
    !looked.is_err_and(|cause| is_interrupted(&cause))
}

fn is_interrupted(cause: &std::io::Error) -> bool {
    use ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(cause.kind(), Interrupted | TimedOut | WouldBlock)
}

fn pump(shared: &Shared, id: u64, direction: Direction, from: &TcpStream, to: Option<&TcpStream>) {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut underway = Underway::default();
    loop {
        let can_read = underway.can_read();
        let Some(first) = underway.chunks.front() else {
            underway.read(from, &mut buffer, None);
            continue;
        };
        let verdict = shared.judge(id, direction, first.bytes.len(), first.arrived, can_read);
        match (verdict, to) {
            (Verdict::Early(rest), _) if rest < EXACT_BELOW => {
                if can_be_read(from) {
                    underway.read(from, &mut buffer, None);
                } else {
                    thread::sleep(rest.min(LOOK_STEP));
                }
            }
            (Verdict::Early(_), _) => underway.read(from, &mut buffer, Some(READ_STEP)),
            (Verdict::Swallowed, _) => underway.take_first(),
            (Verdict::Forward(count, cut), Some(to)) => {
                if first.bytes.is_empty() {
                    // The end of one stream is not that of the other; a reset is the end of both.
                    return match first.broken {
                        false => drop(to.shutdown(Shutdown::Write)),
                        true => shared.cut(id, Cut::Reset),
                    };
                }
                let bytes = first.bytes.get(..count).unwrap_or_default();
                if !write(shared, id, direction, to, bytes) {
                    return;
                }
                if let Some(cut) = cut {
                    return shared.cut(id, cut);
                }
                underway.take_first();
            }
            (Verdict::Over | Verdict::Forward(..), _) => return,
        }
    }
}

/// Writes all bytes. Returns `false` if the connection has ended.
fn write(
    shared: &Shared,
    id: u64,
    direction: Direction,
    mut to: &TcpStream,
    mut bytes: &[u8],
) -> bool {
    // Counted before the peer has them, so that a test that has received them sees them in the count.
    shared.count(direction, bytes.len());
    while !bytes.is_empty() {
        match to.write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(cause) if cause.kind() == ErrorKind::Interrupted => {}
            Err(cause) if matches!(cause.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.is_over(id) {
                    break;
                }
            }
            // The other side does not read any more: the writer must see an error.
            Err(_) => {
                shared.cut(id, Cut::Reset);
                break;
            }
        }
    }
    shared.uncount(direction, bytes.len());
    bytes.is_empty()
}
