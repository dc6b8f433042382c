//! Sending notifications from many tasks over one connection.

use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Buf;
use tokio::sync::{mpsc, oneshot};

use crate::net::{self, Driver, Purpose, Step, Timer};
use crate::session::{Answer, CommandId, SessionEvent};
use crate::{Config, Error, ErrorKind, wire};

/// Most requests that wait to be sent; who comes then waits.
const REQUESTS_MAX: usize = 1_024;

/// Most commands without an answer. Enough to fill a round trip of 10 ms with commits of 100 µs.
const PIPELINE_MAX: usize = 256;

/// How long a notifier that is closed, or dropped, waits for the answers that are due: as long as LISTEN
/// may take.
const ANSWERS_TIMEOUT: Duration = Duration::from_secs(30);

/// Object id of the type `text[]` in `pg_type`.
const TEXT_ARRAY_OID: u32 = 1009;

/// One statement, so one transaction; `unnest` gives its rows in the order of the arrays, and the
/// server keeps that order. N51. Names are qualified against a user's `search_path`; `unnest` with several
/// arguments is syntax, which the server only knows unqualified, and always means its own.
const NOTIFY_MANY: &str = "SELECT pg_catalog.count(pg_catalog.pg_notify(c, p)) \
                           FROM unnest($1, $2) AS t(c, p)";

/// Sends notifications. Cheap to clone; all clones share one connection, over which commands are
/// pipelined: nobody waits for the answer to another one's.
///
/// Every notification is committed when its future resolves. Values are bound parameters; sizes are
/// checked before anything is sent.
///
/// ```no_run
/// # async fn example() -> Result<(), pgbell::Error> {
/// use pgbell::Notifier;
///
/// let notifier = Notifier::connect("postgres://localhost/shop").await?;
/// notifier.notify("orders", "{\"id\": 1}").await?;
/// notifier.notify_many([("orders", "2"), ("stock", "3")]).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Notifier {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    process_id: Option<i32>,
    /// Why the connection is over.
    cause: OnceLock<Error>,
}

#[derive(Debug)]
enum Request {
    Notify {
        channel: String,
        payload: String,
        reply: Reply,
    },
    /// Two array literals.
    Many {
        channels: String,
        payloads: String,
        reply: Reply,
    },
    Close {
        reply: oneshot::Sender<()>,
    },
}

type Reply = oneshot::Sender<Answer>;

impl Notifier {
    /// Connects, and starts the task that drives the connection.
    ///
    /// # Errors
    /// As [`Connection::connect`](crate::Connection::connect).
    ///
    /// # Panics
    /// Outside a tokio runtime.
    ///
    /// # Cancel safety
    /// Dropping the future closes the socket.
    pub async fn connect(config: impl TryInto<Config, Error: Into<Error>>) -> Result<Self, Error> {
        let config = config.try_into().map_err(Into::into)?;
        let driver = net::establish(config, Purpose::Send).await?.driver;
        let (requests, inbox) = mpsc::channel(REQUESTS_MAX);
        let process_id = driver.session.process_id();
        let shared = Arc::new(Shared { process_id, cause: OnceLock::new() });
        let task = Task {
            driver,
            inbox,
            replies: BTreeMap::new(),
            shared: shared.clone(),
            timer: Timer::default(),
            deadline: None,
        };
        tokio::spawn(task.run());
        Ok(Self { requests, shared })
    }

    /// Sends one notification. It is committed when this returns.
    ///
    /// # Errors
    /// [`ErrorKind::Misuse`] for a channel that is empty, longer than 63 bytes or holds a NUL, and for a
    /// payload longer than 7,999 bytes or with a NUL: nothing is sent. What the server refuses;
    /// [`ErrorKind::InDoubt`] when the connection broke before the answer, [`ErrorKind::Closed`] when
    /// it had before.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back once it was accepted.
    pub async fn notify(&self, channel: &str, payload: impl AsRef<str>) -> Result<(), Error> {
        let payload = payload.as_ref();
        wire::check_channel(channel)?;
        wire::check_payload(payload)?;
        let (channel, payload) = (channel.to_owned(), payload.to_owned());
        self.ask(|reply| Request::Notify { channel, payload, reply }).await.map(drop)
    }

    /// Sends notifications in one transaction, in this order: all of them or none. Returns how many.
    ///
    /// PostgreSQL delivers equal pairs of channel and payload of one transaction once. None at all is
    /// no error, and sends nothing.
    ///
    /// # Errors
    /// As [`notify`](Self::notify), for the first pair that is refused; all of them together longer than
    /// 1 GiB are [`ErrorKind::Misuse`].
    ///
    /// # Cancel safety
    /// A dropped future does not take them back once they were accepted.
    pub async fn notify_many(
        &self,
        notifications: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>,
    ) -> Result<u64, Error> {
        let (mut channels, mut payloads) = (ArrayLiteral::new(), ArrayLiteral::new());
        let mut count = 0_u64;
        for (channel, payload) in notifications {
            wire::check_channel(channel.as_ref())?;
            wire::check_payload(payload.as_ref())?;
            channels.push(channel.as_ref());
            payloads.push(payload.as_ref());
            count += 1;
        }
        if count == 0 {
            return Ok(0);
        }
        let (channels, payloads) = (channels.finish(), payloads.finish());
        self.ask(|reply| Request::Many { channels, payloads, reply }).await.map(|_| count)
    }

