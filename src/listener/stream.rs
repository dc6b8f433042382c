//! A listener as a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use super::Listener;
use crate::notification::Event;
use crate::{Error, ErrorKind};

impl Stream for Listener {
    type Item = Result<Event, Error>;

    /// Ends after the cause of the end, or at once after a close that was asked for.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.get_mut().poll_recv(cx)) {
            Err(error) if error.kind() == ErrorKind::Closed => None,
            item => Some(item),
        })
    }
}
