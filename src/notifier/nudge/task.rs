//! The task of nudges: it carries bytes and time to the machine, which decides.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use super::machine::{NudgeAction, NudgeMachine};
use super::shared::NudgeShared;
use super::target::{NudgeSource, NudgeTarget};
use crate::error::{Error, contain};
use crate::net::{self, Timer};
use crate::notifier::link::{LinkEvent, TaskLink};

/// The task that drives the session of the nudges. It is started by the first nudge.
pub(super) struct NudgeTask {
    shared: AbandonOnDrop,
    link: TaskLink,
    machine: NudgeMachine,
    /// The current session, if consumers of this process can recognize its notifications.
    source: Option<NudgeSource>,
    timer: Timer,
}

impl NudgeTask {
    pub(super) fn new(link: TaskLink, machine: NudgeMachine, shared: Arc<NudgeShared>) -> Self {
        let (source, timer) = (None, Timer::default());
        Self { shared: AbandonOnDrop(shared), link, machine, source, timer }
    }

    pub(super) async fn run(mut self) {
        let end = poll_fn(|cx| {
            let polled = contain(|| self.poll(cx));
            polled.unwrap_or_else(|panic| {
                Poll::Ready(Err(Error::panicked("the task of the nudges", &panic)))
            })
        });
        match end.await {
            Err(cause) => {
                self.shared.0.end(Some(cause.clone()));
                // After a panic the machine has not ended.
                self.machine.end(cause, &mut self.shared.0.lock().pending);
                self.act();
                self.link.clear();
                self.set_source(None);
                self.link.close().await;
            }
            Ok(()) => {
                self.link.close().await;
                self.shared.0.end(None);
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        {
            let mut state = self.shared.0.lock();
            state.waker = Some(cx.waker().clone());
            if state.is_closing() {
                self.machine.close(net::now());
            }
        }
        loop {
            let now = net::now();
            self.machine.start(now, self.link.session(), &mut self.shared.0.lock().pending);
            if let Some(end) = self.act() {
                return Poll::Ready(end);
            }
            if self.poll_link(cx).is_ready() {
                continue;
            }
            // Deadlines are checked only when nothing is left to read: an answer that has arrived is in time.
            let timeout = self.machine.poll_timeout(&self.shared.0.lock().pending);
            if !self.timer.poll(cx, timeout) {
                return Poll::Pending;
            }
            let error = self.machine.handle_timeout(net::now(), &mut self.shared.0.lock().pending);
            if let Some(error) = error {
                // The command is cancelled while there is a session.
                if let Some(end) = self.act() {
                    return Poll::Ready(end);
                }
                self.end_session(error);
            }
        }
    }

    /// Ends the session, which goes on for the server.
    fn end_session(&mut self, error: Error) {
        let error = match self.link.session() {
            Some(session) => session.fail(error),
            None => error,
        };
        self.lose(error);
    }

    /// Drives the session, or the attempt to open one. Ready when something has happened.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let event = ready!(self.link.poll(cx));
        let now = net::now();
        match event {
            LinkEvent::Opened { source, .. } => {
                self.set_source(source);
                self.machine.handle_opened(now);
            }
            LinkEvent::OpenFailed(error) => {
                self.machine.handle_open_failed(now, error, &mut self.shared.0.lock().pending);
            }
            LinkEvent::Session(event) => {
                let Some(session) = self.link.session() else { return Poll::Ready(()) };
                let error = match self.machine.stray_error(&event, session) {
                    None => {
                        let pending = &mut self.shared.0.lock().pending;
                        self.machine.handle_event(now, event, pending)
                    }
                    stray => stray,
                };
                if let Some(error) = error {
                    self.end_session(error);
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
        self.set_source(None);
        self.machine.handle_lost(net::now(), error, &mut self.shared.0.lock().pending);
    }

    fn set_source(&mut self, source: Option<NudgeSource>) {
        if let Some(ended) = std::mem::replace(&mut self.source, source) {
            self.each_target(|target| target.session_ended(&ended));
        }
    }

    fn each_target(&self, call: impl Fn(&dyn NudgeTarget)) {
        self.shared.0.targets.each(|target| {
            call(target);
            true
        });
    }

    /// Performs the actions of the machine. Returns how the nudges end, if they do.
    fn act(&mut self) -> Option<Result<(), Error>> {
        let mut end = None;
        loop {
            let action = {
                let mut state = self.shared.0.lock();
                state.of_machine = self.machine.counts;
                self.machine.poll_action(&state.pending)
            };
            let Some(action) = action else { return end };
            match action {
                NudgeAction::Open => self.link.open(),
                NudgeAction::CancelOpening => self.link.clear(),
                NudgeAction::CancelCommand => self.link.cancel_command(),
                NudgeAction::Sent { nudges, is_repeat: false } => {
                    if let Some(source) = &self.source {
                        self.each_target(|target| target.sent(source, &nudges));
                    }
                }
                // A consumer may get its notification twice, or that of another session with the same process id.
                NudgeAction::Sent { is_repeat: true, .. } => {}
                NudgeAction::Refused(nudges) => {
                    if let Some(source) = &self.source {
                        self.each_target(|target| target.refused(source, &nudges));
                    }
                }
                NudgeAction::Dropped(error) => self.shared.0.dropped(error),
                NudgeAction::Failed(error) => self.shared.0.failed(error),
                NudgeAction::End(result) => {
                    if let Err(cause) = &result {
                        self.shared.0.end(Some(cause.clone()));
                    }
                    end = Some(result);
                }
            }
        }
    }
}

/// Ends the nudges when the task is dropped, also if the runtime ends before the notifier.
struct AbandonOnDrop(Arc<NudgeShared>);

impl Drop for AbandonOnDrop {
    fn drop(&mut self) {
        self.0.abandon();
    }
}
