//! [`Lane`]: a channel or a topic, its handlers, and the task that calls them one after the other.

use std::future::poll_fn;
use std::mem;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::failure::FailedInput;
use super::handler::{Handler, Reports};
use super::key::LaneKey;
use super::loss::DispatchLoss;
use super::phase::Phase;
use super::run::Run;
use super::shared::DispatcherShared;
use super::source::{Item, Received, Source, notification_bytes};
use super::until::until;
use crate::error::Error;
use crate::notification::{Loss, Notification};

/// The number of notifications for which a lane keeps memory between two steps.
const STEP_KEPT: usize = 4;

/// A lane, which handles one step after the other: one notification, or as many as a batch may have.
#[derive(Debug)]
pub(super) struct Lane {
    /// `None`: it only has losses.
    pub(super) key: Option<LaneKey>,
    pub(super) handlers: Vec<Handler>,
    pub(super) reports: Arc<Reports>,
    pub(super) source: Source,
    pub(super) shared: Arc<DispatcherShared>,
    /// The notifications of the current step.
    step: Vec<Notification>,
    /// What follows the current step.
    next: Option<Received>,
}

impl Lane {
    pub(super) fn new(
        key: Option<LaneKey>,
        handlers: Vec<Handler>,
        reports: Arc<Reports>,
        source: Source,
        shared: Arc<DispatcherShared>,
    ) -> Self {
        Self { key, handlers, reports, source, shared, step: Vec::new(), next: None }
    }

    /// Handles notifications and losses until the dispatcher stops or the source ends. Returns the cause of the end.
    pub(super) async fn run(mut self) -> Option<Error> {
        let limit = step_limit(&self.handlers);
        let cause = loop {
            match self.receive().await {
                Received::Item(Item::Notification(first)) => {
                    self.fill_step(first, limit);
                    if self.handle_step().await.is_break() {
                        break None;
                    }
                }
                Received::Item(Item::Loss(loss)) => {
                    if self.handle_loss(loss).await.is_break() {
                        break None;
                    }
                }
                Received::End(cause) => break cause,
            }
        };
        self.shared.counters.unread.add(self.source.unread());
        cause
    }

    /// Waits for the next item. A stop is the end.
    async fn receive(&mut self) -> Received {
        if let Some(next) = self.next.take() {
            return next;
        }
        loop {
            let shared = self.shared.clone();
            let ending = if self.source.is_unfenced() { Phase::Fenced } else { Phase::Stopping };
            let source = &mut self.source;
            let received = poll_fn(|cx| source.poll_next(cx));
            match until(shared.reached(ending), received).await {
                Some(received) => {
                    self.count(&received);
                    return received;
                }
                None if shared.phase() < Phase::Stopping && self.source.fence() => {}
                None => return Received::End(None),
            }
        }
    }

    /// Fills the step with `first` and what has arrived behind it, up to a loss, or to the limit of bytes: otherwise one that arrives
    /// while the step is taken out of the queue could always be added.
    fn fill_step(&mut self, first: Notification, limit: usize) {
        self.step.clear();
        let mut bytes = notification_bytes(&first);
        self.step.push(first);
        while self.step.len() < limit && bytes < self.shared.lane_bytes {
            let Some(item) = self.source.try_next() else { return };
            let received = Received::Item(item);
            self.count(&received);
            match received {
                Received::Item(Item::Notification(notification)) => {
                    bytes = bytes.saturating_add(notification_bytes(&notification));
                    self.step.push(notification);
                }
                loss => {
                    self.next = Some(loss);
                    return;
                }
            }
        }
    }

    /// Counts what comes from a subscription. The reader of a listener counts what it puts into a queue.
    fn count(&self, received: &Received) {
        if let (Source::Subscription(_), Received::Item(item)) = (&self.source, received) {
            match item {
                Item::Notification(_) => self.shared.counters.received.add(1),
                Item::Loss(_) => self.shared.counters.losses.add(1),
            }
        }
    }

    /// Calls every handler with the notifications of the step.
    async fn handle_step(&mut self) -> ControlFlow<()> {
        let key = self.key.as_ref();
        for (number, handler) in self.handlers.iter().enumerate() {
            let (shared, reports) = (&*self.shared, &*self.reports);
            let run = Run { shared, reports, key, handler: Some(number) };
            match handler {
                Handler::Single(function) => {
                    for notification in &self.step {
                        let call = || function(notification.clone());
                        let input = || FailedInput::Notifications(vec![notification.clone()]);
                        run.execute(call, input).await?;
                    }
                }
                Handler::Batch(_, function) => {
                    let call = || function(self.step.clone());
                    let input = || FailedInput::Notifications(self.step.clone());
                    run.execute(call, input).await?;
                }
            }
        }
        self.shared.counters.handled.add(self.step.len() as u64);
        self.source.handled(self.step.len());
        // The payloads and the memory of a large batch are not kept.
        self.step.clear();
        self.step.shrink_to(STEP_KEPT);
        ControlFlow::Continue(())
    }

    /// Calls the loss handler.
    async fn handle_loss(&self, loss: Loss) -> ControlFlow<()> {
        if let Some(on_loss) = &self.reports.loss {
            let (shared, reports) = (&*self.shared, &*self.reports);
            let run = Run { shared, reports, key: self.key.as_ref(), handler: None };
            let call = || on_loss(DispatchLoss::new(loss.clone(), self.key.clone()));
            run.execute(call, || FailedInput::Loss(loss.clone())).await?;
        }
        self.source.handled(1);
        ControlFlow::Continue(())
    }
}

impl Drop for Lane {
    /// Drops what the handlers have captured, which is of the user. Each one alone: a second panic while the first one unwinds would end the
    /// process. The last lane drops the handlers of losses and failures.
    fn drop(&mut self) {
        for handler in mem::take(&mut self.handlers) {
            self.shared.drop_contained(handler);
        }
        if let Some(Reports { loss, failure }) = Arc::into_inner(mem::take(&mut self.reports)) {
            self.shared.drop_contained(loss);
            self.shared.drop_contained(failure);
        }
    }
}

/// Returns the number of notifications of a step: what every handler accepts at once. Without a batch handler it is one, so that all handlers
/// of a notification have ended before the next one.
fn step_limit(handlers: &[Handler]) -> usize {
    let limits = handlers.iter().filter_map(|handler| match handler {
        Handler::Single(_) => None,
        Handler::Batch(limit, _) => Some(*limit),
    });
    limits.min().unwrap_or(1)
}
