//! [`Environment`]: the sockets, the clock and the hook of a listener's task. [`TokioEnvironment`] has the real ones.

use std::marker::PhantomData;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

use super::hook::{Hook, HookTask};
use super::shared::ListenerShared;
use super::telemetry::Telemetry;
use crate::config::Config;
use crate::error::Error;
use crate::net::{
    self, Established, OpeningAttempt, Pipe, ReadWait, ServerLocation, SessionPlace,
    SessionPurpose, Timer,
};
use crate::proto::session::Session;
use crate::proto::supervisor::{Action, LinkId, Live, Sink, Supervisor};
use crate::queue::ReceiveBuffers;

/// The clock, the sockets and the hook of a listener's task, and the type of its queue. The simulator has its own, so that it tests the
/// real task.
///
/// A method that returns `Pending` must wake the task when it should be called again, as every future.
pub(crate) trait Environment: Unpin {
    /// An attempt to open a session. Dropping it cancels the attempt.
    type Opening: Unpin;
    /// The socket of an open session. Dropping it closes the socket.
    type Socket: Unpin;
    /// A run of the hook. Dropping it cancels the run.
    type RunningHook: Unpin;
    /// A timer whose deadline can change.
    type Timer: Default + Unpin;
    /// The producing end of the queue.
    type Sink: Sink + ReceiveBuffers + Unpin;

    fn now(&self) -> Instant;

    fn system_time(&self) -> SystemTime;

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Self::Timer,
        deadline: Option<Instant>,
    ) -> bool;

    /// Begins to connect and to log in.
    fn open(&mut self, link: LinkId, attempt: u64) -> Self::Opening;

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        opening: &mut Self::Opening,
    ) -> Poll<Result<Opened<Self::Socket>, Error>>;

    /// See [`Pipe::poll_read`].
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Self::Socket,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>>;

    /// See [`Pipe::can_wait`].
    fn can_wait(&self, socket: &Self::Socket) -> bool;

    /// Waits before the next read, at most until `until`. A coarse timer ends the delay earlier.
    fn poll_delay(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Self::Socket,
        timer: &mut Self::Timer,
        until: Instant,
    ) -> ReadWait;

    /// See [`Pipe::poll_write`].
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Self::Socket,
        out: &mut BytesMut,
    ) -> Poll<()>;

    /// Shuts down the sending direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>, socket: &mut Self::Socket) -> Poll<()>;

    /// Runs the hook for the session on `socket`.
    fn run_hook(&mut self, socket: Option<&Self::Socket>, live: Live) -> Option<Self::RunningHook>;

    fn poll_hook(
        &mut self,
        cx: &mut Context<'_>,
        run: &mut Self::RunningHook,
    ) -> Poll<Result<(), Error>>;

    /// Cancels a run of the hook, which may continue for a while.
    fn cancel_hook(&mut self, run: &mut Self::RunningHook);

    /// Called when the notifications of the session on `socket` follow.
    #[inline]
    fn delivers(&mut self, _socket: Option<&Self::Socket>, _sink: &mut Self::Sink) {}

    /// Called before the input of a link is handled.
    #[inline]
    fn before_input(&mut self, _link: LinkId) {}

    /// Called before an action of the supervisor is performed.
    fn before_action(&mut self, action: &Action, supervisor: &Supervisor<Self::Sink>);

    /// Called after all actions of the supervisor were performed, and the counters were set.
    fn after_actions(&mut self, shared: &ListenerShared);
}

/// A session that is open.
pub(crate) struct Opened<S> {
    pub(crate) session: Box<Session>,
    pub(crate) socket: S,
    /// Bytes that were read after the login.
    pub(crate) rest: BytesMut,
}

/// The environment of a listener whose queue is `S`: tokio's sockets and timers, and the system's clock.
pub(super) struct TokioEnvironment<S> {
    /// The configuration of sessions, and of the hook's connections.
    pub(super) config: Config,
    pub(super) connect_timeout: Duration,
    pub(super) hook: Option<Hook>,
    pub(super) telemetry: Telemetry,
    pub(super) queue: PhantomData<fn(S)>,
}

/// A socket, and the server that it is connected to.
pub(super) struct Socket {
    pipe: Pipe,
    location: ServerLocation,
    place: Option<SessionPlace>,
}

impl<S: Sink + ReceiveBuffers + Unpin> Environment for TokioEnvironment<S> {
    type Opening = OpeningAttempt;
    type Socket = Socket;
    type RunningHook = HookTask;
    type Timer = Timer;
    type Sink = S;

    fn now(&self) -> Instant {
        net::now()
    }

    fn system_time(&self) -> SystemTime {
        SystemTime::now()
    }

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        deadline: Option<Instant>,
    ) -> bool {
        timer.poll(cx, deadline)
    }

    /// After `connect_timeout` the attempt fails by itself, and its error names the step that took the time.
    fn open(&mut self, _link: LinkId, attempt: u64) -> OpeningAttempt {
        let until = net::now() + self.connect_timeout;
        let opening = net::establish_until(self.config.clone(), SessionPurpose::Listen, until);
        OpeningAttempt::start(self.telemetry.instrument(attempt, Box::pin(opening)))
    }

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut OpeningAttempt,
    ) -> Poll<Result<Opened<Socket>, Error>> {
        attempt.poll(cx).map_ok(|established| {
            let place = established.place();
            let Established { driver, location, .. } = established;
            let (session, pipe, rest) = driver.into_parts();
            Opened { session: Box::new(session), socket: Socket { pipe, location, place }, rest }
        })
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        socket.pipe.poll_read(cx, input)
    }

    fn can_wait(&self, socket: &Socket) -> bool {
        socket.pipe.can_wait()
    }

    fn poll_delay(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        timer: &mut Timer,
        until: Instant,
    ) -> ReadWait {
        socket.pipe.poll_delay(cx, timer, until)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Socket,
        out: &mut BytesMut,
    ) -> Poll<()> {
        socket.pipe.poll_write(cx, out)
    }

    fn poll_shutdown(&mut self, cx: &mut Context<'_>, socket: &mut Socket) -> Poll<()> {
        socket.pipe.poll_shutdown(cx)
    }

    fn run_hook(&mut self, socket: Option<&Socket>, live: Live) -> Option<HookTask> {
        let location = socket.map(|socket| socket.location.clone());
        self.hook.as_ref().map(|hook| hook.run(self.config.clone(), location, live))
    }

    fn poll_hook(&mut self, cx: &mut Context<'_>, run: &mut HookTask) -> Poll<Result<(), Error>> {
        run.poll(cx)
    }

    fn cancel_hook(&mut self, run: &mut HookTask) {
        run.abort();
    }

    fn delivers(&mut self, socket: Option<&Socket>, sink: &mut S) {
        sink.delivers_from(socket.and_then(|socket| socket.place.as_ref()));
    }

    fn before_action(&mut self, action: &Action, _supervisor: &Supervisor<S>) {
        match action {
            Action::Log(event) => self.telemetry.record(event),
            Action::Done(result) => self.telemetry.end(result.as_ref().err()),
            _ => {}
        }
    }

    fn after_actions(&mut self, shared: &ListenerShared) {
        self.telemetry.update(|| shared.stats());
        if let Some(error) = self.telemetry.take_failure() {
            shared.set_last_error(error);
        }
    }
}
