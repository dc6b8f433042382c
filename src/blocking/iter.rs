//! [`Iter`] and [`IntoIter`]: the events of a listener, each of which is waited for.

use std::fmt;
use std::future::poll_fn;
use std::iter::FusedIterator;

use super::listener::Listener;
use super::waiter::Waiter;
use crate::error::Error;
use crate::notification::Event;

type Item = Result<Event, Error>;

/// Where an iterator cannot wait, it returns the error once, and ends: a loop that ignores errors would never end.
#[derive(Debug, Default)]
struct Refused(bool);

impl Refused {
    #[inline]
    fn next(&mut self, listener: &mut crate::Listener, waiter: Waiter) -> Option<Item> {
        if let Some(notification) = listener.receiver().next_short() {
            return Some(Ok(Event::Notification(notification)));
        }
        self.wait(listener, waiter)
    }

    /// Waits for the next event, as that of a stream.
    #[inline(never)]
    fn wait(&mut self, listener: &mut crate::Listener, waiter: Waiter) -> Option<Item> {
        if self.0 {
            return None;
        }
        match waiter.wait(poll_fn(|cx| listener.receiver().poll_next(cx).map(Ok))) {
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
///
/// ```no_run
/// # fn example(mut listener: pgbell::blocking::Listener) -> Result<(), pgbell::Error> {
/// for event in listener.iter().take(10) {
///     println!("{}", event?);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Iter<'a> {
    listener: &'a mut crate::Listener,
    waiter: Waiter,
    refused: Refused,
}

impl<'a> Iter<'a> {
    pub(super) fn new(listener: &'a mut crate::Listener, waiter: Waiter) -> Self {
        Self { listener, waiter, refused: Refused::default() }
    }
}

impl Iterator for Iter<'_> {
    type Item = Item;

    #[inline]
    fn next(&mut self) -> Option<Item> {
        self.refused.next(self.listener, self.waiter)
    }
}

impl FusedIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").finish_non_exhaustive()
    }
}

/// The events of a [`Listener`] that it owns. Made by its `into_iter`. See [`Iter`].
///
/// ```no_run
/// # fn example(listener: pgbell::blocking::Listener) -> Result<(), pgbell::Error> {
/// for event in listener {
///     println!("{}", event?);
/// }
/// # Ok(())
/// # }
/// ```
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

    #[inline]
    fn next(&mut self) -> Option<Item> {
        let (listener, waiter) = self.listener.parts();
        self.refused.next(listener, waiter)
    }
}

impl FusedIterator for IntoIter {}
