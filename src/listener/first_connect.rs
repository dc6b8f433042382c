//! Attempts to connect for the first time, until one succeeds or the time limit has passed.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::net;
use crate::proto::supervisor::{Attempts, Reconnect};

/// An attempt to connect for the first time.
pub(crate) type ConnectFuture<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

type Call = dyn Fn(&Error, Duration) + Send + Sync;

/// The function that is called between two attempts.
#[derive(Clone)]
pub(super) struct Retrying(Arc<Call>);

impl Retrying {
    pub(super) fn new(call: impl Fn(&Error, Duration) + Send + Sync + 'static) -> Self {
        Self(Arc::new(call))
    }
}

impl fmt::Debug for Retrying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Retrying")
    }
}

/// Connects, with more attempts for as long as `limit` where the error allows it.
pub(super) async fn connect<T>(
    attempt: impl Fn() -> ConnectFuture<T>,
    limit: Duration,
    reconnect: Reconnect,
    retrying: Option<Retrying>,
) -> Result<T, Error> {
    let begin = tokio::time::Instant::now();
    let seed = u64::from_ne_bytes(net::random()?);
    let mut attempts = Attempts::new(limit, Some(reconnect), seed);
    loop {
        attempts.begin(net::now());
        let error = match attempt().await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        let left = limit.saturating_sub(begin.elapsed());
        if left.is_zero() || !may_succeed_later(&error, reconnect.retry_refusals) {
            return Err(error);
        }
        let Some(delay) = attempts.wait(net::now()) else { return Err(error) };
        let delay = delay.min(left);
        if let Some(Retrying(call)) = &retrying {
            call(&error, delay);
        }
        tokio::time::sleep(delay).await;
    }
}

fn may_succeed_later(error: &Error, retry_refusals: bool) -> bool {
    let is_refusal = matches!(error.kind(), ErrorKind::Auth | ErrorKind::Unsupported)
        || error.sqlstate().is_some_and(|code| code.starts_with("3D"));
    error.is_transient() || (retry_refusals && is_refusal)
}
