//! The task of a listener, and what becomes of a panic in it.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use super::outside::Outside;
use super::task::Task;
use crate::Error;

/// A task that may panic: in code of the user, such as a waker or the cryptography of a [`Config`](crate::Config), or
/// by a mistake in this crate. The panic is the cause of the listener's end.
///
/// The task is dropped afterwards and not while the panic unwinds: a second panic in something that is dropped would
/// end the whole process.
pub(super) struct Guarded<O: Outside>(pub(super) Task<O>);

impl<O: Outside> Future for Guarded<O> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = &mut self.get_mut().0;
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *task).poll(cx)));
        polled.unwrap_or_else(|payload| {
            task.give_up(Error::panicked("the task of the listener", &*payload));
            Poll::Ready(())
        })
    }
}
