//! The task of a notifier: it carries requests, bytes and time to the machine, which decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use tokio::sync::mpsc;

use super::machine::{NotifierAction, NotifierMachine};
use super::queue::NotifierShared;
use super::request::{Reply, Request};
use crate::config::Config;
use crate::error::{Error, contain};
use crate::net::{self, Driver, DriverEvent, OpeningAttempt, SessionPurpose, Timer};
use crate::proto::supervisor::State;

/// The largest number of requests that are taken before the socket is polled. Tokio's cooperative budget is 128
/// operations per poll of a task: a constant stream of requests must leave some of them for reading and writing.
const REQUESTS_AT_ONCE: usize = 64;

/// The task that drives the connection as long as a clone of the notifier exists.
pub(super) struct NotifierTask {
    /// Must be dropped first. That sets the cause, which calls return whose reply is dropped.
    shared: ShutOnDrop,
    link: TaskLink,
    machine: NotifierMachine,
    requests: mpsc::UnboundedReceiver<Request>,
    closes: mpsc::UnboundedReceiver<Reply<()>>,
    timer: Timer,
    /// The `close` calls that wait for the end of the task.
    closing: Vec<Reply<()>>,
    opener: SessionOpener,
}

/// The session of a notifier, and the attempt to open it.
enum TaskLink {
    None,
    Opening(OpeningAttempt),
    Open(Box<Driver>),
}

/// How further sessions are opened.
pub(super) struct SessionOpener {
    pub(super) config: Config,
    pub(super) timeout: Duration,
}

impl SessionOpener {
    /// After `timeout` the attempt fails by itself, and its error names the step that took the time.
    fn open(&self) -> OpeningAttempt {
        let until = net::now() + self.timeout;
        let opening = net::establish_until(self.config.clone(), SessionPurpose::Notify, until);
        OpeningAttempt::start(Box::pin(opening))
    }
}

impl NotifierTask {
    pub(super) fn new(
        driver: Driver,
        machine: NotifierMachine,
        requests: mpsc::UnboundedReceiver<Request>,
        closes: mpsc::UnboundedReceiver<Reply<()>>,
        shared: Arc<NotifierShared>,
        opener: SessionOpener,
    ) -> Self {
        shared.set_stats(machine.stats());
        Self {
            shared: ShutOnDrop(shared),
            link: TaskLink::Open(Box::new(driver)),
            machine,
            requests,
            closes,
            timer: Timer::default(),
            closing: Vec::new(),
            opener,
        }
    }

