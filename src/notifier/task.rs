//! The task of a notifier: it carries requests, bytes and time to the pipeline, which decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::sync::{mpsc, oneshot};

use super::pipeline::NotifierPipeline;
use super::queue::NotifierShared;
use super::request::Request;
use crate::error::{Error, contain};
use crate::net::{self, Driver, DriverEvent, Timer};

/// The largest number of requests that are taken before the socket is polled. Tokio's cooperative budget is 128
/// operations per poll of a task: a constant stream of requests must leave some of them for reading and writing.
const REQUESTS_AT_ONCE: usize = 64;

/// The task that drives the connection as long as a clone of the notifier exists.
pub(super) struct NotifierTask {
    /// Must be dropped first. That sets the cause, which calls return whose reply is dropped.
    shared: ShutOnDrop,
    driver: Driver,
    pipeline: NotifierPipeline,
    requests: mpsc::UnboundedReceiver<Request>,
    closes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    timer: Timer,
    /// All requests were received.
    is_drained: bool,
    /// The `close` calls that wait for the end of the task.
    closing: Vec<oneshot::Sender<()>>,
}

/// Why the task ends.
enum TaskEnd {
    Lost(Error),
    Closed,
}

impl NotifierTask {
    pub(super) fn new(
        driver: Driver,
        pipeline: NotifierPipeline,
        requests: mpsc::UnboundedReceiver<Request>,
        closes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
        shared: Arc<NotifierShared>,
    ) -> Self {
        Self {
            shared: ShutOnDrop(shared),
            driver,
            pipeline,
            requests,
            closes,
            timer: Timer::default(),
            is_drained: false,
            closing: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) {
        // The waker of a call is the user's code and may panic.
        let end = poll_fn(|cx| {
            let polled = contain(|| self.poll(cx));
            polled.unwrap_or_else(|panic| {
                let cause = Error::panicked("the task of the notifier", &panic);
                Poll::Ready(TaskEnd::Lost(cause))
            })
        });
        match end.await {
            TaskEnd::Lost(cause) => {
                self.shared.0.end(cause.clone());
                self.pipeline.wrote(net::now(), self.driver.written());
                self.pipeline.end(&cause);
            }
            TaskEnd::Closed => self.driver.close().await,
        }
        for reply in self.closing.drain(..) {
            let _ = reply.send(());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<TaskEnd> {
        self.poll_closes(cx);
        self.poll_requests(cx);
        loop {
            self.pipeline.start(net::now(), &mut self.driver.session);
            if self.is_drained && self.pipeline.is_idle() {
                return Poll::Ready(TaskEnd::Closed);
            }
            let step = self.driver.poll_step(cx);
            let now = net::now();
            self.pipeline.wrote(now, self.driver.written());
            match step {
                Poll::Ready(Ok(DriverEvent::Event(event))) => {
                    self.pipeline.handle_event(now, event);
                }
                Poll::Ready(Ok(DriverEvent::Private)) => {}
                // The session has no LISTEN: the notifications are meant for another client of a pooler.
                Poll::Ready(Ok(DriverEvent::Run(run))) => self.driver.input.advance(run.bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(TaskEnd::Lost(error)),
                // Deadlines are checked only when nothing is left to read: an answer that has arrived is in time.
                Poll::Pending => {
                    if !self.timer.poll(cx, self.pipeline.poll_timeout()) {
                        return Poll::Pending;
                    }
                    if let Some(error) = self.pipeline.handle_timeout(net::now()) {
                        return Poll::Ready(TaskEnd::Lost(self.driver.session.fail(error)));
                    }
                }
            }
        }
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
                Poll::Ready(Some(request)) => self.pipeline.accept(request),
                Poll::Ready(None) => {
                    // Closed, or every clone of the notifier was dropped.
                    self.is_drained = true;
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
        self.pipeline.close(net::now());
    }
}

/// Shuts the queue when the task is dropped, also if the runtime ends before the notifier.
struct ShutOnDrop(Arc<NotifierShared>);

impl Drop for ShutOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
