//! The memory for a long message, or for many short ones, is freed when it is no longer needed.

use pgbell::{Connection, Listener, Notifier};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::alone;
use crate::meter::Meter;
use crate::peer::{bind, diagnostic, let_in, notifications};

/// The memory of an idle connection: a receive buffer of 256 KiB, its session, its socket, and what the runtime keeps.
const CONNECTION_BYTES: usize = 320 * 1024;

/// The memory of a session without that receive buffer.
const SESSION_BYTES: usize = 128 * 1024;

const LONG_BYTES: usize = 8 * 1024 * 1024;

const SELECTED: &[u8] = b"C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// Answers every Query, and discards what it reads. Ends with the client.
async fn answer(mut socket: TcpStream, answer: &[u8]) {
    let mut scratch = [0; 16 * 1024];
    while let Ok(b'Q') = socket.read_u8().await {
        let mut left = usize::try_from(socket.read_u32().await.unwrap()).unwrap() - 4;
        while left > 0 {
            let most = left.min(scratch.len());
            left -= socket.read(&mut scratch[..most]).await.unwrap();
        }
        socket.write_all(answer).await.unwrap();
    }
}

async fn connection(server: &TcpListener, url: &str) -> (Connection, TcpStream) {
    let (connection, socket) = tokio::join!(Connection::connect(url), let_in(server));
    (connection.unwrap(), socket)
}

#[test]
fn a_connection_frees_the_memory_of_a_long_message() {
    let held = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let (mut connection, mut socket) = connection(&server, &url).await;
        let notice = diagnostic(b'N', 1024 * 1024);
        let single = notifications(1, 100);
        let write = async {
            socket.write_all(&notice).await.unwrap();
            for _ in 0..100 {
                socket.write_all(&single).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let receive = async {
            let mut received = 0;
            while received < 100 {
                received += connection.recv_batch().await.unwrap().len();
            }
        };
        tokio::join!(write, receive);
        drop((notice, single));
        meter.held()
    });
    assert!(held <= CONNECTION_BYTES, "{held} bytes");
}

#[test]
fn a_connection_frees_the_memory_of_a_long_query() {
    let held = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let (mut connection, socket) = connection(&server, &url).await;
        let served = tokio::spawn(answer(socket, SELECTED));
        let sql = "x".repeat(LONG_BYTES);
        connection.simple_query(&sql).await.unwrap();
        drop(sql);
        connection.simple_query("SELECT 1").await.unwrap();
        let held = meter.held();
        connection.close().await;
        served.await.unwrap();
        held
    });
    assert!(held <= CONNECTION_BYTES, "{held} bytes");
}

#[test]
fn a_listener_frees_the_memory_of_a_long_query() {
    let held = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let (listener, socket) = tokio::join!(Listener::builder(&url).connect(), let_in(&server));
        let listener = listener.unwrap();
        let served = tokio::spawn(answer(socket, SELECTED));
        listener.simple_query("x".repeat(LONG_BYTES)).await.unwrap();
        listener.simple_query("SELECT 1").await.unwrap();
        let held = meter.held();
        listener.close().await;
        served.await.unwrap();
        held
    });
    // The queue's slots, and its first buffer.
    assert!(held <= 3 * 1024 * 1024, "{held} bytes");
}

#[test]
fn a_notifier_frees_the_memory_of_very_many_notifications() {
    let held = alone(async {
        let (server, url) = bind().await;
        let mut meter = Meter::start();
        let serve = tokio::spawn(async move {
            let mut socket = let_in(&server).await;
            // Each ends with a Sync.
            let mut scratch = [0; 16 * 1024];
            while let Ok(tag) = socket.read_u8().await {
                let mut left = usize::try_from(socket.read_u32().await.unwrap()).unwrap() - 4;
                while left > 0 {
                    let most = left.min(scratch.len());
                    left -= socket.read(&mut scratch[..most]).await.unwrap();
                }
                if tag == b'S' {
                    let done = [b"1\0\0\0\x042\0\0\0\x04n\0\0\0\x04", SELECTED].concat();
                    socket.write_all(&done).await.unwrap();
                }
            }
        });
        let notifier = Notifier::connect(&*url).await.unwrap();
        let many = (0..1_000).map(|_| ("a", "p".repeat(7_999)));
        assert_eq!(notifier.notify_many(many).await.unwrap(), 1_000);
        notifier.notify("a", "one").await.unwrap();
        let held = meter.held();
        notifier.close().await;
        serve.await.unwrap();
        held
    });
    assert!(held <= SESSION_BYTES, "{held} bytes");
}
