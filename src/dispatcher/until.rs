//! [`until`]: work that a signal ends.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

/// Returns the output of `work`, or `None` if `signal` completes before. The signal is polled first.
pub(super) async fn until<S, T>(
    signal: impl Future<Output = S>,
    work: impl Future<Output = T>,
) -> Option<T> {
    let (mut signal, mut work) = (pin!(signal), pin!(work));
    poll_fn(|cx| match signal.as_mut().poll(cx) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => work.as_mut().poll(cx).map(Some),
    })
    .await
}
