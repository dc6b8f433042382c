//! A server whose every byte a test decides, and a listener whose reads the test can observe.

use pgbell::proto::wire::{BackendMessage, RawNotification};
use pgbell::testing::Script;
use pgbell::{Event, Listener, ListenerBuilder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::meter::Meter;

/// The messages with which a server logs a client in.
const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0\
    K\0\0\0\x0c\0\0\0\x07\0\0\0\x01Z\0\0\0\x05I";

/// Turns of the runtime in which nothing was read: the reader waits for the consumer.
const TURNS: usize = 50;

/// `count` notifications on channel `a`.
pub(crate) fn notifications(count: usize, payload_bytes: usize) -> Vec<u8> {
    let mut frame = bytes::BytesMut::new();
    let payload = vec![b'p'; payload_bytes];
    let raw = RawNotification { process_id: 1, channel: b"a", payload: &payload };
    BackendMessage::NotificationResponse(raw).encode(&mut frame).unwrap();
    frame.repeat(count)
}

/// A NoticeResponse or an ErrorResponse, `bytes` bytes long.
pub(crate) fn diagnostic(tag: u8, bytes: usize) -> Vec<u8> {
    let fixed = b"SERROR\0C42501\0M".len() + 2;
    let length = u32::try_from(bytes - 1).unwrap().to_be_bytes();
    let text = vec![0xe9; bytes - 5 - fixed];
    [&[tag][..], &length, b"SERROR\0C42501\0M", &text, b"\0\0"].concat()
}

pub(crate) async fn bind() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, format!("host=127.0.0.1 port={port} user=x sslmode=disable"))
}

/// Logs one client in.
pub(crate) async fn let_in(server: &TcpListener) -> TcpStream {
    let (mut socket, _) = server.accept().await.unwrap();
    socket.set_nodelay(true).unwrap();
    let length = socket.read_u32().await.unwrap();
    let mut packet = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut packet).await.unwrap();
    socket.write_all(PRELUDE).await.unwrap();
    // The query for the facts of the server.
    read_query(&mut socket).await;
    socket.write_all(Script::FACTS).await.unwrap();
    socket
}

/// Reads one Query message.
pub(crate) async fn read_query(socket: &mut TcpStream) {
    assert_eq!(socket.read_u8().await.unwrap(), b'Q');
    let length = socket.read_u32().await.unwrap();
    let mut query = vec![0; usize::try_from(length).unwrap() - 4];
    socket.read_exact(&mut query).await.unwrap();
}

/// A listener, the server's end of its socket, and what was counted so far.
pub(crate) struct Pair {
    pub(crate) listener: Listener,
    pub(crate) meter: Meter,
    pub(crate) socket: TcpStream,
    /// Bytes written after the login.
    written: u64,
    /// Notifications written.
    pub(crate) sent: u64,
    /// Notifications delivered or reported lost.
    pub(crate) next: u64,
    pub(crate) lost: u64,
    pub(crate) gaps: u64,
    /// After this many bytes are read, the consumer takes one event.
    pub(crate) take_every: u64,
    taken_at: u64,
    /// The consumer never takes one, even if the reader waits for it.
    pub(crate) asleep: bool,
    /// Stalls after which it took one.
    stalls: u64,
}

impl Pair {
    pub(crate) async fn connect(builder: impl FnOnce(&str) -> ListenerBuilder) -> Self {
        let (server, url) = bind().await;
        let meter = Meter::start();
        let (listener, socket) = tokio::join!(builder(&url).connect(), let_in(&server));
        Self {
            listener: listener.unwrap(),
            meter,
            socket,
            written: 0,
            sent: 0,
            next: 0,
            lost: 0,
            gaps: 0,
            take_every: u64::MAX,
            taken_at: 0,
            asleep: false,
            stalls: 0,
        }
    }

    /// Lets every task run once.
    pub(crate) async fn turn(&mut self) {
        tokio::task::yield_now().await;
        self.meter.look();
        let stats = self.listener.stats();
        if stats.bytes_read - self.taken_at >= self.take_every {
            self.taken_at = stats.bytes_read;
            self.take();
        }
    }

    /// The consumer takes one event. Returns whether there was one.
    pub(crate) fn take(&mut self) -> bool {
        let event = self.listener.try_recv().unwrap();
        self.meter.look();
        match &event {
            Some(Event::Notification(n)) => {
                assert_eq!(n.sequence(), self.next);
                self.next += 1;
            }
            Some(Event::Lagged(lagged)) => {
                assert_eq!(lagged.first_sequence(), self.next);
                self.next += lagged.count();
                self.lost += lagged.count();
            }
            Some(Event::Gap(_)) => self.gaps += 1,
            _ => return false,
        }
        true
    }

    /// Writes bytes with this many notifications, and waits until all are read. If the reader waits for the consumer, the
    /// consumer takes enough to make room.
    pub(crate) async fn write(&mut self, mut bytes: &[u8], notifications: u64) {
        self.sent += notifications;
        self.written += bytes.len() as u64;
        let (mut turns, mut read) = (0, 0);
        while !bytes.is_empty() || self.listener.stats().bytes_read < self.written {
            if let Ok(count @ 1..) = self.socket.try_write(bytes) {
                bytes = &bytes[count..];
            }
            self.turn().await;
            let stats = self.listener.stats();
            turns = if stats.bytes_read > read { 0 } else { turns + 1 };
            read = stats.bytes_read;
            let waits = stats.stalls > self.stalls || (turns > TURNS && stats.stalls > 0);
            if waits && !self.asleep {
                (self.stalls, turns) = (stats.stalls, 0);
                // There is room when a whole run has left the queue.
                while self.take() && self.listener.stats().queued == stats.queued {}
            }
        }
    }

    /// The consumer takes every event, as soon as all written notifications are counted.
    pub(crate) async fn drain(&mut self) {
        while self.next < self.sent || self.take() {
            if !self.take() {
                self.turn().await;
            }
        }
        let stats = self.listener.stats();
        assert_eq!((stats.received, stats.lagged, stats.queued), (self.sent, self.lost, 0));
        assert_eq!(stats.delivered, self.sent - self.lost);
    }
}
