//! [`Iter`] and [`IntoIter`]: the events of a listener, each of which is waited for.

use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;
use std::pin::Pin;

use futures_core::Stream;

use super::listener::Listener;
use super::waiter::Waiter;
use crate::error::Error;
use crate::notification::Event;

type Item = Result<Event, Error>;

/// A listener or a scope.
type Events<'a> = dyn Stream<Item = Item> + Send + Unpin + 'a;

/// Where an iterator cannot wait, it returns the error once, and ends: a loop that ignores errors would never end.
#[derive(Debug, Default)]
struct Refused(bool);

impl Refused {
    /// Waits for the next event of a stream.
    fn next(&mut self, events: &mut Events<'_>, waiter: Waiter) -> Option<Item> {
        if self.0 {
            return None;
        }
        match waiter.wait(poll_fn(|cx| Pin::new(&mut *events).poll_next(cx).map(Ok))) {
            Ok(item) => item,
            Err(refusal) => {
                self.0 = true;
                Some(Err(refusal))
            }
        }
    }
}

/// The events of a [`Listener`], or of a scope. Made by [`Listener::iter`].
///
/// Each call of `next` blocks until there is an event. It returns `None` after the error that the listener ended with, or at once after a
/// close.
pub struct Iter<'a> {
    events: &'a mut Events<'a>,
    waiter: Waiter,
    refused: Refused,
}

impl<'a> Iter<'a> {
    pub(super) fn new(
        events: &'a mut (impl Stream<Item = Item> + Send + Unpin),
        waiter: Waiter,
    ) -> Self {
        Self { events, waiter, refused: Refused::default() }
    }
}

impl Iterator for Iter<'_> {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        self.refused.next(self.events, self.waiter)
    }
}

impl FusedIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

/// The events of a [`Listener`] that it owns. Made by its `into_iter`. See [`Iter`].
#[derive(Debug)]
pub struct IntoIter {
    listener: Listener,
    refused: Refused,
}

impl IntoIter {
    pub(super) fn new(listener: Listener) -> Self {
        Self { listener, refused: Refused::default() }
    }
}

impl Iterator for IntoIter {
    type Item = Item;

    fn next(&mut self) -> Option<Item> {
        let (events, waiter) = self.listener.parts();
        self.refused.next(events, waiter)
    }
}

impl FusedIterator for IntoIter {}
