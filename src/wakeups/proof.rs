//! [`Proof`]: shows that a notification of another session arrives at the listening session.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::connection::Connection;
use crate::error::{Error, ErrorKind};
use crate::net;

/// The timeout for the notification to be sent and to arrive. A server needs milliseconds.
const ARRIVAL_TIMEOUT: Duration = Duration::from_secs(3);

/// The channel of the proof, and the payload that is expected on it.
#[derive(Debug)]
pub(super) struct Proof {
    channel: String,
    expected: Mutex<Option<Expected>>,
}

#[derive(Debug)]
struct Expected {
    payload: String,
    arrived: oneshot::Sender<()>,
}

impl Proof {
    pub(super) fn new() -> Result<Self, Error> {
        let channel = format!("pgbell_probe_{}", random_word()?);
        Ok(Self { channel, expected: Mutex::new(None) })
    }

    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    pub(super) fn is_on(&self, channel: &[u8]) -> bool {
        self.channel.as_bytes() == channel
    }

    /// Handles a notification on the channel.
    pub(super) fn arrived(&self, payload: &[u8]) {
        let mut expected = self.lock();
        if let Some(found) = expected.take_if(|one| one.payload.as_bytes() == payload) {
            let _ = found.arrived.send(());
        }
    }

    /// Sends a notification over another session, and waits until it has arrived at the listening one.
    pub(super) async fn run(&self, mut other: Connection) -> Result<(), Error> {
        let payload = random_word()?;
        let (arrived, wait) = oneshot::channel();
        *self.lock() = Some(Expected { payload: payload.clone(), arrived });
        let prove = async {
            other.notify(&self.channel, &payload).await?;
            // An error: another run has begun, so this one was cancelled.
            wait.await.map_err(|_| not_delivered("another one has begun"))
        };
        let proved = timeout(ARRIVAL_TIMEOUT, prove).await;
        other.close().await;
        proved.unwrap_or_else(|_| {
            Err(not_delivered("a notification of a second session did not arrive within 3 s"))
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn random_word() -> Result<String, Error> {
    Ok(format!("{:032x}", u128::from_le_bytes(net::random()?)))
}

#[cold]
fn not_delivered(what: &'static str) -> Error {
    Error::new(ErrorKind::Pooler, what).with_hint(
        "connect to the server directly, or through a pooler that keeps sessions (PgBouncer: pool_mode = session)",
    )
}
