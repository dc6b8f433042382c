use std::future::Future;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Script, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Longest that anything here may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn server() -> Server {
    Server::start(BackendConfig::new()).await.unwrap()
}

/// Fails instead of hanging.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it took too long")
}

/// What a server says to let a client in.
const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";

/// Lets one client in after its startup packet.
pub(crate) async fn let_in(listener: &TcpListener) -> TcpStream {
    let (mut socket, _) = listener.accept().await.unwrap();
    // A write is a segment of its own.
    socket.set_nodelay(true).unwrap();
    let length = socket.read_u32().await.unwrap();
    let mut packet = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut packet).await.unwrap();
    socket.write_all(PRELUDE).await.unwrap();
    socket
}

/// Refuses one client.
pub(crate) async fn refuse(listener: &TcpListener, error: &[u8]) {
    let (mut socket, _) = listener.accept().await.unwrap();
    let length = socket.read_u32().await.unwrap();
    let mut packet = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut packet).await.unwrap();
    socket.write_all(error).await.unwrap();
}

/// Lets a client in that listens, and answers what it asks first.
pub(crate) async fn let_listen(listener: &TcpListener) -> TcpStream {
    let mut socket = let_in(listener).await;
    assert_eq!(socket.read_u8().await.unwrap(), b'Q');
    let length = socket.read_u32().await.unwrap();
    let mut query = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut query).await.unwrap();
    socket.write_all(Script::FACTS).await.unwrap();
    socket
}

/// A server of which a test says every byte, and how to connect to it.
pub(crate) async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("host=127.0.0.1 port={port} user=x sslmode=disable"))
}
