//! Reads that are delayed because notifications arrive densely. The clock of the runtime is stopped while a task can run, so that
//! the times are exact.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Wake, Waker};
use std::thread::Thread;
use std::time::Duration;

use pgbell::{Connection, ErrorKind, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use crate::support::{let_listen, listener, message};

/// The notifications of one write of a server, and their size: together a little more than 8 KiB.
const WRITE: usize = 161;
const NOTIFICATION_BYTES: usize = 51;

/// The longest time from the write of a notification to its delivery.
const DELAY_MAX: Duration = Duration::from_micros(1_500);

fn paused_clock() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Returns the client of a test, and the socket of its server, which accepts every command once.
async fn client(delay: Option<Duration>, is_listener: bool) -> (Client, TcpStream) {
    let (server, url) = listener().await;
    let listening = async {
        let mut socket = let_listen(&server).await;
        // LISTEN, which is one message.
        let mut head = [0; 5];
        socket.read_exact(&mut head).await.unwrap();
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
        socket.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
        socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
        socket
    };
    let connecting = async {
        if is_listener {
            // Longer than the test, because this server answers no heartbeat.
            let hour = Duration::from_secs(3_600);
            let mut builder = Listener::builder(&url).channels(["a"]).heartbeat(hour, hour);
            if let Some(delay) = delay {
                builder = builder.read_delay(delay);
            }
            return Client::Listener(Box::new(builder.reconnect(false).await.unwrap()));
        }
        let mut connection = Connection::connect(&url).await.unwrap();
        if let Some(delay) = delay {
            connection.set_read_delay(delay);
        }
        connection.listen("a").await.unwrap();
        Client::Connection(Box::new(connection))
    };
    tokio::join!(connecting, listening)
}

enum Client {
    Connection(Box<Connection>),
    Listener(Box<Listener>),
}

impl Client {
    /// Receives a batch. Returns the numbers of its notifications.
    async fn receive(&mut self) -> Result<Vec<usize>, pgbell::Error> {
        let batch = match self {
            Self::Connection(connection) => connection.recv_batch().await?,
            Self::Listener(listener) => listener.recv_batch().await?,
        };
        assert!(batch.loss().is_none());
        Ok(batch.iter().map(|n| n.payload().parse().unwrap()).collect())
    }

    fn reads_delayed(&self) -> u64 {
        match self {
            Self::Connection(connection) => connection.reads_delayed(),
            Self::Listener(listener) => listener.stats().reads_delayed,
        }
    }

    async fn close(self) {
        match self {
            Self::Connection(connection) => connection.close().await,
            Self::Listener(listener) => listener.close().await,
        }
    }
}

/// Returns notifications whose payloads are numbers.
fn notifications(first: usize, count: usize) -> Vec<u8> {
    let one = |n: usize| {
        let payload = format!("{n:0width$}", width = NOTIFICATION_BYTES - 12);
        message(b'A', &[b"\0\0\0\x01a\0", payload.as_bytes(), b"\0"].concat())
    };
    let bytes: Vec<u8> = (first..first + count).flat_map(one).collect();
    assert_eq!(bytes.len(), count * NOTIFICATION_BYTES);
    bytes
}

#[test]
fn a_dense_flow_is_delivered_whole_with_delayed_reads_only_if_they_are_wanted() {
    for is_listener in [false, true] {
        for (limit, is_delayed) in [
            (None, cfg!(target_os = "linux")),
            (Some(Duration::MAX), cfg!(target_os = "linux")),
            (Some(Duration::from_micros(999)), false),
            (Some(Duration::ZERO), false),
        ] {
            paused_clock().block_on(async {
                let (mut client, mut socket) = client(limit, is_listener).await;
                let writes = 200;
                let sending = async {
                    for n in 0..writes {
                        socket.write_all(&notifications(n * WRITE, WRITE)).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    socket
                };
                let receiving = async {
                    let mut next = 0;
                    while next < writes * WRITE {
                        for n in client.receive().await.unwrap() {
                            assert_eq!(n, next);
                            next += 1;
                        }
                    }
                    client
                };
                let (_socket, client) = tokio::join!(sending, receiving);
                assert_eq!(client.reads_delayed() > 0, is_delayed, "{limit:?}");
            });
        }
    }
}

/// Each dense flow ends as soon as it has caused a delay, and a single notification follows.
#[test]
fn a_server_that_provokes_delays_delays_each_notification_by_one_tick_at_most() {
    for is_listener in [false, true] {
        paused_clock().block_on(async {
            let (mut client, mut socket) = client(None, is_listener).await;
            let (times, mut sent) = tokio::sync::mpsc::unbounded_channel();
            let rounds: u32 = 300;
            let sending = tokio::spawn(async move {
                let mut next = 0;
                for round in 0..rounds {
                    for count in [WRITE, WRITE, 1, WRITE, 1] {
                        times.send(Instant::now()).unwrap();
                        socket.write_all(&notifications(next, count)).await.unwrap();
                        next += count;
                        // The client reads each write before the next one.
                        for _ in 0..20 {
                            tokio::task::yield_now().await;
                        }
                    }
                    tokio::time::sleep(Duration::from_micros(700) * (round % 5)).await;
                }
                socket
            });
            let (mut next, mut longest) = (0, Duration::ZERO);
            let writes = [WRITE, WRITE, 1, WRITE, 1];
            let mut last_of_write = 0;
            let (mut write, mut written) = (0, None);
            let all = usize::try_from(rounds).unwrap() * (3 * WRITE + 2);
            while next < all {
                for n in client.receive().await.unwrap() {
                    assert_eq!(n, next);
                    if next == last_of_write {
                        written = Some(sent.recv().await.unwrap());
                        last_of_write += writes[write % writes.len()];
                        write += 1;
                    }
                    longest = longest.max(written.unwrap().elapsed());
                    next += 1;
                }
            }
            assert!(longest <= DELAY_MAX, "{longest:?}");
            assert_eq!(client.reads_delayed() > 0, cfg!(target_os = "linux"));
            drop(sending.await.unwrap());
        });
    }
}

#[test]
fn bytes_that_arrive_one_by_one_are_not_delayed() {
    for is_listener in [false, true] {
        paused_clock().block_on(async {
            let (mut client, mut socket) = client(None, is_listener).await;
            let sending = tokio::spawn(async move {
                for byte in notifications(0, WRITE) {
                    socket.write_all(&[byte]).await.unwrap();
                    tokio::task::yield_now().await;
                }
                socket
            });
            let mut received = 0;
            while received < WRITE {
                received += client.receive().await.unwrap().len();
            }
            assert_eq!(client.reads_delayed(), 0);
            drop(sending.await.unwrap());
        });
    }
}

/// The end comes directly after a dense flow, so that the client waits when it arrives.
#[test]
fn the_end_of_the_session_during_a_delay_is_noticed_after_it() {
    for is_listener in [false, true] {
        for is_reset in [false, true] {
            paused_clock().block_on(async {
                let (mut client, mut socket) = client(None, is_listener).await;
                for n in 0..2 {
                    socket.write_all(&notifications(n * WRITE, WRITE)).await.unwrap();
                    let mut received = 0;
                    while received < WRITE {
                        received += client.receive().await.unwrap().len();
                    }
                }
                let begin = Instant::now();
                if is_reset {
                    socket.set_zero_linger().unwrap();
                }
                drop(socket);
                let error = client.receive().await.unwrap_err();
                let kind = if is_listener { ErrorKind::Closed } else { ErrorKind::Connect };
                assert!([kind, ErrorKind::Connect].contains(&error.kind()), "{error:#}");
                assert!(begin.elapsed() <= DELAY_MAX, "{:?}", begin.elapsed());
            });
        }
    }
}

#[test]
fn close_and_drop_do_not_wait_for_a_delay() {
    for is_listener in [false, true] {
        for is_dropped in [false, true] {
            paused_clock().block_on(async {
                let (mut client, mut socket) = client(None, is_listener).await;
                for n in 0..2 {
                    socket.write_all(&notifications(n * WRITE, WRITE)).await.unwrap();
                    let mut received = 0;
                    while received < WRITE {
                        received += client.receive().await.unwrap().len();
                    }
                }
                let begin = Instant::now();
                let ending = async {
                    if is_dropped {
                        drop(client);
                    } else {
                        client.close().await;
                    }
                };
                let reading = async move {
                    let mut rest = Vec::new();
                    // A client that is dropped may reset the connection.
                    let _ = socket.read_to_end(&mut rest).await;
                    rest
                };
                let ((), rest) = tokio::join!(ending, reading);
                if !is_dropped {
                    assert_eq!(rest, b"X\0\0\0\x04");
                }
                assert_eq!(begin.elapsed(), Duration::ZERO);
            });
        }
    }
}

/// A command during a dense flow is answered without a delay.
#[test]
fn a_command_is_sent_and_its_answer_read_during_a_delay() {
    for is_listener in [false, true] {
        paused_clock().block_on(async {
            let (mut client, mut socket) = client(None, is_listener).await;
            for round in 0..20 {
                for n in 0..2 {
                    let first = (2 * round + n) * WRITE;
                    socket.write_all(&notifications(first, WRITE)).await.unwrap();
                    let mut received = 0;
                    while received < WRITE {
                        received += client.receive().await.unwrap().len();
                    }
                }
                let begin = Instant::now();
                let answering = async {
                    let mut query = [0; 14];
                    socket.read_exact(&mut query).await.unwrap();
                    socket.write_all(b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I").await.unwrap();
                };
                let asking = async {
                    match &mut client {
                        Client::Connection(connection) => {
                            drop(connection.simple_query("SELECT 1").await.unwrap());
                        }
                        Client::Listener(listener) => {
                            drop(listener.simple_query("SELECT 1").await.unwrap());
                        }
                    }
                };
                tokio::join!(answering, asking);
                assert_eq!(begin.elapsed(), Duration::ZERO);
            }
        });
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Polls a future in a thread that is in no runtime.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    loop {
        let polled = Pin::as_mut(&mut future).poll(&mut Context::from_waker(&waker));
        if let std::task::Poll::Ready(value) = polled {
            return value;
        }
        std::thread::park();
    }
}

/// A connection can be used outside its runtime, which has the socket. There no read is delayed.
#[test]
fn a_connection_receives_a_dense_flow_outside_its_runtime() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut client, mut socket) = runtime.block_on(client(None, false));
    let writes = 100;
    let sending = runtime.spawn(async move {
        for n in 0..writes {
            socket.write_all(&notifications(n * WRITE, WRITE)).await.unwrap();
            tokio::task::yield_now().await;
        }
        socket
    });
    let mut received = 0;
    // The first half in the runtime, where a socket may be left waiting.
    runtime.block_on(async {
        while received < writes * WRITE / 2 {
            received += client.receive().await.unwrap().len();
        }
    });
    while received < writes * WRITE {
        received += block_on(client.receive()).unwrap().len();
    }
    drop(block_on(sending).unwrap());
}

/// The socket is in another runtime, which has timers.
#[test]
fn a_connection_does_not_panic_in_a_runtime_without_timers() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut client, mut socket) = runtime.block_on(client(None, false));
    let writes = 100;
    let sending = runtime.spawn(async move {
        for n in 0..writes {
            socket.write_all(&notifications(n * WRITE, WRITE)).await.unwrap();
            tokio::task::yield_now().await;
        }
        // LISTEN and Terminate.
        let mut rest = Vec::new();
        let mut command = [0; 16];
        socket.read_exact(&mut command[..1]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        socket.write_all(b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I").await.unwrap();
        socket.read_to_end(&mut rest).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        rest
    });
    let other = Builder::new_current_thread().build().unwrap();
    other.block_on(async {
        let mut received = 0;
        while received < writes * WRITE {
            received += client.receive().await.unwrap().len();
        }
        // These have timeouts.
        if let Client::Connection(connection) = &mut client {
            connection.listen("b").await.unwrap();
        }
        client.close().await;
    });
    assert!(block_on(sending).unwrap().ends_with(b"X\0\0\0\x04"));
}

/// Each notification is sent after the one before was received. The longest one has 8,073 bytes.
#[test]
fn long_notifications_that_arrive_one_by_one_are_not_delayed() {
    for is_listener in [false, true] {
        for width in [1, 4_084, 5_000, 7_999] {
            paused_clock().block_on(async {
                let (mut client, mut socket) = client(None, is_listener).await;
                let begin = Instant::now();
                for n in 0..20 {
                    let payload = format!("{n:0width$}");
                    let body = [b"\0\0\0\x01a\0", payload.as_bytes(), b"\0"].concat();
                    socket.write_all(&message(b'A', &body)).await.unwrap();
                    assert_eq!(client.receive().await.unwrap(), [n]);
                }
                assert_eq!((begin.elapsed(), client.reads_delayed()), (Duration::ZERO, 0));
            });
        }
    }
}
