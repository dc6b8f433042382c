//! The separate thread in which a listener calls its password provider.
//!
//! A separate task is not enough for a provider that blocks its thread. In tokio one thread of the runtime polls the
//! sockets and timers, and another one takes over only when that thread is idle. A blocked thread can therefore stop the
//! whole runtime, although its other threads are idle.
// N152.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMutexGuard, oneshot};

use crate::config::{Config, PasswordProvider};
use crate::error::{Error, ErrorKind, Panic, contain};

/// Returns the same configuration, whose password provider, if it has one, is called in a separate thread.
///
/// One call runs at a time: a call whose attempt has ended may still run, and further calls would each take one more
/// thread.
pub(crate) fn with_provider_thread(config: Config) -> Config {
    let Some(provider) = config.get_password_provider().cloned() else { return config };
    let turns = Arc::new(Mutex::new(()));
    config.with_password_provider(PasswordProvider::new(move |request| {
        let (turns, provider) = (turns.clone(), provider.clone());
        async move {
            let turn = turns.lock_owned().await;
            // Already the call of the function may block or panic, not only its future.
            in_thread(turn, async move { provider.call(request).await }).await?
        }
    }))
}

/// Runs the provider in a separate thread, which holds `turn` until the provider has ended.
///
/// # Errors
/// [`ErrorKind::Other`] if the provider panics, [`ErrorKind::Connect`] if no thread can be started.
///
/// # Cancel safety
/// Dropping the future drops the provider's future at its next await.
async fn in_thread<T: Send + 'static>(
    turn: OwnedMutexGuard<()>,
    provider: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let runtime = Handle::current();
    let (mut answer, answered) = oneshot::channel();
    let run = move || {
        // Held until the provider has ended, even if its caller no longer waits.
        let _turn = turn;
        let asked = contain(|| {
            runtime.block_on(async {
                let mut provider = Box::pin(provider);
                poll_fn(|cx| match provider.as_mut().poll(cx) {
                    Poll::Ready(value) => Poll::Ready(Some(value)),
                    // Ends if the caller no longer waits.
                    Poll::Pending => answer.poll_closed(cx).map(|()| None),
                })
                .await
            })
        });
        if let Some(asked) = asked.transpose() {
            let _ = answer.send(asked);
        }
    };
    thread::Builder::new().name("pgbell-password".to_owned()).spawn(run).map_err(|error| {
        let message = "no thread can be started for the password provider";
        Error::caused(ErrorKind::Connect, message, error)
    })?;
    let answered = answered.await.unwrap_or_else(|error| Err(Panic::new(Box::new(error))));
    answered.map_err(|panic| Error::panicked("the password provider", &panic))
}
