//! The attempts of `Listen::Automatic` to begin listening, until one succeeds.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::sleep;

use super::proof::Proof;
use super::shared::{ListeningSession, WakeupsShared};
use super::sink::WakeupsSink;
use super::telemetry;
use crate::error::{Error, ErrorKind};
use crate::listener::shared::ListenerShared;
use crate::listener::{ListenerBuilder, RunningTask};
use crate::net;
use crate::proto::ring::Pins;
use crate::proto::supervisor::{Attempts, Owner, Reconnect};

type ResultSender = oneshot::Sender<Result<(), Error>>;

/// Sends the result of the first attempt, once. An error means that the settings are not valid, and that no other attempt follows.
#[derive(Debug, Clone)]
pub(super) struct FirstResult(Arc<Mutex<Option<ResultSender>>>);

impl FirstResult {
    pub(super) fn new(sender: ResultSender) -> Self {
        Self(Arc::new(Mutex::new(Some(sender))))
    }

    /// Returns whether it was the first result.
    fn send(&self, result: Result<(), Error>) -> bool {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        sender.is_some_and(|sender| sender.send(result).is_ok())
    }

    fn is_sent(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }
}

/// Opens a listening session. With `proof`, that has succeeded too.
pub(super) async fn start(
    listener: ListenerBuilder,
    shared: Arc<WakeupsShared>,
    proof: Option<Arc<Proof>>,
) -> Result<RunningTask, Error> {
    let prepared = listener.prepare().await?;
    let listener = Arc::new(ListenerShared::new(Owner::Wakeups, Pins::new(0)));
    let sink = WakeupsSink::new(shared, listener.clone(), proof);
    prepared.start(sink, listener).await
}

/// Repeats attempts to begin listening until one succeeds.
pub(super) async fn begin_listening(
    listener: ListenerBuilder,
    shared: Arc<WakeupsShared>,
    proof: Arc<Proof>,
    (min, max): (Duration, Duration),
    first: FirstResult,
) -> Result<(), Error> {
    let seed = u64::from_ne_bytes(net::random()?);
    let reconnect = Reconnect { min, max, retry_refusals: true };
    let mut attempts = Attempts::new(Duration::MAX, Some(reconnect), seed);
    loop {
        attempts.begin(net::now());
        match start(listener.clone(), shared.clone(), Some(proof.clone())).await {
            Ok(running) => {
                shared.set_session(ListeningSession::Running(running));
                telemetry::listening();
                // What was committed before the LISTEN, and after the last poll.
                shared.poll_now();
                first.send(Ok(()));
                return Ok(());
            }
            Err(error) if !first.is_sent() && is_setting(&error) => {
                first.send(Err(error.clone()));
                return Err(error);
            }
            Err(error) => {
                let Some(delay) = attempts.wait(net::now()) else { return Err(error) };
                telemetry::polling(&error, delay);
                shared.attempt_failed(error);
                first.send(Ok(()));
                sleep(delay).await;
            }
        }
    }
}

/// Returns whether a setting is not valid, so that no later attempt can succeed.
fn is_setting(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Config | ErrorKind::Misuse) && !error.is_transient()
}
