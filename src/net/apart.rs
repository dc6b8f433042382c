//! A password provider of a listener, asked in a thread of its own.
//!
//! A task of its own is not enough for one that blocks its thread: tokio hands the sockets and timers of a runtime from
//! one of its threads to another only when that thread has nothing to do, and so a runtime may stand still though other
//! threads of it are idle. N152.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::{Mutex, oneshot};

use crate::{Config, Error, ErrorKind};

/// One call at a time: one that was given up may run on, and if the next one began meanwhile, each might keep a thread
/// more.
struct Apart(Arc<Mutex<()>>);

/// The same configuration, whose password provider, if it has one, is asked in a thread of its own.
pub(crate) fn ask_apart(config: Config) -> Config {
    match config.has_password_provider() {
        true => config.attach(None, Arc::new(Apart(Arc::default()))),
        false => config,
    }
}

/// Waits for what the provider answers: in a thread of its own if `config` says so, else here.
///
/// # Errors
/// [`ErrorKind::Other`] when the provider has panicked in a thread of its own, [`ErrorKind::Connect`] when there is no
/// thread to be had.
///
/// # Cancel safety
/// Dropping it drops the provider's future at its next await.
pub(super) async fn ask<T: Send + 'static>(
    config: &Config,
    provider: impl Future<Output = T> + Send + 'static,
) -> Result<T, Error> {
    let Some(apart) = config.attachment::<Apart>() else { return Ok(provider.await) };
    let turn = apart.0.clone().lock_owned().await;
    let runtime = Handle::current();
    let (mut answer, answered) = oneshot::channel();
    let call = move || {
        // Until the provider has ended, whoever waits for it.
        let _turn = turn;
        let asked = catch_unwind(AssertUnwindSafe(|| {
            runtime.block_on(async {
                let mut provider = Box::pin(provider);
                poll_fn(|cx| match provider.as_mut().poll(cx) {
                    Poll::Ready(value) => Poll::Ready(Some(value)),
                    // Nobody waits any more.
                    Poll::Pending => answer.poll_closed(cx).map(|()| None),
                })
                .await
            })
        }));
        if let Some(asked) = asked.transpose() {
            let _ = answer.send(asked);
        }
    };
    thread::Builder::new().name("pgbell-password".to_owned()).spawn(call).map_err(|error| {
        let message = "there is no thread for the password provider";
        Error::caused(ErrorKind::Connect, message, error)
    })?;
    let answered = answered.await.unwrap_or_else(|error| Err(Box::new(error)));
    answered.map_err(|payload| Error::panicked("the password provider", &*payload))
}
