//! The task of a notifier: it carries requests, bytes and time to the machine, which decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::sync::mpsc;

use super::link::{LinkEvent, TaskLink};
use super::machine::{NotifierAction, NotifierMachine};
use super::queue::NotifierShared;
use super::request::{Reply, Request};
use crate::error::{Error, contain};
use crate::net::{self, Timer};
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
}

impl NotifierTask {
    pub(super) fn new(
        link: TaskLink,
        machine: NotifierMachine,
        requests: mpsc::UnboundedReceiver<Request>,
        closes: mpsc::UnboundedReceiver<Reply<()>>,
        shared: Arc<NotifierShared>,
    ) -> Self {
        shared.set_stats(machine.stats());
        Self {
            shared: ShutOnDrop(shared),
            link,
            machine,
            requests,
            closes,
            timer: Timer::default(),
            closing: Vec::new(),
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
        match end.await {
            Err(cause) => {
                // After a panic the machine has not ended.
                self.shared.0.end(cause.clone());
                if let Some(written) = self.link.written() {
                    self.machine.wrote(net::now(), written);
                }
                self.machine.end(cause);
                self.act();
                self.link.clear();
            }
            Ok(()) => self.link.close().await,
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
            if let Some(session) = self.link.session() {
                self.machine.start(net::now(), session);
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
            if let (Some(error), Some(session)) = (error, self.link.session()) {
                let error = session.fail(error);
                self.lose(error);
            }
        }
    }

    /// Drives the session, or the attempt to open one. Ready when something has happened.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let event = self.link.poll(cx);
        let now = net::now();
        if let Some(written) = self.link.written() {
            self.machine.wrote(now, written);
        }
        match ready!(event) {
            LinkEvent::Opened { written, process_id, .. } => {
                // Before the first notification is sent.
                self.shared.0.set_session(process_id);
                self.machine.handle_opened(now, written);
            }
            LinkEvent::OpenFailed(error) => self.machine.handle_open_failed(now, error),
            LinkEvent::Session(event) => {
                let Some(session) = self.link.session() else { return Poll::Ready(()) };
                match self.machine.stray_error(&event, session) {
                    None => self.machine.handle_event(now, event),
                    Some(error) => {
                        let error = session.fail(error);
                        self.lose(error);
                    }
                }
            }
            LinkEvent::Notifications => self.machine.handle_notifications(),
            LinkEvent::Other => {}
            LinkEvent::Lost(error) => self.lose(error),
        }
        Poll::Ready(())
    }

    /// Handles the loss of the session.
    fn lose(&mut self, error: Error) {
        self.link.clear();
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
                NotifierAction::Open => self.link.open(),
                NotifierAction::CancelOpening => self.link.clear(),
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
