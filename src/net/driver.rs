//! The driver: it carries bytes and time between a socket and a session, which decides.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, SystemTime};

use bytes::{Buf, BytesMut};
use tokio::task::yield_now;

use super::{Pipe, ReadWait, Timer, now};
use crate::error::{Error, ErrorKind};
use crate::proto::session::{
    Answer, CommandId, Progress, ReadDelay, STARTUP_BYTES_MAX, Session, SessionEvent,
};
use crate::proto::wire::{self, RawNotification, Run, buffer};

/// The smallest spare capacity for a read, in bytes: two writes of the server.
const READ_BYTES_MIN: usize = 16 * 1024;

/// The size of the receive buffer while no message is longer, in bytes.
const INPUT_BYTES: usize = 4 * READ_BYTES_MIN;

/// The timeout for the server to close the connection after Terminate.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The largest answer to a query of this crate, in bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The largest size of notifications that arrive while a session is set up, in bytes: the same as that of a startup.
const EARLY_BYTES_MAX: usize = STARTUP_BYTES_MAX;

/// An event that the user of the driver handles.
#[derive(Debug)]
pub(crate) enum DriverEvent {
    /// A run of notifications is at the front of the receive buffer.
    Run(Run),
    /// An event of the session.
    Event(SessionEvent),
    /// Notifications arrived on the private channel. They are no longer in the receive buffer.
    Private,
}

/// Receives the notifications that arrive while a command runs.
pub(crate) trait NotificationSink {
    /// Takes a run of notifications from the front of the driver's receive buffer.
    fn take(&mut self, driver: &mut Driver, run: Run);

    /// Records that the server has dropped a notification.
    fn miss(&mut self, driver: &Driver, cause: Error);
}

/// The sink while this client has no LISTEN. Behind a pooler, another client may have executed LISTEN before in the same
/// server session. Its notifications are kept: after the setup they would be delivered too.
pub(super) struct NotListening;

impl NotificationSink for NotListening {
    fn take(&mut self, driver: &mut Driver, run: Run) {
        if driver.early.len().saturating_add(run.bytes) > EARLY_BYTES_MAX {
            let message = "more than 1 MiB of notifications came before the session was set up";
            driver.session.fail(Error::new(ErrorKind::Protocol, message));
            return driver.input.advance(run.bytes);
        }
        driver.early.extend_from_slice(driver.input.get(..run.bytes).unwrap_or_default());
        driver.input.advance(run.bytes);
    }

    fn miss(&mut self, _driver: &Driver, _cause: Error) {}
}

/// A session and its socket.
#[derive(Debug)]
pub(crate) struct Driver {
    pub(crate) session: Session,
    pub(crate) input: BytesMut,
    /// The size that the receive buffer returns to after a longer message, in bytes.
    input_bytes: usize,
    /// When the last bytes were read.
    pub(crate) received_at: SystemTime,
    /// The channel of the delivery proof. Its notifications are not delivered to the user.
    pub(super) private: Option<String>,
    /// Notifications that arrived while the session was set up.
    // N165.
    early: BytesMut,
    pipe: Pipe,
    timer: Timer,
    /// Decides whether a read waits. By default none does.
    read_delay: ReadDelay,
    delay_timer: Timer,
    /// The number of reads that have waited.
    pub(crate) reads_delayed: u64,
}

impl Driver {
    pub(super) fn new(session: Session, pipe: Pipe) -> Self {
        Self {
            session,
            input: BytesMut::new(),
            input_bytes: INPUT_BYTES,
            received_at: SystemTime::UNIX_EPOCH,
            private: None,
            early: BytesMut::new(),
            pipe,
            timer: Timer::default(),
            read_delay: ReadDelay::new(Duration::ZERO),
            delay_timer: Timer::default(),
            reads_delayed: 0,
        }
    }

