//! [`Guarded`]: the task of a listener or a hub, whose panics end it with an error.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::environment::Environment;
use super::task::ListenerTask;
use crate::error::contain;

/// A task whose panic becomes the error that the listener ends with. A panic can come from code of the user, such as a
/// waker or the cryptography of a [`Config`](crate::Config), or from a bug in this crate.
///
/// The task is dropped after the panic, and not while it unwinds: a second panic during the drop would then end the
/// process.
pub(super) struct Guarded<E: Environment>(pub(super) ListenerTask<E>);

impl<E: Environment> Future for Guarded<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut self.get_mut().0;
        let polled = contain(|| Pin::new(&mut *task).poll(cx));
        polled.unwrap_or_else(|panic| {
            task.panicked(&panic);
            Poll::Ready(())
        })
    }
}
