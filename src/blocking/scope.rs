//! [`ListenScope`]: listens to channels until it is dropped.

use std::time::Duration;

use super::iter::Iter;
use super::listener::try_recv;
use super::waiter::Waiter;
use crate::error::Error;
use crate::notification::{Batch, Event};
use crate::proto::supervisor::Listening;

/// A blocking [`Listener`](super::Listener) that also listens to the channels of a scope, until the scope is left. Made by
/// [`Listener::scope`](super::Listener::scope).
///
/// Each method does what that of [`pgbell::ListenScope`](crate::ListenScope) does, which says what is delivered when. A drop does not
/// block.
///
/// ```no_run
/// # fn example(mut listener: pgbell::blocking::Listener) -> Result<(), pgbell::Error> {
/// let mut scope = listener.scope(["orders"])?;
/// println!("{}", scope.recv()?);
/// scope.leave()?;
/// // The listener no longer listens to orders.
/// # Ok(())
/// # }
/// ```
#[must_use = "dropping it stops listening to its channels"]
#[derive(Debug)]
pub struct ListenScope<'a> {
    scope: crate::ListenScope<'a>,
    waiter: Waiter,
}

impl<'a> ListenScope<'a> {
    pub(super) fn new(scope: crate::ListenScope<'a>, waiter: Waiter) -> Self {
        Self { scope, waiter }
    }

    /// See [`channels`](crate::ListenScope::channels).
    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.scope.channels()
    }

    /// See [`listening`](crate::ListenScope::listening).
    #[must_use]
    pub fn listening(&self) -> Listening {
        self.scope.listening()
    }

    /// See [`Listener::recv`](super::Listener::recv).
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    pub fn recv(&mut self) -> Result<Event, Error> {
        self.waiter.wait(self.scope.recv())
    }

    /// See [`Listener::recv_timeout`](super::Listener::recv_timeout).
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    pub fn recv_timeout(&mut self, timeout: Duration) -> Result<Option<Event>, Error> {
        self.waiter.wait_timeout(timeout, self.scope.recv())
    }

    /// See [`Listener::try_recv`](super::Listener::try_recv).
    ///
    /// # Errors
    /// See there.
    pub fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        try_recv(self.scope.listener(), self.waiter)
    }

    /// See [`Listener::recv_batch`](super::Listener::recv_batch).
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    pub fn recv_batch(&mut self) -> Result<Batch<'_>, Error> {
        self.waiter.wait(self.scope.recv_batch())
    }

    /// See [`Listener::recv_batch_max`](super::Listener::recv_batch_max).
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    pub fn recv_batch_max(&mut self, max: usize) -> Result<Batch<'_>, Error> {
        self.waiter.wait(self.scope.recv_batch_max(max))
    }

    /// See [`Listener::recv_batch_timeout`](super::Listener::recv_batch_timeout).
    ///
    /// Blocks as it does.
    ///
    /// # Errors
    /// See there.
    pub fn recv_batch_timeout(&mut self, timeout: Duration) -> Result<Option<Batch<'_>>, Error> {
        self.waiter.wait_timeout(timeout, self.scope.recv_batch())
    }

    /// See [`Listener::iter`](super::Listener::iter). Each call of `next` blocks until there is an event.
    pub fn iter(&mut self) -> Iter<'_> {
        Iter::new(self.scope.listener(), self.waiter)
    }

    /// Stops listening to the channels of the scope. See [`leave`](crate::ListenScope::leave).
    ///
    /// Blocks until the server has answered.
    ///
    /// # Errors
    /// See there. Where it [cannot wait](crate::blocking#where-a-call-cannot-wait), the scope is left as by a drop.
    pub fn leave(self) -> Result<(), Error> {
        self.waiter.wait(self.scope.leave())
    }

    #[cfg(feature = "json")]
    pub(super) fn parts(&mut self) -> (&mut crate::Listener, Waiter) {
        (self.scope.listener(), self.waiter)
    }
}

impl<'a> IntoIterator for &'a mut ListenScope<'_> {
    type Item = Result<Event, Error>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}
