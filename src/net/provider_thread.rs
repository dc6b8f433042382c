//! The separate thread in which a listener calls its password provider.
//!
//! A separate task is not enough for a provider that blocks its thread. In tokio one thread of the runtime polls the
//! sockets and timers, and another one takes over only when that thread is idle. A blocked thread can therefore stop the
//! whole runtime, although its other threads are idle.
// N152.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

use crate::config::Config;
use crate::error::{Error, ErrorKind};

/// The permission to start a thread, for one call at a time: a call whose attempt has ended may still run, and further
/// calls would each take one more thread.
struct ProviderThread(Arc<Mutex<()>>);

/// Returns the same configuration, whose password provider, if it has one, is called in a separate thread.
pub(crate) fn with_provider_thread(config: Config) -> Config {
    match config.has_password_provider() {
        true => config.attach(None, Arc::new(ProviderThread(Arc::default()))),
        false => config,
    }
}

/// Runs the provider: in a separate thread after [`with_provider_thread`], otherwise in the current task.
///
/// # Errors
/// [`ErrorKind::Other`] if the provider panics in the separate thread, [`ErrorKind::Connect`] if no thread can be started.
///
/// # Cancel safety
/// Dropping the future drops the provider's future at its next await.
pub(super) async fn call<T: Send + 'static>(
    config: &Config,
    provider: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let Some(thread) = config.attachment::<ProviderThread>() else { return Ok(provider.await) };
    let turn = thread.0.clone().lock_owned().await;
    let runtime = Handle::current();
    let (mut answer, answered) = oneshot::channel();
    let run = move || {
        // Held until the provider has ended, even if its caller no longer waits.
        let _turn = turn;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut provider = Box::pin(provider);
                poll_fn(|cx| match provider.as_mut().poll(cx) {
                    Poll::Ready(value) => Poll::Ready(Some(value)),
                    // Ends if the caller no longer waits.
                    Poll::Pending => answer.poll_closed(cx).map(|()| None),
                })
                .await
            })
        }));
        if let Some(asked) = asked.transpose() {
            let _ = answer.send(asked);
        }
    };
    thread::Builder::new().name("pgbell-password".to_owned()).spawn(run).map_err(|error| {
        let message = "no thread can be started for the password provider";
        Error::caused(ErrorKind::Connect, message, error)
    })?;
    let answered = answered.await.unwrap_or_else(|error| Err(Box::new(error)));
    answered.map_err(|payload| Error::panicked("the password provider", &*payload))
}