    /// Ends the session cleanly, after everything that was accepted before has its answer. Other clones
    /// get [`ErrorKind::Closed`] from then on. Takes at most 31 s: what has no answer after 30 is
    /// [`ErrorKind::InDoubt`].
    ///
    /// # Errors
    /// None at present.
    ///
    /// # Cancel safety
    /// A dropped future does not take it back.
    pub async fn close(self) -> Result<(), Error> {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close { reply }).await.is_ok() {
            let _ = closed.await;
        }
        Ok(())
    }

    /// Process id of the server's end: the
    /// [`process_id`](crate::Notification::process_id) of what this notifier sends.
    #[must_use]
    pub fn process_id(&self) -> Option<i32> {
        self.shared.process_id
    }

    async fn ask(&self, request: impl FnOnce(Reply) -> Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.requests.send(request(reply)).await.is_err() {
            return Err(self.shared.closed());
        }
        answer.await.unwrap_or_else(|_| Err(self.shared.closed()))
    }
}

impl Shared {
    fn closed(&self) -> Error {
        match self.cause.get() {
            Some(cause) => {
                Error::caused(ErrorKind::Closed, "the notifier's connection is over", cause.clone())
            }
            None => Error::new(ErrorKind::Closed, "the notifier is closed"),
        }
    }
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Notifier").field("shared", &self.shared).finish_non_exhaustive()
    }
}

/// Drives the connection for as long as there is a notifier.
struct Task {
    driver: Driver,
    inbox: mpsc::Receiver<Request>,
    replies: BTreeMap<CommandId, Reply>,
    shared: Arc<Shared>,
    timer: Timer,
    /// When the answers must be there that a close waits for.
    deadline: Option<Instant>,
}

/// What ended the task's work.
enum End {
    Lost(Error),
    Close(Option<oneshot::Sender<()>>),
}

impl Task {
    async fn run(mut self) {
        let mut closing = None;
        match poll_fn(|cx| self.poll(cx, &mut closing)).await {
            End::Lost(cause) => {
                let _ = self.shared.cause.set(cause);
                self.answer();
            }
            End::Close(reply) => {
                self.inbox.close();
                self.driver.close().await;
                if let Some(reply) = reply {
                    let _ = reply.send(());
                }
            }
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        closing: &mut Option<Option<oneshot::Sender<()>>>,
    ) -> Poll<End> {
        loop {
            while closing.is_none()
                && self.replies.len() < PIPELINE_MAX
                && let Poll::Ready(request) = self.inbox.poll_recv(cx)
            {
                match request {
                    Some(Request::Close { reply }) => *closing = Some(Some(reply)),
                    Some(request) => self.send(request),
                    // Every notifier was dropped.
                    None => *closing = Some(None),
                }
            }
            if self.replies.is_empty()
                && let Some(reply) = closing.take()
            {
                return Poll::Ready(End::Close(reply));
            }
            if closing.is_some() && self.deadline.is_none() {
                self.deadline = net::now().checked_add(ANSWERS_TIMEOUT);
            }
            match self.driver.poll_step(cx) {
                Poll::Ready(Ok(Step::Event(event))) => self.handle_event(event),
                Poll::Ready(Ok(Step::Private)) => {}
                // Nothing is listened to: none of ours.
                Poll::Ready(Ok(Step::Run(run))) => self.driver.input.advance(run.bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Lost(error)),
                Poll::Pending if self.timer.poll(cx, self.deadline) => {
                    let message = format!("the server did not answer within {ANSWERS_TIMEOUT:?}");
                    let error = Error::new(ErrorKind::Timeout, message);
                    return Poll::Ready(End::Lost(self.driver.session.fail(error)));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn send(&mut self, request: Request) {
        let session = &mut self.driver.session;
        let (sent, reply) = match request {
            Request::Notify { channel, payload, reply } => {
                (session.notify(net::now(), &channel, &payload), reply)
            }
            Request::Many { channels, payloads, reply } => {
                let parameters =
                    [(TEXT_ARRAY_OID, Some(&*channels)), (TEXT_ARRAY_OID, Some(&*payloads))];
                (session.query(net::now(), NOTIFY_MANY, &parameters), reply)
            }
            Request::Close { .. } => return,
        };
        match sent {
            Ok(id) => drop(self.replies.insert(id, reply)),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn handle_event(&mut self, event: SessionEvent) {
        if let SessionEvent::Done { id, result } = event
            && let Some(reply) = self.replies.remove(&id)
        {
            let _ = reply.send(result);
        }
    }

    /// The session is over: what was in flight gets the error that the session gave it.
    fn answer(&mut self) {
        while let Some(event) = self.driver.session.poll_event() {
            self.handle_event(event);
        }
    }
}

/// A `text[]` in its text form: `{"a","b"}`. It is a bound parameter, never part of a statement.
struct ArrayLiteral(String);

impl ArrayLiteral {
    fn new() -> Self {
        Self("{".to_owned())
    }

    fn push(&mut self, element: &str) {
        self.0.push_str(if self.0.len() > 1 { ",\"" } else { "\"" });
        for c in element.chars() {
            if matches!(c, '"' | '\\') {
                self.0.push('\\');
            }
            self.0.push(c);
        }
        self.0.push('"');
    }

    fn finish(mut self) -> String {
        self.0.push('}');
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn array_elements_are_always_quoted_and_escaped() {
        let mut array = ArrayLiteral::new();
        for element in ["a", "", "NULL", "q\"b\\s", "{,}", " \n"] {
            array.push(element);
        }
        assert_eq!(array.finish(), r#"{"a","","NULL","q\"b\\s","{,}"," "#.to_owned() + "\n\"}");
    }
}
