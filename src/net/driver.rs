//! A session on a socket: carries bytes and time, decides nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use tokio::task::yield_now;

use super::{Pipe, Timer, now};
use crate::session::{Answer, CommandId, Progress, STARTUP_BYTES_MAX, Session, SessionEvent};
use crate::wire::{self, RawNotification, Run, buffer};
use crate::{Error, ErrorKind};

/// Least spare capacity to read into, in bytes: two of the server's own writes.
const READ_BYTES_MIN: usize = 16 * 1024;

/// Size of the receive buffer when no message is long, in bytes.
const INPUT_BYTES: usize = 4 * READ_BYTES_MIN;

/// Longest wait for the server's end of the connection after Terminate.
const CLOSE_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);

/// Most bytes of an answer to a question of ours.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Most bytes of notifications that are kept while a session is set up: as many as a startup may have.
const EARLY_BYTES_MAX: usize = STARTUP_BYTES_MAX;

/// What there is to act on.
#[derive(Debug)]
pub(crate) enum Step {
    /// These notifications stand at the head of the input.
    Run(Run),
    /// Something happened in the session.
    Event(SessionEvent),
    /// Notifications came on the private channel. They are not in the input any more.
    Private,
}

/// Takes what arrives while an answer is waited for.
pub(crate) trait Meanwhile {
    /// A run of notifications stands at the head of the driver's input: takes it off.
    fn take(&mut self, driver: &mut Driver, run: Run);

    /// The server has dropped a notification.
    fn miss(&mut self, driver: &Driver, cause: Error);
}

/// No LISTEN of ours is active: what arrives nevertheless was listened to by another client, before a pooler lent us
/// its session of the server. It is kept: a moment later it would be delivered.
pub(super) struct NotListening;

