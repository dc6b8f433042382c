//! [`ListenerTask`]: the task of a listener. It is the driver of the supervisor: it carries bytes and time to it, and performs its
//! actions.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::command_queue::{CallRoom, HandleCall, QueuedCall, ReplySender};
use super::environment::Environment;
use super::hook::Hooks;
use super::links::Links;
use super::shared::ListenerShared;
use crate::error::{Error, ErrorKind, Panic, contain};
use crate::net::ReadWait;
use crate::proto::supervisor::{
    Action, Close, Command, CommandNumber, LinkEvent, LinkId, State, Supervisor,
};
use crate::queue::counters;

/// The highest number of requests that are handled in one poll. Tokio gives a task a budget of 128 operations for each poll: many
/// requests must leave some of it for reading and writing.
const REQUESTS_AT_ONCE: usize = 32;

/// The task of a listener. It runs until the listener ends.
#[must_use]
pub(crate) struct ListenerTask<E: Environment> {
    pub(crate) environment: E,
    pub(crate) supervisor: Supervisor<E::Sink>,
    links: Links<E>,
    pub(crate) requests: mpsc::UnboundedReceiver<QueuedCall>,
    /// The commands that are not answered, with the room that they take.
    replies: BTreeMap<CommandNumber, (ReplySender, Option<CallRoom>)>,
    next_command: u64,
    shared: Arc<ListenerShared>,
    /// Sent when every channel is active for the first time and the first run of the hook has succeeded. Dropped with the
    /// task if that does not happen.
    connected: Option<oneshot::Sender<()>>,
    timer: E::Timer,
    hooks: Hooks<E>,
    done: bool,
}

impl<E: Environment> ListenerTask<E> {
    pub(crate) fn new(
        environment: E,
        mut supervisor: Supervisor<E::Sink>,
        requests: mpsc::UnboundedReceiver<QueuedCall>,
        shared: Arc<ListenerShared>,
        connected: oneshot::Sender<()>,
    ) -> Self {
        Self {
            links: Links::new(supervisor.sink()),
            environment,
            supervisor,
            requests,
            replies: BTreeMap::new(),
            next_command: 0,
            shared,
            connected: Some(connected),
            timer: E::Timer::default(),
            hooks: Hooks::new(),
            done: false,
        }
    }

    /// Ends the listener after a panic. The supervisor is not called again.
    #[cold]
    pub(super) fn panicked(&mut self, panic: &Panic) {
        self.end_by_panic(panic);
        self.done = true;
    }

    #[cold]
    fn end_by_panic(&self, panic: &Panic) {
        let task = format!("the task of the {}", self.shared.owner());
        self.shared.end(Error::panicked(&task, panic));
    }

    /// Performs the actions of the supervisor.
    fn act(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            // The error first, then the counters, then the effect of the action: a user that observes one of them also
            // finds those before it.
            if let Action::Log(event) = &action {
                self.shared.record(event);
            }
            if is_visible(&action) {
                self.update_counters();
            }
            self.environment.before_action(&action, &self.supervisor);
            match action {
                Action::Open { link } => {
                    let attempt = self.supervisor.counters().attempts;
                    self.links.open(link, self.environment.open(link, attempt));
                }
                Action::Read { link, on } => {
                    if let Some(current) = self.links.get(link) {
                        current.reading = on;
                        if on {
                            self.handle_bytes(link);
                        }
                    }
                }
                Action::Deliver { link } => {
                    self.links.deliver(link, self.supervisor.sink());
                    self.environment.delivers(self.links.socket(), self.supervisor.sink());
                }
                Action::Close { link, how: Close::Graceful } => {
                    if let Some(current) = self.links.get(link) {
                        current.close();
                    }
                }
                Action::Close { link, how: Close::Abort } => self.links.abort(link),
                Action::RunHook(live) => self.hooks.start(live),
                Action::CancelHook => self.hooks.cancel(&mut self.environment),
                Action::Log(_) => {}
                Action::Release { number } => self.release(number),
                Action::Reply { id, result } => {
                    if let Some((reply, _room)) = self.replies.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Action::RefuseCommands(refusal) => self.shared.room.refuse_commands(&refusal),
                // This state is set when the task ends: then the cause is stored, and no hook runs.
                Action::State(State::Closed) => {}
                Action::State(state) => self.shared.set_state(state),
                Action::Done(result) => {
                    if let Err(cause) = result {
                        self.shared.end(cause);
                    }
                    self.done = true;
                }
            }
        }
        self.update_counters();
        if self.supervisor.has_begun()
            && let Some(connected) = self.connected.take()
        {
            let _ = connected.send(());
        }
        self.environment.after_actions(&self.shared);
    }

