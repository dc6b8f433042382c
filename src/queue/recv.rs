//! [`Recv`]: the future of `recv` of a listener or a subscription.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::receiver::Receiver;
use super::source::Source;
use crate::error::Error;
use crate::notification::Event;

/// Waits for the next event. An `async fn` would move the event once more.
pub(crate) struct Recv<'a, S>(pub(crate) &'a mut Receiver<S>);

impl<S: Source> Future for Recv<'_, S> {
    type Output = Result<Event, Error>;

    #[inline(always)]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.get_mut().0.poll_recv(cx)
    }
}
