//! The threads of a proxy: one accepts, two carry bytes for each connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::state::{Door, Shared, Verdict};
use super::{Cut, Direction};

/// Most bytes that are read at once.
const CHUNK_BYTES: usize = 64 * 1024;

/// How long the server may take to answer a connection.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// How long a writer is blocked before it looks whether its connection was cut.
const WRITE_STEP: Duration = Duration::from_millis(20);

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
                    // Whoever came last is nobody's client, or the one that woke this thread.
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
            // No descriptor is free, say: another one may be soon.
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

/// Connects to the server and carries bytes to it. Another thread carries those that come back.
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

fn pump(
    shared: &Shared,
    id: u64,
    direction: Direction,
    mut from: &TcpStream,
    to: Option<&TcpStream>,
) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let read = from.read(&mut buffer);
        if read.as_ref().is_err_and(|cause| cause.kind() == ErrorKind::Interrupted) {
            continue;
        }
        let bytes = buffer.get(..*read.as_ref().unwrap_or(&0)).unwrap_or_default();
        match (shared.judge(id, direction, bytes.len(), Instant::now()), to) {
            (Verdict::Swallowed, _) => {}
            (Verdict::Forward(count, cut), Some(to)) => {
                if bytes.is_empty() {
                    // The end of one stream is not that of the other; a reset is the end of both.
                    match read {
                        Ok(_) => drop(to.shutdown(Shutdown::Write)),
                        Err(_) => shared.cut(id, Cut::Reset),
                    }
                    return;
                }
                let bytes = bytes.get(..count).unwrap_or_default();
                if !write(shared, id, direction, to, bytes) {
                    return;
                }
                if let Some(cut) = cut {
                    return shared.cut(id, cut);
                }
            }
            (Verdict::Over | Verdict::Forward(..), _) => return,
        }
    }
}

/// Writes all of it. `false` when the connection is over.
fn write(
    shared: &Shared,
    id: u64,
    direction: Direction,
    mut to: &TcpStream,
    mut bytes: &[u8],
) -> bool {
    // Before the peer has them: whoever received them finds them counted.
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
            // Nobody reads what is written here: the writer is to know.
            Err(_) => {
                shared.cut(id, Cut::Reset);
                break;
            }
        }
    }
    shared.uncount(direction, bytes.len());
    bytes.is_empty()
}
