//! A listener as a stream of events.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_core::{FusedStream, Stream};

use super::Listener;
use crate::Error;
use crate::notification::Event;

impl Stream for Listener {
    type Item = Result<Event, Error>;

    /// Ends after the cause of the end, or at once after a close that was asked for.
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let listener = self.get_mut();
        let was_told = listener.told;
        Poll::Ready(match ready!(listener.poll_recv(cx)) {
            // Not by its kind: the cause may be of any kind, `Closed` too.
            Err(_) if listener.told == was_told => {
                listener.is_terminated = true;
                None
            }
            item => Some(item),
        })
    }
}

impl FusedStream for Listener {
    /// Returns true once the stream has returned `None`. It does so again each time it is polled.
    fn is_terminated(&self) -> bool {
        self.is_terminated
    }
}
