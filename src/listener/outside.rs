//! What a listener's task touches of the world, and the world as it is.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

use super::attempt::Attempt;
use super::hook::{Hook, HookRun};
use super::shared::Shared;
use super::sink::RingSink;
use super::telemetry::Telemetry;
use crate::net::{self, Established, Pipe, Place, Purpose, Timer};
use crate::session::Session;
use crate::supervisor::{Action, LinkId, Live, Sink, Supervisor};
use crate::{Config, Error};

/// The clock, sockets, the hook and the queue. A simulator has its own: so it drives the task itself, and not
/// something that does the same.
///
/// As with every future, who returns `Pending` wakes the task when that has changed.
pub(super) trait Outside: Unpin {
    /// A session being set up. Dropping it ends that.
    type Opening: Unpin;
    /// Of a session that was set up. Dropping it closes it.
    type Socket: Unpin;
    /// A hook that runs. Dropping it ends it.
    type Run: Unpin;
    /// A deadline that can be moved.
    type Timer: Default + Unpin;
    /// Takes what comes.
    type Sink: Sink;

    fn now(&self) -> Instant;

    fn time(&self) -> SystemTime;

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Self::Timer,
        deadline: Option<Instant>,
    ) -> bool;

    /// The queue, as the supervisor sees it.
    fn sink(&mut self) -> &mut Self::Sink;

    /// The same queue, as the reading side sees it.
    fn ring(&mut self) -> &mut RingSink;

    /// Connects and logs in.
    fn open(&mut self, link: LinkId, attempt: u64) -> Self::Opening;

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        opening: &mut Self::Opening,
    ) -> Poll<Result<Opened<Self::Socket>, Error>>;

    /// As [`Pipe::poll_read`].
    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Self::Socket,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>>;

    /// As [`Pipe::poll_write`].
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut Self::Socket,
        out: &mut BytesMut,
    ) -> Poll<()>;

    /// Ends our direction.
    fn poll_shutdown(&mut self, cx: &mut Context<'_>, socket: &mut Self::Socket) -> Poll<()>;

    /// Runs the hook beside the session on this socket.
    fn run_hook(&mut self, socket: Option<&Self::Socket>, live: Live) -> Option<Self::Run>;

    fn poll_hook(&mut self, cx: &mut Context<'_>, run: &mut Self::Run) -> Poll<Result<(), Error>>;

    /// Tells it to end. It may run on for a while.
    fn cancel_hook(&mut self, run: &mut Self::Run);

    /// What was read of this link is about to be handled.
    #[inline]
    fn handles(&mut self, _link: LinkId) {}

    /// This is about to be carried out.
    fn acts(&mut self, action: &Action, supervisor: &Supervisor);

    /// All that the supervisor wants is carried out, and the figures are set.
    fn has_acted(&mut self, shared: &Shared);
}

/// A session that was set up.
pub(super) struct Opened<S> {
    pub(super) session: Box<Session>,
    pub(super) socket: S,
    /// What was read behind the login.
    pub(super) rest: BytesMut,
}

/// The world as it is.
pub(super) struct Means {
    /// For sessions, and for the hook's connections.
    pub(super) config: Config,
    pub(super) connect_timeout: Duration,
    pub(super) hook: Option<Hook>,
    pub(super) telemetry: Telemetry,
    pub(super) sink: RingSink,
}

/// How a session is set up.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Established, Error>> + Send>>;

/// A socket, and where it leads to.
pub(super) struct Socket {
    pipe: Pipe,
    place: Place,
}

impl Outside for Means {
    type Opening = Attempt;
    type Socket = Socket;
    type Run = HookRun;
    type Timer = Timer;
    type Sink = RingSink;

    fn now(&self) -> Instant {
        net::now()
    }

    fn time(&self) -> SystemTime {
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

    fn sink(&mut self) -> &mut RingSink {
        &mut self.sink
    }

    fn ring(&mut self) -> &mut RingSink {
        &mut self.sink
    }

    /// When the time is up it ends by itself and says where it was spent.
    fn open(&mut self, _link: LinkId, attempt: u64) -> Attempt {
        let until = net::now() + self.connect_timeout;
        let opening = net::establish_until(self.config.clone(), Purpose::Listen, until);
        Attempt::start(self.telemetry.opening(attempt, Box::pin(opening)))
    }

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        attempt: &mut Attempt,
    ) -> Poll<Result<Opened<Socket>, Error>> {
        attempt.poll(cx).map_ok(|established| {
            let Established { driver, place, .. } = established;
            let (session, pipe, rest) = driver.into_parts();
            Opened { session: Box::new(session), socket: Socket { pipe, place }, rest }
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

    fn run_hook(&mut self, socket: Option<&Socket>, live: Live) -> Option<HookRun> {
        let place = socket.map(|socket| socket.place.clone());
        self.hook.as_ref().map(|hook| hook.run(self.config.clone(), place, live))
    }

    fn poll_hook(&mut self, cx: &mut Context<'_>, run: &mut HookRun) -> Poll<Result<(), Error>> {
        run.poll(cx)
    }

    fn cancel_hook(&mut self, run: &mut HookRun) {
        run.abort();
    }

    fn acts(&mut self, action: &Action, _supervisor: &Supervisor) {
        match action {
            Action::Log(incident) => self.telemetry.tell(incident),
            Action::Done(result) => self.telemetry.end(result.as_ref().err()),
            _ => {}
        }
    }

    fn has_acted(&mut self, shared: &Shared) {
        self.telemetry.count(|| shared.stats());
        if let Some(error) = self.telemetry.poll_failure() {
            shared.note_trouble(error);
        }
    }
}
