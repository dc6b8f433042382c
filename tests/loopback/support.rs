use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::time::Duration;

use futures_core::Stream;
use pgbell::testing::{BackendConfig, Script, Server};
use pgbell::{Connection, Error, Event, Listener, Loss};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest time for one step of a test.
const STEP_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) async fn server() -> Server {
    Server::start(BackendConfig::new()).await.unwrap()
}

/// Awaits a future and panics on a timeout.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(STEP_TIMEOUT, future).await.expect("timed out")
}

/// The next item of the listener as a stream.
pub(crate) async fn next(listener: &mut Listener) -> Option<Result<Event, Error>> {
    soon(poll_fn(|cx| Pin::new(&mut *listener).poll_next(cx))).await
}

/// The messages with which a server logs a client in.
const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";

/// Reads a length word and the bytes that it includes: a startup packet, or a message after its type byte.
async fn read_body(socket: &mut TcpStream) -> Vec<u8> {
    let length = socket.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut body).await.unwrap();
    body
}

/// Reads a message of this type. Returns its body.
pub(crate) async fn read_message(socket: &mut TcpStream, tag: u8) -> Vec<u8> {
    assert_eq!(socket.read_u8().await.unwrap(), tag);
    read_body(socket).await
}

/// Reads messages up to one of this type. Returns its body.
pub(crate) async fn read_up_to(socket: &mut TcpStream, tag: u8) -> Vec<u8> {
    loop {
        let found = socket.read_u8().await.unwrap();
        let body = read_body(socket).await;
        if found == tag {
            return body;
        }
    }
}

/// A message with this type byte.
pub(crate) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// Logs one client in after its startup packet.
pub(crate) async fn let_in(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    // Each write is sent as a segment of its own.
    socket.set_nodelay(true).unwrap();
    read_body(&mut socket).await;
    socket.write_all(PRELUDE).await.unwrap();
    socket
}

/// ParseComplete to ReadyForQuery of a transaction that sends notifications.
const COMMITTED: &[u8] = b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1e\0\x01count\0\0\0\0\0\0\0\0\0\0\x14\0\x08\xff\xff\xff\xff\0\0\
    D\0\0\0\x0b\0\x01\0\0\0\x011C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";

/// Logs in the session of nudges, and confirms its first transaction.
pub(crate) async fn let_nudge(listener: &TcpListener) -> TcpStream {
    let mut socket = let_listen(listener).await;
    read_up_to(&mut socket, b'S').await;
    socket.write_all(COMMITTED).await.unwrap();
    socket
}

/// Expects that the next client has sent the CancelRequest of a session that was let in.
pub(crate) async fn expect_cancel(listener: &TcpListener) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let request = [80_877_102_u32, 7, 1].map(u32::to_be_bytes).concat();
    assert_eq!(read_body(&mut socket).await, request);
}

/// Refuses one client.
pub(crate) async fn refuse(listener: &TcpListener, error: &[u8]) {
    let (mut socket, _) = listener.accept().await.unwrap();
    read_body(&mut socket).await;
    socket.write_all(error).await.unwrap();
}

/// Logs in a client that listens, and answers its first queries.
pub(crate) async fn let_listen(listener: &TcpListener) -> TcpStream {
    let mut socket = let_in(listener).await;
    read_message(&mut socket, b'Q').await;
    socket.write_all(Script::FACTS).await.unwrap();
    socket
}

/// A server whose every byte a test decides, and the connection string for it.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("host=127.0.0.1 port={port} user=x sslmode=disable"))
}

/// Long texts that begin with the numbers from 0: more than the backlog of a connection holds, 8 MiB.
pub(crate) fn surplus() -> Vec<String> {
    let payload = "x".repeat(7_990);
    (0..1_200).map(|n| format!("{n:07}{payload}")).collect()
}

/// Receives the texts of [`surplus`]. Those that the backlog could not hold are reported as lost, at their position.
pub(crate) async fn expect_surplus(connection: &mut Connection, sent: &[String]) {
    let (mut next, mut lagged) = (0, 0);
    while next < sent.len() as u64 {
        let batch = soon(connection.recv_batch()).await.unwrap();
        if let Some(loss) = batch.loss() {
            let Loss::Lagged(loss) = loss else { panic!("{loss:?}") };
            assert_eq!(loss.first_sequence(), next);
            lagged += loss.count();
            next += loss.count();
        }
        for n in batch {
            let number = format!("{next:07}").into_bytes();
            assert_eq!((n.sequence(), n.payload_bytes()[..7].to_vec()), (next, number));
            next += 1;
        }
    }
    assert!((100..400).contains(&lagged), "{lagged} of {} for 8 MiB", sent.len());
}