    /// Sets the size of the receive buffer, in bytes.
    pub(crate) fn set_input_bytes(&mut self, bytes: usize) {
        let mut input = BytesMut::with_capacity(bytes);
        input.extend_from_slice(&self.input);
        (self.input, self.input_bytes) = (input, bytes);
    }

    /// Sets the longest delay of a read while data arrives densely.
    pub(crate) fn set_read_delay(&mut self, limit: Duration) {
        self.read_delay = ReadDelay::new(limit);
    }

    /// Drives the session until the server has accepted the login and is ready.
    pub(super) async fn log_in(&mut self) -> Result<(), Error> {
        loop {
            match self.step().await? {
                DriverEvent::Event(SessionEvent::Ready) => {
                    self.pipe.end_login();
                    return Ok(());
                }
                step => self.pass_on(step, &mut NotListening),
            }
        }
    }

    /// Runs one statement that returns at most one row, before the first LISTEN of the user.
    pub(super) async fn query(&mut self, sql: &str) -> Answer {
        let id = self.session.simple_query(now(), sql)?;
        self.session.limit_answer(id, ANSWER_BYTES_MAX);
        self.session.limit_rows(id, 1);
        let answer = self.answer(id, &mut NotListening).await;
        answer.map_err(|error| self.cause(error))
    }

    /// Returns the error of a command that changes nothing. If the session has ended, it is the error that ended it, and not
    /// that the command is in doubt.
    pub(super) fn cause(&mut self, error: Error) -> Error {
        if self.session.is_ready() { error } else { self.session.fail(error) }
    }

    /// Waits for the answer to a command. Notifications that arrive meanwhile go to `sink`.
    pub(super) async fn answer(
        &mut self,
        awaited: CommandId,
        sink: &mut impl NotificationSink,
    ) -> Answer {
        loop {
            match self.step().await? {
                DriverEvent::Event(SessionEvent::Done { id, result, .. }) if id == awaited => {
                    return result;
                }
                step => self.pass_on(step, sink),
            }
        }
    }

    /// Passes notifications to `sink`, and ignores other events.
    pub(super) fn pass_on(&mut self, step: DriverEvent, sink: &mut impl NotificationSink) {
        match step {
            DriverEvent::Run(run) => sink.take(self, run),
            DriverEvent::Event(SessionEvent::NotificationDropped(cause)) => sink.miss(self, cause),
            // The answer to a command whose future was dropped.
            DriverEvent::Event(SessionEvent::Ready | SessionEvent::Done { .. })
            | DriverEvent::Private => {}
        }
    }

    /// Returns the event for a run at the front of the receive buffer. Private notifications are removed from the run.
    fn remove_private(&mut self, run: Run) -> DriverEvent {
        let Some(private) = &self.private else { return DriverEvent::Run(run) };
        let is_private = |one: RawNotification<'_>| one.channel == private.as_bytes();
        let frames = self.input.get(..run.bytes).unwrap_or_default();
        if !wire::frames(frames).any(is_private) {
            return DriverEvent::Run(run);
        }
        // The next step finds the rest of the run.
        let _ = wire::extract(&mut self.input, run, is_private);
        DriverEvent::Private
    }

    /// Returns the number of bytes that the socket has accepted.
    pub(crate) fn written(&self) -> u64 {
        self.pipe.written()
    }

    /// Ends the setup: inserts the notifications that arrived during it at the front of the receive buffer. If the session
    /// is skipping a long message, the rest of that message is at the front, so this waits until it is skipped.
    pub(super) async fn set_up(&mut self) -> Result<(), Error> {
        if self.early.is_empty() {
            return Ok(());
        }
        while !self.session.has_skipped(&mut self.input) {
            poll_fn(|cx| self.poll_exchange(cx)).await?;
        }
        let mut input = std::mem::take(&mut self.early);
        input.extend_from_slice(&self.input);
        self.input = input;
        Ok(())
    }

    /// Returns the certificates of the server, its own first, as DER.
    pub(crate) fn peer_certificates(&self) -> Vec<&[u8]> {
        self.pipe.peer_certificates()
    }

