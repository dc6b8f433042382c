//! Clients of the two endpoints, with nothing but a socket.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

const TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    has_frames: bool,
}

impl Client {
    /// Connects to the endpoint for server-sent events.
    pub(crate) async fn events(address: SocketAddr, room: &str, last_id: Option<&str>) -> Self {
        let header = last_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let (client, status) = Self::get(address, &format!("/rooms/{room}/events"), &header).await;
        assert_eq!(status, "200 OK");
        client
    }

    /// Connects to the endpoint for WebSockets.
    pub(crate) async fn socket(address: SocketAddr, room: &str, last_id: Option<&str>) -> Self {
        let query = last_id.map(|id| format!("?last={id}")).unwrap_or_default();
        let headers = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        let path = format!("/rooms/{room}/socket{query}");
        let (mut client, status) = Self::get(address, &path, headers).await;
        assert_eq!(status, "101 Switching Protocols");
        client.has_frames = true;
        client
    }

    /// Sends a request, and returns the status. The headers of the answer are skipped.
    pub(crate) async fn get(address: SocketAddr, path: &str, headers: &str) -> (Self, String) {
        let mut stream = BufReader::new(TcpStream::connect(address).await.unwrap());
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { stream, has_frames: false };
        let status = client.line().await.unwrap().strip_prefix("HTTP/1.1 ").unwrap().to_owned();
        while client.line().await.is_some_and(|line| !line.is_empty()) {}
        (client, status)
    }

    /// Returns the rest of the answer.
    pub(crate) async fn rest(mut self) -> String {
        let mut text = String::new();
        let reading = self.stream.read_to_string(&mut text);
        tokio::time::timeout(TIMEOUT, reading).await.unwrap().unwrap();
        text
    }

    /// Waits for the next message. `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        if self.has_frames { self.next_frame().await } else { self.next_event().await }
    }

    /// Waits for the next message of this type.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        loop {
            let message = self.next().await.expect("a message");
            if message["type"] == kind {
                return message;
            }
        }
    }

    async fn next_event(&mut self) -> Option<Value> {
        let (mut id, mut kind) = (String::new(), String::new());
        loop {
            let line = self.line().await?;
            if let Some(text) = line.strip_prefix("id: ") {
                text.clone_into(&mut id);
            } else if let Some(text) = line.strip_prefix("event: ") {
                text.clone_into(&mut kind);
            } else if let Some(data) = line.strip_prefix("data: ") {
                let message: Value = serde_json::from_str(data).unwrap();
                assert_eq!(message["id"], *id, "{line}");
                assert_eq!(message["type"], *kind, "{line}");
                return Some(message);
            }
        }
    }

    /// A server does not mask, and its messages here are shorter than 64 KiB.
    async fn next_frame(&mut self) -> Option<Value> {
        let read = async {
            loop {
                let (first, short) = (self.stream.read_u8().await?, self.stream.read_u8().await?);
                let bytes = match short {
                    126 => self.stream.read_u16().await?.into(),
                    short => usize::from(short),
                };
                let mut payload = vec![0; bytes];
                self.stream.read_exact(&mut payload).await?;
                match first {
                    // The whole of a text.
                    0x81 => return Ok(Some(serde_json::from_slice(&payload).unwrap())),
                    // Ping.
                    0x89 => {}
                    // Close.
                    0x88 => return Ok(None),
                    other => panic!("a frame that begins with {other:#04x}"),
                }
            }
        };
        let read: std::io::Result<Option<Value>> =
            tokio::time::timeout(TIMEOUT, read).await.expect("a message in time");
        read.unwrap()
    }

    async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let reading = self.stream.read_line(&mut line);
        let bytes = tokio::time::timeout(TIMEOUT, reading).await.expect("a line in time").unwrap();
        (bytes > 0).then(|| line.trim_end().to_owned())
    }
}