    pub(super) async fn run(mut self) {
        // The waker of a call is the user's code and may panic.
        let end = poll_fn(|cx| {
            let polled = contain(|| self.poll(cx));
            polled.unwrap_or_else(|panic| {
                Poll::Ready(Err(Error::panicked("the task of the notifier", &panic)))
            })
        });
        let end = end.await;
        match (end, std::mem::replace(&mut self.link, TaskLink::None)) {
            (Err(cause), link) => {
                // After a panic the machine has not ended.
                self.shared.0.end(cause.clone());
                if let TaskLink::Open(driver) = &link {
                    self.machine.wrote(net::now(), driver.written());
                }
                self.machine.end(cause);
                self.act();
            }
            (Ok(()), TaskLink::Open(driver)) => driver.close().await,
            (Ok(()), _) => {}
        }
        self.shared.0.set_session(None);
        self.shared.0.set_state(State::Closed);
        for reply in self.closing.drain(..) {
            reply.send(());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_closes(cx);
        self.poll_requests(cx);
        loop {
            if let TaskLink::Open(driver) = &mut self.link {
                self.machine.start(net::now(), &mut driver.session);
            }
            if let Some(end) = self.act() {
                return Poll::Ready(end);
            }
            if self.poll_link(cx).is_ready() {
                continue;
            }
            // Deadlines are checked only when nothing is left to read: an answer that has arrived is in time.
            if !self.timer.poll(cx, self.machine.poll_timeout()) {
                return Poll::Pending;
            }
            let error = self.machine.handle_timeout(net::now());
            if let (Some(error), TaskLink::Open(driver)) = (error, &mut self.link) {
                let error = driver.session.fail(error);
                self.lose(error);
            }
        }
    }

    /// Drives the session, or the attempt to open one. Ready when something has happened.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.link {
            TaskLink::None => return Poll::Pending,
            TaskLink::Opening(attempt) => match std::task::ready!(attempt.poll(cx)) {
                Ok(established) => {
                    let driver = Box::new(established.driver);
                    // Before the first notification is sent.
                    self.shared.0.set_session(driver.session.process_id());
                    self.machine.handle_opened(net::now(), driver.written());
                    self.link = TaskLink::Open(driver);
                }
                Err(error) => {
                    self.link = TaskLink::None;
                    self.machine.handle_open_failed(net::now(), error);
                }
            },
            TaskLink::Open(driver) => {
                let step = driver.poll_step(cx);
                let now = net::now();
                self.machine.wrote(now, driver.written());
                match std::task::ready!(step) {
                    Ok(DriverEvent::Event(event)) => {
                        match self.machine.stray_error(&event, &driver.session) {
                            None => self.machine.handle_event(now, event),
                            Some(error) => {
                                let error = driver.session.fail(error);
                                self.lose(error);
                            }
                        }
                    }
                    Ok(DriverEvent::Private) => {}
                    // The session has no LISTEN: the notifications are meant for another client of a pooler.
                    Ok(DriverEvent::Run(run)) => {
                        driver.input.advance(run.bytes);
                        self.machine.handle_notifications();
                    }
                    Err(error) => self.lose(error),
                }
            }
        }
        Poll::Ready(())
    }

    /// Handles the loss of the session.
    fn lose(&mut self, error: Error) {
        self.link = TaskLink::None;
        self.shared.0.set_session(None);
        self.machine.handle_lost(net::now(), error);
    }

    /// Performs the actions of the machine, and then sends its answers: a call that returns finds the state and the statistics
    /// up to date. Returns how the notifier ends, if it does.
    fn act(&mut self) -> Option<Result<(), Error>> {
        let shared = &self.shared.0;
        let mut end = None;
        while let Some(action) = self.machine.poll_action() {
            match action {
                NotifierAction::Open => self.link = TaskLink::Opening(self.opener.open()),
                NotifierAction::CancelOpening => self.link = TaskLink::None,
                NotifierAction::State(state) => shared.set_state(state),
                NotifierAction::Failed(error) => shared.set_last_error(error),
                NotifierAction::End(result) => {
                    if let Err(cause) = &result {
                        shared.end(cause.clone());
                        shared.set_state(State::Closed);
                    }
                    end = Some(result);
                }
            }
        }
        shared.set_stats(self.machine.stats());
        while let Some((reply, answer)) = self.machine.poll_answer() {
            reply.send(answer);
        }
        end
    }

    /// Receives the `close` calls. They have a channel of their own, because the queue may be full.
    fn poll_closes(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(reply)) = self.closes.poll_recv(cx) {
            self.closing.push(reply);
            self.shut();
        }
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        for _ in 0..REQUESTS_AT_ONCE {
            match self.requests.poll_recv(cx) {
                Poll::Ready(Some(request)) => self.machine.accept(request),
                Poll::Ready(None) => {
                    // Closed, or every clone of the notifier was dropped.
                    self.machine.drained();
                    return self.shut();
                }
                Poll::Pending => return,
            }
        }
        // There may be more.
        cx.waker().wake_by_ref();
    }

    /// Stops accepting calls. Those that were accepted are still sent.
    fn shut(&mut self) {
        self.shared.0.shut();
        self.requests.close();
        self.machine.close(net::now());
    }
}

/// Shuts the queue when the task is dropped, also if the runtime ends before the notifier.
struct ShutOnDrop(Arc<NotifierShared>);

impl Drop for ShutOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
