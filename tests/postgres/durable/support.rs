//! A server with a log.

use std::time::Duration;

use pgbell::Connection;
use pgbell::durable::{Batch, Cursor, CursorBuilder, Outbox, OutboxSettings, PayloadType, Receipt};
use tokio::time::timeout;

use crate::support::{Server, TEST_TIMEOUT};

/// A server with the log `public.outbox`, whose payloads are text.
pub(crate) struct Log {
    pub(crate) server: Server,
    pub(crate) outbox: Outbox,
}

impl Log {
    pub(crate) async fn new(server: Server) -> Self {
        Self::with(server, &text()).await
    }

    pub(crate) async fn with(server: Server, settings: &OutboxSettings) -> Self {
        let outbox = Outbox::new(server.url(), "outbox").unwrap();
        outbox.init(settings).await.unwrap();
        Self { server, outbox }
    }

    /// A session of the superuser.
    pub(crate) async fn session(&self) -> Connection {
        self.server.connection().await
    }

    /// The settings of a cursor that polls so seldom that only a notification wakes it in time.
    pub(crate) fn cursor(&self, name: &str) -> CursorBuilder {
        self.outbox.cursor(name).interval(Duration::from_secs(600))
    }

    pub(crate) async fn open(&self, name: &str) -> Cursor {
        self.cursor(name).open().await.unwrap()
    }
}

pub(crate) fn text() -> OutboxSettings {
    OutboxSettings::new().payload(PayloadType::Text)
}

/// Writes a record.
pub(crate) async fn add(session: &mut Connection, key: &str, payload: &str) {
    let sql = "INSERT INTO outbox (key, payload) VALUES ($1, $2)";
    session.query(sql, &[Some(key), Some(payload)]).await.unwrap();
}

/// Runs statements.
pub(crate) async fn sql(session: &mut Connection, text: &str) {
    session.simple_query(text).await.unwrap();
}

pub(crate) fn payloads(batch: &Batch<'_>) -> Vec<String> {
    batch.iter().map(|record| record.payload().to_owned()).collect()
}

/// Receives a batch, and acknowledges it. Returns the payloads.
pub(crate) async fn take(cursor: &mut Cursor) -> Vec<String> {
    let batch = timeout(TEST_TIMEOUT, cursor.next()).await.expect("nothing arrives").unwrap();
    let found = payloads(&batch);
    batch.ack().await.unwrap();
    found
}

/// Receives a batch, and does not acknowledge it. Returns the payloads and the receipt.
pub(crate) async fn look(cursor: &mut Cursor) -> (Vec<String>, Receipt) {
    let batch = timeout(TEST_TIMEOUT, cursor.next()).await.expect("nothing arrives").unwrap();
    (payloads(&batch), batch.receipt())
}

/// Receives and acknowledges what is there.
pub(crate) async fn drain(cursor: &mut Cursor) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(batch) = cursor.try_next().await.unwrap() {
        found.extend(payloads(&batch));
        batch.ack().await.unwrap();
    }
    found
}

/// Asserts that no record can be received at the moment.
pub(crate) async fn nothing(cursor: &mut Cursor) {
    if let Some(batch) = cursor.try_next().await.unwrap() {
        panic!("expected nothing, found {:?}", payloads(&batch));
    }
}
