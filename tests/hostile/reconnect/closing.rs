//! `close` while an attempt waits for something that is not an answer of PostgreSQL: the lookup of a name, the TCP connection,
//! the password, the TLS handshake. Steps of the login: `stalling`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgbell::testing::Script;
use pgbell::{Config, ErrorKind, Listener, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::Notify;

use super::super::attack::no_task_is_left;
use super::super::client::{self, PASSWORD};
use super::host::{BACKOFF, Host, close, gap, paused_clock, soon};

/// The longest time of `close`, with a margin for a busy machine.
const CLOSE_TIME_MAX: Duration = Duration::from_millis(1_000 + 1_500);

/// Reads one packet or message, behind `head` bytes that its length does not include.
async fn packet(socket: &mut TcpStream, head: usize) {
    let mut bytes = vec![0; head];
    socket.read_exact(&mut bytes).await.unwrap();
    let length = socket.read_u32().await.unwrap();
    let mut rest = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut rest).await.unwrap();
}

/// Serves up to the answer to LISTEN.
async fn listening(socket: &mut TcpStream) {
    packet(socket, 0).await;
    for answer in [Script::PRELUDE, Script::FACTS] {
        socket.write_all(answer).await.unwrap();
        packet(socket, 1).await;
    }
    socket.write_all(Script::ACK).await.unwrap();
}

fn url(address: SocketAddr, host: &str, sslmode: &str) -> String {
    let port = address.port();
    format!("host={host} port={port} user=alice password={PASSWORD} sslmode={sslmode}")
}

async fn connect(url: &str) -> Listener {
    let builder = Listener::builder(url).channels(["a"]).backoff(BACKOFF.0, BACKOFF.1);
    builder.connect().await.unwrap()
}

/// Waits until an attempt has begun since the loss.
async fn until_attempt(listener: &Listener) {
    client::soon("an attempt", async {
        while listener.state() != State::Reconnecting || listener.stats().attempts < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // By now it has reached the step at which it waits.
        tokio::time::sleep(Duration::from_millis(50)).await;
    })
    .await;
}

async fn closes(listener: Listener) {
    let begin = Instant::now();
    client::soon("the end", listener.close()).await;
    assert!(begin.elapsed() < CLOSE_TIME_MAX, "{:?}", begin.elapsed());
}

/// The resolver of the system has one thread here, and it is occupied.
#[test]
fn a_listener_is_closed_in_time_while_a_name_is_looked_up() {
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async move {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url(server.local_addr().unwrap(), "localhost", "disable");
        let (listener, socket) = tokio::join!(connect(&url), async {
            let mut socket = server.accept().await.unwrap().0;
            listening(&mut socket).await;
            socket
        });
        let hung = tokio::task::spawn_blocking(move || hold.recv().unwrap_err());
        drop(socket);
        until_attempt(&listener).await;
        closes(listener).await;
        no_task_is_left().await;
        drop(held);
        hung.await.unwrap();
    });
}

/// The kernel lets further connections wait without an answer, like a network that drops packets.
#[cfg(target_os = "linux")]
#[test]
fn a_listener_is_closed_in_time_while_its_connection_is_not_accepted() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = socket.listen(1).unwrap();
        let address = server.local_addr().unwrap();
        let url = url(address, "127.0.0.1", "disable");
        let (listener, socket) = tokio::join!(connect(&url), async {
            let mut socket = server.accept().await.unwrap().0;
            listening(&mut socket).await;
            socket
        });
        let mut callers = Vec::new();
        let limit = Duration::from_millis(100);
        while let Ok(caller) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
            callers.push(caller.unwrap());
            assert!(callers.len() < 100, "the listen queue never becomes full");
        }
        drop(socket);
        until_attempt(&listener).await;
        closes(listener).await;
        no_task_is_left().await;
    });
}

/// To the request for TLS the server sends nothing, or only its answer, or also an incomplete record of the handshake.
#[cfg(feature = "tls")]
#[test]
fn a_listener_is_closed_in_time_while_the_tls_handshake_stalls() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        // A record of the handshake that announces more bytes than are sent.
        for answer in [&b""[..], b"S", b"S\x16\x03\x03\x01\x00\x02\x00\x00\xfc"] {
            let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = url(server.local_addr().unwrap(), "127.0.0.1", "prefer");
            let (listener, socket) = tokio::join!(connect(&url), async {
                let mut socket = server.accept().await.unwrap().0;
                packet(&mut socket, 0).await;
                socket.write_all(b"N").await.unwrap();
                listening(&mut socket).await;
                socket
            });
            drop(socket);
            let mut socket = client::soon("a connection", server.accept()).await.unwrap().0;
            packet(&mut socket, 0).await;
            socket.write_all(answer).await.unwrap();
            until_attempt(&listener).await;
            closes(listener).await;
            // The socket is closed: the other end receives the end of the stream.
            let mut rest = Vec::new();
            let _ = client::soon("the end", socket.read_to_end(&mut rest)).await;
            no_task_is_left().await;
        }
    });
}

/// The provider never answers: every attempt takes its whole time, and `close` does not wait for it.
#[test]
fn a_listener_is_closed_in_time_while_its_password_provider_hangs() {
    // A provider has a thread of its own, for which a paused clock does not wait.
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let host = Host::start(|_, mut peer| async move {
            peer.listening().await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        })
        .await;
        let asked = Arc::new(Notify::new());
        let called = asked.clone();
        let calls = std::sync::atomic::AtomicU32::new(0);
        let config: Config = format!("{} connect_timeout=1", host.url()).parse().unwrap();
        let config = config.password_provider(move |_| {
            let is_first = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
            let called = called.clone();
            async move {
                if !is_first {
                    called.notify_one();
                    std::future::pending::<()>().await;
                }
                Ok::<_, std::io::Error>("x")
            }
        });
        let builder = Listener::builder(config).channels(["a"]).backoff(BACKOFF.0, BACKOFF.1);
        let listener = builder.connect().await.unwrap();
        for _ in 0..3 {
            soon("a request for the password", asked.notified()).await;
        }
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(format!("{error:#}").contains("the password"), "{error}");
        close(listener).await;
        host.ends().await;
    });
}

/// A host whose first session ends, and which sends nothing to the next client.
async fn once_and_then_silent() -> Host {
    Host::start(|number, mut peer| async move {
        if number == 1 {
            peer.listening().await;
            return tokio::time::sleep(Duration::from_millis(1)).await;
        }
        peer.wait_for_end().await;
    })
    .await
}

/// The task does not wait for the provider, and ignores a later answer.
#[test]
fn a_listener_that_is_dropped_while_its_attempt_hangs_leaves_no_task() {
    paused_clock().block_on(async {
        let host = once_and_then_silent().await;
        let listener = host.builder().connect().await.unwrap();
        let handle = listener.handle();
        soon("a loss", handle.wait_state(State::Reconnecting)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(listener);
        soon("the end", handle.wait_state(State::Closed)).await.unwrap();
        host.ends().await;
    });
}

/// A drain has nothing to wait for: it ends, and the gap of the outage is delivered.
#[test]
fn a_drain_while_an_attempt_hangs_ends_with_the_gap() {
    paused_clock().block_on(async {
        let host = once_and_then_silent().await;
        let mut listener = host.builder().connect().await.unwrap();
        soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        soon("the drain", listener.drain(Duration::from_secs(5))).await.unwrap();
        assert_eq!(gap(&mut listener).await.sessions(), 1);
        let end = soon("the end", listener.recv()).await.unwrap_err();
        assert_eq!(end.kind(), ErrorKind::Closed, "{end}");
        drop(listener);
        host.ends().await;
    });
}