    /// Publishes the notifications that were held back.
    fn release(&mut self, number: u64) {
        if self.supervisor.prepare_release(number) {
            self.update_counters();
            self.supervisor.release();
        }
    }

    /// Ends the listener when the task is dropped early. Notifications that were read are delivered, or counted as lost.
    #[cold]
    fn end_early(&mut self) {
        let result = match self.supervisor.is_ending() {
            true => Ok(()),
            false => {
                let owner = self.shared.owner();
                let cause =
                    format!("the runtime of the {owner} has ended, or its task was dropped");
                Err(Error::new(ErrorKind::Closed, cause))
            }
        };
        if let Err(cause) = &result
            && self.supervisor.has_session()
        {
            self.input().close_because(cause.clone());
            self.act();
        }
        self.input().finish(result);
        self.act();
    }

    fn update_counters(&self) {
        self.shared.counters.set_from_supervisor(&self.supervisor.counters());
        // Here, because a handover changes it, and not the state.
        self.shared.set_process_id(self.supervisor.process_id());
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        for _ in 0..REQUESTS_AT_ONCE {
            let Poll::Ready(request) = self.requests.poll_recv(cx) else { return };
            // The listener and all its handles were dropped.
            let Some(QueuedCall { call, room }) = request else {
                return self.command(CommandNumber(u64::MAX), Command::Close);
            };
            match call {
                HandleCall::Command(command, reply) => {
                    let id = CommandNumber(self.next_command);
                    self.next_command = self.next_command.wrapping_add(1);
                    self.replies.extend(reply.map(|reply| (id, (reply, room))));
                    self.command(id, command);
                }
                HandleCall::Channels(reply) => {
                    let channels = self.supervisor.channels();
                    let _ = reply.send(channels.map(|(n, s)| (n.to_owned(), s)).collect());
                }
            }
        }
        // There may be more requests.
        cx.waker().wake_by_ref();
    }

    /// Returns the supervisor, which knows the time. Every input is given to it here.
    fn input(&mut self) -> &mut Supervisor<E::Sink> {
        self.supervisor.set_now(self.environment.now());
        &mut self.supervisor
    }

    fn command(&mut self, id: CommandNumber, command: Command) {
        self.input().handle_command(id, command);
        self.act();
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready((link, event)) = self.links.poll_opened(cx, &mut self.environment) {
            self.event(link, event);
            // Input that came with the end of the login.
            self.handle_bytes(link);
            self.act();
        }
    }

    fn event(&mut self, link: LinkId, event: LinkEvent) {
        self.input().handle_link(link, event);
        self.act();
    }

