//! The server's end of one conversation: valid, unless a test decides otherwise.

use std::time::Duration;

use bytes::{Buf, BytesMut};
use pgbell::testing::{Delivery, Script};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::queries::{FACTS_SQL, HEARTBEAT_SQL};

use super::super::attack::{hex, message};

/// The answer of a server to the heartbeat of a session that listens to `a`: one channel, the digest of its name.
pub(super) const DIGEST: &str = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb";

/// ReadyForQuery.
pub(super) const READY: &str = "5a 00000005 49";

/// AuthenticationOk.
pub(super) const OK: &str = "52 00000008 00000000";

/// A notification of channel `a`.
pub(super) fn note(payload: &str) -> Vec<u8> {
    message(b'A', &[b"\0\0\0\x01a\0", payload.as_bytes(), b"\0"].concat())
}

/// A result of text columns, complete.
pub(super) fn rows(columns: usize, rows: &[&[Option<&str>]]) -> Vec<u8> {
    let count = u16::try_from(columns).unwrap().to_be_bytes();
    let column = [&b"c\0"[..], &[0; 6], &[0, 0, 0, 25], &[0xff; 6], &[0; 2]].concat();
    let mut answer = message(b'T', &[&count[..], &column.repeat(columns)].concat());
    for row in rows {
        let mut body = u16::try_from(row.len()).unwrap().to_be_bytes().to_vec();
        for value in *row {
            match value {
                None => body.extend_from_slice(&[0xff; 4]),
                Some(value) => {
                    body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend_from_slice(value.as_bytes());
                }
            }
        }
        answer.extend(message(b'D', &body));
    }
    answer.extend(message(b'C', format!("SELECT {}\0", rows.len()).as_bytes()));
    answer.extend(hex(READY));
    answer
}

/// The valid answer to the heartbeat query.
pub(super) fn heartbeat_answer() -> Vec<u8> {
    rows(2, &[&[Some("1"), Some(DIGEST)]])
}

/// One client.
#[derive(Debug)]
pub(super) struct Peer {
    stream: UnixStream,
    input: BytesMut,
}

impl Peer {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self { stream, input: BytesMut::new() }
    }

    /// Writes as much as the client accepts. Returns whether it accepted everything.
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// As [`send`](Self::send), in pieces that the client reads one by one.
    pub(super) async fn send_in_pieces(&mut self, bytes: &[u8], delivery: Delivery) {
        for piece in delivery.pieces(0, bytes) {
            if !self.send(piece).await {
                return;
            }
            // The clock jumps only when no task can run: the piece was read.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Reads until this many bytes are buffered. Returns false if the client closes before.
    async fn fill(&mut self, bytes: usize) -> bool {
        while self.input.len() < bytes {
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return false;
            }
        }
        true
    }

    /// Reads the startup packet, or another one without a type byte.
    pub(super) async fn packet(&mut self) -> Option<Vec<u8>> {
        if !self.fill(4).await {
            return None;
        }
        let length = u32::from_be_bytes(self.input[..4].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        self.fill(length).await.then(|| self.input.split_to(length).to_vec())
    }

    /// Reads the next message: its type and its body.
    pub(super) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        if !self.fill(5).await {
            return None;
        }
        let length = u32::from_be_bytes(self.input[1..5].try_into().unwrap());
        let length = usize::try_from(length).unwrap();
        if !self.fill(length + 1).await {
            return None;
        }
        let tag = self.input.get_u8();
        self.input.advance(4);
        Some((tag, self.input.split_to(length - 4).to_vec()))
    }

    /// Returns the text of the next message, which must be a Query. `None`: the client has disconnected.
    pub(super) async fn query(&mut self) -> Option<String> {
        match self.message().await? {
            (b'Q', body) => Some(String::from_utf8(body[..body.len() - 1].to_vec()).unwrap()),
            (b'X', _) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Logs the client in.
    pub(super) async fn let_in(&mut self) {
        self.packet().await;
        self.send(Script::PRELUDE).await;
    }

    /// Logs the client in and answers the query for the facts of the server.
    pub(super) async fn ready(&mut self) {
        self.let_in().await;
        if let Some(query) = self.query().await {
            assert_eq!(query, FACTS_SQL);
            self.send(Script::FACTS).await;
        }
    }

    /// Serves up to the answer to the first LISTEN.
    pub(super) async fn listening(&mut self) {
        self.ready().await;
        self.read_listen().await;
        self.send(Script::ACK).await;
    }

    /// Reads the LISTEN of the client.
    pub(super) async fn read_listen(&mut self) {
        if let Some(query) = self.query().await {
            assert_eq!(query, r#"LISTEN "a""#);
        }
    }

    /// Answers every query until the client disconnects.
    pub(super) async fn serve(&mut self) {
        while let Some(query) = self.query().await {
            let answer = Self::answer(&query);
            self.send(answer).await;
        }
        self.wait_for_end().await;
    }

    /// The valid answer to a query of a listener.
    pub(super) fn answer(query: &str) -> Vec<u8> {
        match query {
            FACTS_SQL => Script::FACTS.to_vec(),
            HEARTBEAT_SQL => heartbeat_answer(),
            _ => {
                let command = query.split_whitespace().next().unwrap_or_default();
                let count = query.matches(&format!("{command} ")).count();
                let complete = message(b'C', format!("{command}\0").as_bytes());
                [complete.repeat(count.max(1)), hex(READY)].concat()
            }
        }
    }

    /// Serves a listener to `a` as a real server does.
    pub(super) async fn serve_listener(mut self) {
        self.listening().await;
        self.serve().await;
    }

    /// Sends nothing more and waits until the client disconnects.
    pub(super) async fn wait_for_end(&mut self) {
        loop {
            self.input.clear();
            if !matches!(self.stream.read_buf(&mut self.input).await, Ok(1..)) {
                return;
            }
        }
    }
}
