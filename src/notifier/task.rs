//! The shell around the pipeline: it carries requests, bytes and time, and decides nothing.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::sync::{mpsc, oneshot};

use super::gate::Shared;
use super::pipeline::Pipeline;
use super::request::Request;
use crate::Error;
use crate::net::{self, Driver, Step, Timer};

/// Most requests that are taken before the socket gets its turn. Tokio lets a task do 128 things at a
/// time: requests without end must leave some of them for reading and writing.
const REQUESTS_AT_ONCE: usize = 64;

/// Drives the connection for as long as there is a notifier.
pub(super) struct Task {
    /// Dropped first, which sets the cause: a call whose reply is dropped returns that cause.
    shared: Shut,
    driver: Driver,
    pipeline: Pipeline,
    requests: mpsc::UnboundedReceiver<Request>,
    closes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    timer: Timer,
    /// There will be no more requests.
    is_drained: bool,
    /// The calls that wait for the end.
    closing: Vec<oneshot::Sender<()>>,
}

/// What ended the task's work.
enum End {
    Lost(Error),
    Closed,
}

impl Task {
    pub(super) fn new(
        driver: Driver,
        pipeline: Pipeline,
        requests: mpsc::UnboundedReceiver<Request>,
        closes: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            shared: Shut(shared),
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
        // The waker of a call is code of the user and may panic.
        let end = poll_fn(|cx| {
            let polled = catch_unwind(AssertUnwindSafe(|| self.poll(cx)));
            polled.unwrap_or_else(|payload| {
                let cause = Error::panicked("the task of the notifier", &*payload);
                Poll::Ready(End::Lost(cause))
            })
        });
        match end.await {
            End::Lost(cause) => {
                self.shared.0.end(cause.clone());
                self.pipeline.wrote(net::now(), self.driver.written());
                self.pipeline.end(&cause);
            }
            End::Closed => self.driver.close().await,
        }
        for reply in self.closing.drain(..) {
            let _ = reply.send(());
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        self.poll_closes(cx);
        self.poll_requests(cx);
        loop {
            self.pipeline.start(net::now(), &mut self.driver.session);
            if self.is_drained && self.pipeline.is_idle() {
                return Poll::Ready(End::Closed);
            }
            let step = self.driver.poll_step(cx);
            let now = net::now();
            self.pipeline.wrote(now, self.driver.written());
            match step {
                Poll::Ready(Ok(Step::Event(event))) => self.pipeline.handle_event(now, event),
                Poll::Ready(Ok(Step::Private)) => {}
                // Nothing is listened to: none of ours.
                Poll::Ready(Ok(Step::Run(run))) => self.driver.input.advance(run.bytes),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Lost(error)),
                // Only now: an answer that is there was in time.
                Poll::Pending => {
                    if !self.timer.poll(cx, self.pipeline.poll_timeout()) {
                        return Poll::Pending;
                    }
                    if let Some(error) = self.pipeline.handle_timeout(net::now()) {
                        return Poll::Ready(End::Lost(self.driver.session.fail(error)));
                    }
                }
            }
        }
    }

    /// These come past the queue: it may be full.
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
                    // Closed, or every notifier was dropped.
                    self.is_drained = true;
                    return self.shut();
                }
                Poll::Pending => return,
            }
        }
        // Perhaps there are more.
        cx.waker().wake_by_ref();
    }

    /// What was accepted is sent, and nothing else.
    fn shut(&mut self) {
        self.shared.0.shut();
        self.requests.close();
        self.pipeline.close(net::now());
    }
}

/// With the task ends the queue, also when the runtime ends before the notifier.
struct Shut(Arc<Shared>);

impl Drop for Shut {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