impl Meanwhile for NotListening {
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
    /// What the input is made of again when a message that needed more is over, in bytes.
    input_bytes: usize,
    /// When the last bytes were read.
    pub(crate) received_at: SystemTime,
    /// The channel by which delivery is proven. What arrives on it is no notification of the user's.
    pub(super) private: Option<String>,
    /// Notifications that came while the session was set up. N165.
    early: BytesMut,
    pipe: Pipe,
    timer: Timer,
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
        }
    }

    /// From now on the receive buffer has this size, in bytes.
    pub(crate) fn set_input_bytes(&mut self, bytes: usize) {
        let mut input = BytesMut::with_capacity(bytes);
        input.extend_from_slice(&self.input);
        (self.input, self.input_bytes) = (input, bytes);
    }

    /// Goes on until the server has let us in and is ready.
    pub(super) async fn log_in(&mut self) -> Result<(), Error> {
        loop {
            match self.step().await? {
                Step::Event(SessionEvent::Ready) => {
                    self.pipe.end_login();
                    return Ok(());
                }
                step => self.hand_on(step, &mut NotListening),
            }
        }
    }

    /// Runs one statement that returns at most one row, before anything of the user's is listened to.
    pub(super) async fn query(&mut self, sql: &str) -> Answer {
        let id = self.session.simple_query(now(), sql)?;
        self.session.limit_answer(id, ANSWER_BYTES_MAX);
        self.session.limit_rows(id, 1);
        let answer = self.answer(id, &mut NotListening).await;
        answer.map_err(|error| self.cause(error))
    }

    /// The error of a command that changes nothing. If the session has ended, that is the error that ended it: whether
    /// such a command was carried out does not matter.
    pub(super) fn cause(&mut self, error: Error) -> Error {
        if self.session.is_ready() { error } else { self.session.fail(error) }
    }

    /// Waits for the answer to a command. What arrives meanwhile is given to `meanwhile`.
    pub(super) async fn answer(
        &mut self,
        awaited: CommandId,
        meanwhile: &mut impl Meanwhile,
    ) -> Answer {
        loop {
            match self.step().await? {
                Step::Event(SessionEvent::Done { id, result, .. }) if id == awaited => {
                    return result;
                }
                step => self.hand_on(step, meanwhile),
            }
        }
    }

    /// Hands on what is nothing of ours.
    pub(super) fn hand_on(&mut self, step: Step, meanwhile: &mut impl Meanwhile) {
        match step {
            Step::Run(run) => meanwhile.take(self, run),
            Step::Event(SessionEvent::NotificationDropped(cause)) => meanwhile.miss(self, cause),
            // The answer to a command whose future was dropped.
            Step::Event(SessionEvent::Ready | SessionEvent::Done { .. }) | Step::Private => {}
        }
    }

    /// What to do about a run at the head of the input, part of which may be private.
    fn part(&mut self, run: Run) -> Step {
        let Some(private) = &self.private else { return Step::Run(run) };
        let is_private = |one: RawNotification<'_>| one.channel == private.as_bytes();
        let frames = self.input.get(..run.bytes).unwrap_or_default();
        if !wire::frames(frames).any(is_private) {
            return Step::Run(run);
        }
        // What stays is found again by the next step.
        let _ = wire::extract(&mut self.input, run, is_private);
        Step::Private
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.pipe.written()
    }

    /// Ends the setup: puts the notifications that arrived early in front of the input. If the rest of a long message is
    /// still to be skipped, that rest comes first in the input, so this waits until it is skipped.
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

    /// Takes it apart: the session, its socket, and what was read and not yet handled.
    pub(crate) fn into_parts(self) -> (Session, Pipe, BytesMut) {
        (self.session, self.pipe, self.input)
    }

    /// Waits for the next step. Cancel safe: all state is in the driver.
    pub(crate) async fn step(&mut self) -> Result<Step, Error> {
        poll_fn(|cx| self.poll_step(cx)).await
    }

    /// Reads and writes until there is something to act on.
    pub(crate) fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Result<Step, Error>> {
        loop {
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(Ok(Step::Event(event)));
            }
            let progress = self.session.handle_input(now(), &mut self.input);
            if let Some(event) = self.session.poll_event() {
                return Poll::Ready(Ok(Step::Event(event)));
            }
            if let Progress::Notifications(run) = progress? {
                return Poll::Ready(Ok(self.part(run)));
            }
            if self.session.is_computing() {
                self.session.handle_timeout(now())?;
                self.session.compute()?;
                // Others get their turn between two steps of the key derivation, sockets and timers too:
                // this puts the wake off until the runtime has looked at them.
                let _ = pin!(yield_now()).poll(cx);
                return Poll::Pending;
            }
            ready!(self.poll_exchange(cx))?;
        }
    }

    /// Writes what is to be written, and reads once. Looks at the deadline of the session if there is nothing to read.
    fn poll_exchange(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Not waited for: reading goes on meanwhile.
        let _ = self.pipe.poll_write(cx, self.session.transmit());
        buffer::shrink(&mut self.input, self.input_bytes);
        self.input.reserve(READ_BYTES_MIN);
        Poll::Ready(match self.pipe.poll_read(cx, &mut self.input) {
            Poll::Ready(Ok(0)) => Err(self.session.handle_eof(&self.input)),
            Poll::Ready(Ok(_)) => {
                self.received_at = SystemTime::now();
                Ok(())
            }
            Poll::Ready(Err(error)) => Err(self.session.fail(error)),
            // Only now: an answer that is there was in time, however late we come for it.
            Poll::Pending if self.timer.poll(cx, self.session.poll_timeout()) => {
                self.session.handle_timeout(now())
            }
            Poll::Pending => return Poll::Pending,
        })
    }

    /// Says goodbye: Terminate, end of our direction, then whatever the server still sends, so
    /// that the connection ends with a FIN and not with a RST. At most a second.
    pub(crate) async fn close(mut self) {
        self.session.terminate();
        let goodbye = poll_fn(|cx| {
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
        });
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}
