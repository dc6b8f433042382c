//! A client session and a testing backend, connected in memory.

use std::fmt;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Buf, BytesMut};

use super::{Backend, SessionId};
use crate::error::Error;
use crate::notification::ReceiveInfo;
use crate::notification::{Notification, NotificationRef};
use crate::proto::session::{Progress, Session, SessionEvent};
use crate::proto::wire;

/// Connects one [`Session`] to one session of a [`Backend`], without a socket, a task or a clock.
///
/// Bytes arrive in chunks whose sizes follow a pattern, in both directions. The time changes only with
/// [`advance`](Self::advance). Several links may share a backend: settle the link that sends a notification
/// first, then the links that listen.
///
/// It uses types of [`proto`](crate::proto), so it is outside of semantic versioning.
///
/// ```
/// use std::time::{Duration, Instant};
/// use pgbell::proto::auth::{Credentials, ScramNonce};
/// use pgbell::proto::session::{Login, Session};
/// use pgbell::testing::{Backend, Link};
///
/// # fn main() -> Result<(), pgbell::Error> {
/// let now = Instant::now();
/// let deadline = now + Duration::from_secs(10);
/// let login = Login::new(Credentials::new("alice")?, ScramNonce::new([0; 18]), deadline);
/// let mut backend = Backend::default();
/// let mut link = Link::new(Session::new(login)?, &mut backend, now).chunks([3, 1]);
/// link.settle(&mut backend);
/// link.session().listen(now, &["orders"])?;
/// link.settle(&mut backend);
/// link.session().notify(now, "orders", "42")?;
/// link.settle(&mut backend);
/// assert_eq!(link.take_notifications()[0].payload(), "42");
/// # Ok(())
/// # }
/// ```
pub struct Link {
    session: Session,
    id: SessionId,
    now: Instant,
    chunks: Chunks,
    to_server: Direction,
    to_client: Direction,
    notifications: Vec<Notification>,
    sequence: u64,
    error: Option<Error>,
    cut: bool,
}

/// The bytes of one direction.
#[derive(Default)]
struct Direction {
    /// Sent, and not yet arrived.
    sent: BytesMut,
    /// Arrived, and not yet handled: an incomplete message.
    arrived: BytesMut,
}

/// The sizes of the chunks in which bytes arrive, repeated.
struct Chunks {
    pattern: Vec<usize>,
    next: usize,
}

impl Chunks {
    fn next(&mut self) -> usize {
        let size = self.pattern.get(self.next).copied().unwrap_or(usize::MAX);
        self.next = self.next.saturating_add(1);
        if self.next >= self.pattern.len() {
            self.next = 0;
        }
        // A chunk of zero bytes would make the loop endless.
        size.max(1)
    }
}

impl Direction {
    /// Lets one chunk arrive. Returns whether there was one.
    fn carry(&mut self, chunks: &mut Chunks) -> bool {
        if self.sent.is_empty() {
            return false;
        }
        let bytes = chunks.next().min(self.sent.len());
        self.arrived.extend_from_slice(&self.sent.split_to(bytes));
        true
    }
}

impl Link {
    /// Connects `session` to `backend`. No byte is carried yet.
    #[must_use]
    pub fn new(session: Session, backend: &mut Backend, now: Instant) -> Self {
        Self {
            session,
            id: backend.connect(),
            now,
            chunks: Chunks { pattern: Vec::new(), next: 0 },
            to_server: Direction::default(),
            to_client: Direction::default(),
            notifications: Vec::new(),
            sequence: 0,
            error: None,
            cut: false,
        }
    }

    /// Sets the sizes of the chunks in which bytes arrive, repeated in both directions. A 0 counts as 1. Without
    /// a pattern all bytes arrive at once.
    #[must_use]
    pub fn chunks(mut self, pattern: impl Into<Vec<usize>>) -> Self {
        self.chunks = Chunks { pattern: pattern.into(), next: 0 };
        self
    }

    /// Returns the client's session: it takes commands and has the state.
    pub fn session(&mut self) -> &mut Session {
        &mut self.session
    }

    /// Returns the id of the backend's session.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// Returns the current time of the link.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Advances the time, and lets the session handle its deadlines.
    pub fn advance(&mut self, by: Duration) {
        self.now = self.now.checked_add(by).unwrap_or(self.now);
        if let Err(error) = self.session.handle_timeout(self.now) {
            self.error.get_or_insert(error);
        }
    }

    /// Carries bytes in both directions until there are none, and derives keys when the login needs
    /// them. Returns the error that ended the session, if one did.
    pub fn settle(&mut self, backend: &mut Backend) -> Option<&Error> {
        loop {
            let mut moved = false;
            self.to_server.sent.extend_from_slice(&self.session.transmit().split());
            while self.to_server.carry(&mut self.chunks) {
                moved = true;
                backend.handle_input(self.id, &mut self.to_server.arrived);
            }
            self.to_client.sent.extend_from_slice(&backend.transmit(self.id).split());
            while self.to_client.carry(&mut self.chunks) {
                moved = true;
                self.receive();
            }
            if !moved {
                break;
            }
        }
        // An error that the session itself raised closes the socket as well.
        if !self.cut && (backend.is_closed(self.id) || self.error.is_some()) {
            self.end(backend);
        }
        self.error.as_ref()
    }

    /// Breaks the connection: bytes that have not arrived are lost, in both directions.
    pub fn cut(&mut self, backend: &mut Backend) {
        self.to_server = Direction::default();
        self.to_client = Direction::default();
        self.end(backend);
    }

    /// Returns the notifications that have arrived since the last call, in order. Their time of receipt is the
    /// Unix epoch: a link has no clock but [`now`](Self::now).
    pub fn take_notifications(&mut self) -> Vec<Notification> {
        std::mem::take(&mut self.notifications)
    }

    /// Returns the events of the session since the last call.
    pub fn take_events(&mut self) -> Vec<SessionEvent> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// Returns the error that ended the session, if one did.
    #[must_use]
    pub fn error(&self) -> Option<&Error> {
        self.error.as_ref()
    }

    /// Returns whether the session has ended by itself: it has no deadline and takes no command.
    fn is_over(&self) -> bool {
        !self.session.is_ready() && self.session.poll_timeout().is_none()
    }

    fn end(&mut self, backend: &mut Backend) {
        self.cut = true;
        backend.disconnect(self.id);
        if !self.is_over() {
            let error = self.session.handle_eof(!self.to_client.arrived.is_empty());
            self.error.get_or_insert(error);
        }
    }

    fn receive(&mut self) {
        loop {
            let progress = self.session.handle_input(self.now, &mut self.to_client.arrived);
            while self.session.is_computing() {
                if let Err(error) = self.session.compute() {
                    self.error.get_or_insert(error);
                }
            }
            match progress {
                Ok(Progress::NeedMore) => return,
                Ok(Progress::Notifications(run)) => {
                    self.keep(run);
                    self.to_client.arrived.advance(run.bytes);
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    self.to_client.arrived.clear();
                    return;
                }
            }
        }
    }

    fn keep(&mut self, run: wire::Run) {
        let info = ReceiveInfo { received_at: SystemTime::UNIX_EPOCH, epoch: 1 };
        let frames = self.to_client.arrived.get(..run.bytes).unwrap_or_default();
        for raw in wire::frames(frames) {
            let one = NotificationRef::new(raw, self.sequence, &info, None);
            self.notifications.push(one.to_owned());
            self.sequence = self.sequence.saturating_add(1);
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("session", &self.session)
            .field("id", &self.id)
            .field("notifications", &self.notifications.len())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}
