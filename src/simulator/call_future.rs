//! [`CallFuture`]: the future of a call, as a handle makes it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::oneshot;

use super::consumer::FlagWaker;
use crate::error::{Error, ErrorKind};
use crate::listener::command_queue::{CommandQueue, HandleCall};
use crate::proto::supervisor::Command;

/// The end of a call, as the user finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallEnd {
    Done,
    Failed(ErrorKind),
    /// The sender of the answer was dropped.
    NoAnswer,
}

impl CallEnd {
    pub(super) fn of<T>(answer: Result<T, Error>) -> Self {
        answer.map_or_else(|error| Self::Failed(error.kind()), |_| Self::Done)
    }
}

/// The future of a call. It is polled at first, and then after it was woken.
pub(super) struct CallFuture {
    future: Pin<Box<dyn Future<Output = CallEnd>>>,
    waker: Arc<FlagWaker>,
}

impl CallFuture {
    pub(super) fn new(future: impl Future<Output = CallEnd> + 'static) -> Self {
        Self { future: Box::pin(future), waker: Arc::default() }
    }

    pub(super) fn poll(&mut self) -> Option<CallEnd> {
        let waker = Waker::from(self.waker.clone());
        match self.future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(end) => Some(end),
            Poll::Pending => None,
        }
    }

    /// Returns the end of the call, if its waker was woken.
    pub(super) fn end(&mut self) -> Option<CallEnd> {
        if self.waker.take() { self.poll() } else { None }
    }
}

/// The future of a command, as a handle has it.
pub(super) async fn send_command(queue: CommandQueue, command: Command) -> CallEnd {
    let (reply, answer) = oneshot::channel();
    match queue.send(HandleCall::Command(command, Some(reply))) {
        Ok(_waits) => answer.await.map_or(CallEnd::NoAnswer, CallEnd::of),
        Err(refusal) => CallEnd::Failed(refusal.kind()),
    }
}

pub(super) async fn send_channels(queue: CommandQueue) -> CallEnd {
    let (reply, answer) = oneshot::channel();
    match queue.send(HandleCall::Channels(reply)) {
        Ok(_waits) => answer.await.map_or(CallEnd::NoAnswer, |_| CallEnd::Done),
        Err(refusal) => CallEnd::Failed(refusal.kind()),
    }
}

pub(super) async fn send_drain(queue: CommandQueue, timeout: Duration) -> CallEnd {
    let (reply, answer) = oneshot::channel();
    match queue.drain(Command::Drain { timeout }, reply) {
        Ok(()) => answer.await.map_or(CallEnd::NoAnswer, CallEnd::of),
        Err(refusal) => CallEnd::Failed(refusal.kind()),
    }
}