    /// Returns the session, its socket, and the bytes that were read and not handled yet.
    pub(crate) fn into_parts(self) -> (Session, Pipe, BytesMut) {
        (self.session, self.pipe, self.input)
    }

    /// Waits for the next event. Cancel safe: all state is in the driver.
    pub(crate) async fn step(&mut self) -> Result<DriverEvent, Error> {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    /// Reads and writes until there is an event.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<DriverEvent, Error>> {
        loop {
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(Ok(DriverEvent::Event(event)));
            }
            let progress = self.session.handle_input(now(), &mut self.input);
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(Ok(DriverEvent::Event(event)));
            }
            if let Progress::Notifications(run) = progress? {
                return Poll::Ready(Ok(self.remove_private(run)));
            }
            if self.session.is_computing() {
                self.session.handle_timeout(now())?;
                self.session.compute()?;
                // Other tasks, sockets and timers are polled between two steps of the key derivation: `yield_now`
                // wakes this task only after the runtime has polled them.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            ready!(self.poll_exchange(cx))?;
        }
    }

    /// Writes the output of the session, and reads once. Checks the deadline of the session if no bytes can be read.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Reading does not wait until everything is written.
        let _ = self.pipe.poll_write(cx, self.session.transmit());
        if self.poll_delay(cx) == ReadWait::Pending {
            return Poll::Pending;
        }
        buffer::shrink(&mut self.input, self.input_bytes);
        self.input.reserve(READ_BYTES_MIN);
        Poll::Ready(match self.pipe.poll_read(cx, &mut self.input) {
            Poll::Ready(Ok(0)) => Err(self.session.handle_eof(!self.input.is_empty())),
            Poll::Ready(Ok(bytes)) => {
                self.received_at = SystemTime::now();
                self.read_delay.handle_read(now(), bytes, self.pipe.can_wait());
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(self.session.fail(error)),
            // Deadlines are checked only when nothing is left to read: an answer that has arrived is in time, even if this
            // task is late.
            Poll::Pending if self.poll_timer(cx) => self.session.handle_timeout(now()),
            Poll::Pending => return Poll::Pending,
        })
    }

    /// Waits before the next read, if data arrives densely and nothing waits for an answer.
    fn poll_delay(&mut self, cx: &mut Context<'_>) -> ReadWait {
        let Some(until) = self.read_delay.until().filter(|_| self.session.is_idle()) else {
            return ReadWait::None;
        };
        let wait = self.pipe.poll_delay(cx, &mut self.delay_timer, until);
        if wait == ReadWait::Over {
            self.read_delay.handle_due(now());
            self.reads_delayed = self.reads_delayed.saturating_add(1);
        }
        wait
    }

    /// Returns whether the deadline of the session has passed. If not, the task is woken when it does.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let _entered = self.pipe.enter_runtime();
        self.timer.poll(cx, self.session.poll_timeout())
    }

    /// Ends the session: sends Terminate, shuts down the sending direction, and reads what the server still sends, so
    /// that the connection ends with a FIN and not with a RST. Takes at most [`CLOSE_TIMEOUT`].
    pub(crate) async fn close(mut self) {
        self.session.terminate();
        let mut timer = Timer::default();
        let until = now() + CLOSE_TIMEOUT;
        poll_fn(|cx| {
            if self.poll_close(cx).is_ready() {
                return Poll::Ready(());
            }
            let _entered = self.pipe.enter_runtime();
            if timer.poll(cx, Some(until)) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Writes what is left, shuts down the sending direction, and reads to the end.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.pipe.poll_write(cx, self.session.transmit()));
        ready!(self.pipe.poll_shutdown(cx));
        loop {
            self.input.clear();
            self.input.reserve(READ_BYTES_MIN);
            match ready!(self.pipe.poll_read(cx, &mut self.input)) {
                Ok(0) | Err(_) => return Poll::Ready(()),
                Ok(_) => {}
            }
        }
    }
}
