//! [`Receiver`]: the receiving half of a listener or a subscription, from the queue to the events and batches that the user
//! receives.

use std::fmt;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use tokio::task::coop;

use super::chunk::Chunk;
use super::current::CurrentRun;
use super::end::End;
use super::source::Source;
use crate::error::Error;
use crate::notification::{Batch, Event, Gap, Lagged, Loss, Notification, ReceiveInfo};
use crate::proto::ring::Taken;

/// The consuming end of a queue, with the run that is being delivered, the losses between runs, and the counters of what was
/// delivered. It returns the cause of the end once.
pub(crate) struct Receiver<S> {
    source: S,
    current: CurrentRun,
    /// The loss of the last batch.
    loss: Option<Loss>,
    /// What batches return that contain only a loss.
    info: ReceiveInfo,
    /// The result of `poll_other`, until the same call of the user returns it.
    other: Poll<Result<Event, Error>>,
    end: Arc<End>,
    /// The cause of the end was returned.
    is_cause_returned: bool,
    /// The stream has returned `None`.
    is_terminated: bool,
}

impl<S: Source> Receiver<S> {
    /// Creates the receiver of a queue, which delivers from `current`.
    pub(crate) fn new(source: S, current: CurrentRun, end: Arc<End>) -> Self {
        Self {
            source,
            current,
            loss: None,
            info: ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 },
            other: Poll::Pending,
            end,
            is_cause_returned: false,
            is_terminated: false,
        }
    }

    /// See [`Listener::poll_recv`](crate::Listener::poll_recv).
    #[inline(always)]
    pub(crate) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        // Only the usual case is inlined into the caller, and returns where it makes the event: each further move of the event would
        // cost measurable time.
        if let Some(notification) = self.next_short() {
            return Poll::Ready(Ok(Event::Notification(notification)));
        }
        self.prepare_other(cx);
        self.take_other()
    }

    /// Returns the next notification of the current run in the usual case. Otherwise the next event is that of
    /// [`prepare_other`](Self::prepare_other).
    #[inline(always)]
    pub(crate) fn next_short(&mut self) -> Option<Notification> {
        let notification = self.current.next_short()?;
        self.source.count_delivered(1);
        Some(notification)
    }

    /// Returns what `prepare_other` has stored.
    #[inline(always)]
    pub(crate) fn take_other(&mut self) -> Poll<Result<Event, Error>> {
        mem::replace(&mut self.other, Poll::Pending)
    }

    /// Stores the result of [`poll_other`](Self::poll_other) in `other`. If it were returned, the compiler would keep each event of
    /// `poll_recv` in memory, and not in registers.
    #[inline(never)]
    fn prepare_other(&mut self, cx: &mut Context<'_>) {
        self.other = self.poll_other(cx);
    }

    /// Does the same, and returns whether there is a result.
    #[cfg(feature = "blocking")]
    pub(crate) fn poll_prepared(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.prepare_other(cx);
        if self.other.is_ready() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// Stores an error for [`take_other`](Self::take_other).
    #[cfg(feature = "blocking")]
    pub(crate) fn set_other(&mut self, error: Error) {
        self.other = Poll::Ready(Err(error));
    }

    /// Handles everything except the usual case: waits for a notification that needs an allocation or is at the end of its run, for the
    /// next run, or for a loss.
    fn poll_other(&mut self, cx: &mut Context<'_>) -> Poll<Result<Event, Error>> {
        loop {
            if let Some(notification) = self.next_in_run() {
                return Poll::Ready(Ok(Event::Notification(notification)));
            }
            // A loss of the last batch was delivered with that batch.
            self.loss = None;
            self.current.clear();
            let taken = ready!(self.poll_take(cx));
            self.take(taken)?;
            if let Some(loss) = self.loss.take() {
                return Poll::Ready(Ok(loss.into()));
            }
        }
    }

    /// See [`Listener::try_recv`](crate::Listener::try_recv).
    pub(crate) fn try_recv(&mut self) -> Result<Option<Event>, Error> {
        self.loss = None;
        loop {
            if let Some(notification) = self.next_in_run() {
                return Ok(Some(Event::Notification(notification)));
            }
            self.current.clear();
            if let Some(loss) = self.loss.take() {
                return Ok(Some(loss.into()));
            }
            match self.source.try_take() {
                Taken::Empty => return Ok(None),
                taken => self.take(taken)?,
            }
        }
    }

    /// Polls for the next event, as a stream. See [`Listener`](crate::Listener).
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Event, Error>>> {
        let was_returned = self.is_cause_returned;
        Poll::Ready(match ready!(self.poll_recv(cx)) {
            Ok(event) => Some(Ok(event)),
            Err(error) => self.end_of_stream(error, was_returned).map(Err),
        })
    }

    /// Returns the next event of the stream, if one is queued.
    ///
    /// # Errors
    /// The end of the stream: with the cause, once, and `None` from then on, and after a close.
    pub(crate) fn try_next(&mut self) -> Result<Option<Event>, Option<Error>> {
        let was_returned = self.is_cause_returned;
        self.try_recv().map_err(|error| self.end_of_stream(error, was_returned))
    }

    /// Returns the error, if it is the cause of the end. Otherwise it says that the stream has ended. The kind of the error does not
    /// decide: the cause may be of any kind, `Closed` too.
    fn end_of_stream(&mut self, error: Error, was_returned: bool) -> Option<Error> {
        let is_cause = self.is_cause_returned != was_returned;
        self.is_terminated |= !is_cause;
        is_cause.then_some(error)
    }

    /// Returns true once the stream has returned `None`.
    pub(crate) fn is_terminated(&self) -> bool {
        self.is_terminated
    }

    /// Waits until there is a notification or a loss for [`batch`](Self::batch), which must follow. The loss of the last batch is
    /// dropped.
    pub(crate) fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.loss = None;
        loop {
            if !self.current.is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.current.clear();
            if self.loss.is_some() {
                return Poll::Ready(Ok(()));
            }
            let taken = ready!(self.poll_take(cx));
            self.take(taken)?;
        }
    }

    /// Returns the loss, or at most `max` notifications of the current run. See
    /// [`Listener::recv_batch_max`](crate::Listener::recv_batch_max).
    pub(crate) fn batch(&mut self, max: usize) -> Batch<'_> {
        if let Some(loss) = &self.loss {
            return Batch::new(&[], 0, self.source.sequence(), &self.info).after(loss);
        }
        let batch = self.current.batch(max);
        self.source.count_delivered(batch.len() as u64);
        batch
    }

    /// Waits for the next element of the queue. It takes part in the cooperative scheduling of tokio: a queue that is never
    /// empty must not block the timers and the other futures of the caller's task.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Taken<Chunk, Gap>> {
        let turn = ready!(coop::poll_proceed(cx));
        let taken = ready!(self.source.poll_take(cx));
        turn.made_progress();
        Poll::Ready(taken)
    }

    /// Handles an element of the queue.
    fn take(&mut self, taken: Taken<Chunk, Gap>) -> Result<(), Error> {
        match taken {
            Taken::Item { value: chunk, first, skip } => self.current.replace(chunk, first, skip),
            Taken::Lost { first, count } => {
                self.loss = Some(Loss::Lagged(Lagged { first_sequence: first, count }));
            }
            Taken::Mark(gap) => self.loss = Some(Loss::Gap(gap)),
            Taken::Empty => {}
            Taken::Closed => return Err(self.ended()),
        }
        Ok(())
    }

    /// Returns the cause of the end, once, and then the error of a call after the end.
    fn ended(&mut self) -> Error {
        match self.end.cause() {
            Some(cause) if !self.is_cause_returned => {
                self.is_cause_returned = true;
                cause.clone()
            }
            _ => self.end.closed(),
        }
    }

    /// Returns the next notification of the current run, if there is one.
    fn next_in_run(&mut self) -> Option<Notification> {
        let notification = self.current.next_copied()?;
        self.source.count_delivered(1);
        Some(notification)
    }
}

impl<S: fmt::Debug> fmt::Debug for Receiver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("source", &self.source).finish_non_exhaustive()
    }
}