    /// Writes to and reads from each link. Returns whether something was read.
    fn poll_links(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_read = false;
        for id in self.links.ids() {
            if let (Some(link), Some(out)) = (self.links.get(id), self.supervisor.transmit(id)) {
                link.poll_write(cx, &mut self.environment, out);
            }
            if let Some(until) = self.supervisor.read_until(id) {
                match self.links.poll_delay(cx, &mut self.environment, id, until) {
                    ReadWait::Pending => continue,
                    ReadWait::Over => {
                        self.input().handle_read_due(id);
                        // The delay is counted even if nothing has arrived.
                        self.update_counters();
                    }
                    ReadWait::None => {}
                }
            }
            let sink = self.supervisor.sink();
            match self.links.poll_read(cx, &mut self.environment, sink, id) {
                Poll::Ready(Ok(bytes)) => {
                    let is_short = self.links.can_wait(&self.environment, id);
                    self.input().handle_read(id, bytes, is_short);
                    counters::add(&self.shared.counters.reads, 1);
                    counters::add(&self.shared.counters.bytes_read, bytes as u64);
                    self.handle_bytes(id);
                    self.act();
                }
                Poll::Ready(Err(event)) => self.event(id, event),
                Poll::Pending => continue,
            }
            has_read = true;
        }
        has_read
    }

    pub(crate) fn handle_bytes(&mut self, id: LinkId) {
        let Some((input, received_at)) = self.links.input(id) else { return };
        self.environment.before_input(id);
        self.supervisor.set_now(self.environment.now());
        self.supervisor.handle_bytes(received_at, id, input);
    }

    /// Ends a stall if the consumer has made room. Input that was read already may fill the queue again at once, so this
    /// repeats until the task reads again, or a waker is stored.
    fn poll_room(&mut self, cx: &mut Context<'_>) {
        while self.links.poll_room(cx, self.supervisor.sink()).is_ready() {
            self.input().handle_room();
            self.act();
        }
    }

    /// Begins and polls the hook. If a run has ended, the next one may begin at once, and is polled too.
    fn poll_hook(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.hooks.begin(cx, &mut self.environment, self.links.socket()) {
                self.input().handle_hook_begun();
            }
            let Poll::Ready(result) = self.hooks.poll(cx, &mut self.environment) else { return };
            self.input().handle_hook(result);
            self.act();
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.supervisor.poll_timeout();
        self.environment.poll_timer(cx, &mut self.timer, deadline)
    }
}

/// Returns whether a user can observe the effect of the action. After one that is not visible, the error that belongs to a
/// counter may still follow.
fn is_visible(action: &Action) -> bool {
    !matches!(
        action,
        Action::Open { .. } | Action::Close { .. } | Action::RunHook(_) | Action::CancelHook
    )
}

impl<E: Environment> Future for ListenerTask<E> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        if task.done {
            return task.hooks.poll_ended(cx, &mut task.environment);
        }
        task.supervisor.set_time(task.environment.now(), task.environment.system_time());
        task.act();
        task.poll_requests(cx);
        task.poll_opening(cx);
        task.poll_room(cx);
        task.poll_hook(cx);
        let has_read = task.poll_links(cx);
        // After reading: an answer that has arrived is in time, even if this task runs late.
        let was_due = task.poll_timer(cx);
        if was_due {
            task.input().handle_timeout();
            task.act();
        }
        if task.done {
            return task.hooks.poll_ended(cx, &mut task.environment);
        }
        // The consumer runs after each read. If a deadline has passed or changed, the task is polled again.
        let is_due = task.poll_timer(cx);
        if has_read || was_due || is_due {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<E: Environment> Drop for ListenerTask<E> {
    /// Ends the listener, with an error if the runtime ended before it, or if this task panicked. The producer is dropped
    /// with the task, so the queue ends after everything that was published.
    fn drop(&mut self) {
        // Wakers are code of the user, and may panic. The state is set in any case.
        let ended = contain(|| {
            if !self.done {
                self.end_early();
            }
        });
        if let Err(panic) = ended {
            self.end_by_panic(&panic);
        }
        // What waits for room, and what is still in the channel, was not sent.
        let closed = self.shared.closed();
        self.shared.room.end(&closed);
        self.requests.close();
        while let Ok(QueuedCall { call, room: _room }) = self.requests.try_recv() {
            call.refuse(closed.clone());
        }
        self.shared.set_state(State::Closed);
    }
}
