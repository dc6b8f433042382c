//! The shell around the supervisor: it carries bytes, time and actions, and decides nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::handle::Request;
use super::hook::Hooks;
use super::links::Links;
use super::outside::Outside;
use super::shared::{Counters, Shared};
use crate::supervisor::{
    Action, Close, Command, CommandId, LinkEvent, LinkId, Reply, Sink, State, Supervisor,
};
use crate::{Error, ErrorKind};

/// Most requests that are handled before the socket gets its turn. Tokio lets a task do 128 things at a
/// time: requests without end must leave some of them for reading and writing.
const REQUESTS_AT_ONCE: usize = 32;

/// Reads the socket for as long as the listener lives.
#[must_use]
pub(super) struct Task<O: Outside> {
    pub(super) outside: O,
    pub(super) supervisor: Supervisor,
    links: Links<O>,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Reply, Error>>>,
    next_command: u64,
    shared: Arc<Shared>,
    /// Told when the first subscription is active and the first run of the hook was successful; dropped with the task
    /// when that will not be.
    connected: Option<oneshot::Sender<()>>,
    timer: O::Timer,
    hooks: Hooks<O>,
    done: bool,
}

impl<O: Outside> Task<O> {
    pub(super) fn new(
        mut outside: O,
        supervisor: Supervisor,
        requests: mpsc::UnboundedReceiver<Request>,
        shared: Arc<Shared>,
        connected: oneshot::Sender<()>,
    ) -> Self {
        Self {
            links: Links::new(&mut outside),
            outside,
            supervisor,
            requests,
            replies: BTreeMap::new(),
            next_command: 0,
            shared,
            connected: Some(connected),
            timer: O::Timer::default(),
            hooks: Hooks::new(),
            done: false,
        }
    }

    /// It has panicked: nothing of it is asked any more.
    #[cold]
    pub(super) fn give_up(&mut self, cause: Error) {
        self.shared.end(cause);
        self.done = true;
    }

    /// Carries out what the supervisor wants.
    fn act(&mut self) {
        while let Some(action) = self.supervisor.poll_action() {
            // The error first, then the figures, then what the action shows: a user that sees one of them finds those
            // before it.
            if let Action::Log(incident) = &action {
                self.shared.tell(incident);
            }
            if is_visible(&action) {
                self.set_figures();
            }
            self.outside.acts(&action, &self.supervisor);
            match action {
                Action::Open { link } => {
                    let attempt = self.supervisor.counters().attempts;
                    self.links.open(link, self.outside.open(link, attempt));
                }
                Action::Read { link, on } => {
                    if let Some(current) = self.links.get(link) {
                        current.reading = on;
                        if on {
                            self.handle_bytes(link);
                        }
                    }
                }
                Action::Deliver { link } => self.links.deliver(link, &mut self.outside),
                Action::Close { link, how: Close::Graceful } => {
                    if let Some(current) = self.links.get(link) {
                        current.close();
                    }
                }
                Action::Close { link, how: Close::Abort } => self.links.abort(link),
                Action::RunHook(live) => self.hooks.start(live),
                Action::CancelHook => self.hooks.cancel(&mut self.outside),
                Action::Log(_) => {}
                Action::Release { number } => self.release(number),
                Action::Reply { id, result } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                // That is told when the task ends: who sees it finds the cause, and no hook that runs.
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
        self.set_figures();
        if self.supervisor.has_begun()
            && let Some(connected) = self.connected.take()
        {
            let _ = connected.send(());
        }
        self.outside.has_acted(&self.shared);
    }

    /// Shows the consumer what was held back.
    fn release(&mut self, number: u64) {
        if let Some(gaps) = self.supervisor.release(number) {
            self.set_figures();
            self.outside.sink().release(gaps);
        }
    }

    /// The task is dropped before its end has come: what was read is delivered or counted, then the end is there.
    #[cold]
    fn leave(&mut self) {
        let result = match self.supervisor.is_ending() {
            true => Ok(()),
            false => {
                let cause = "the runtime of the listener has ended, or its task was dropped";
                Err(Error::new(ErrorKind::Closed, cause))
            }
        };
        if let Err(cause) = &result
            && self.supervisor.has_session()
        {
            self.supervisor.close_because(self.outside.now(), cause.clone());
            self.act();
        }
        self.supervisor.finish(result);
        self.act();
    }

    fn set_figures(&self) {
        self.shared.counters.set_figures(&self.supervisor.counters());
        // A handover changes it, and the state stays as it is.
        self.shared.set_process_id(self.supervisor.process_id());
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        for _ in 0..REQUESTS_AT_ONCE {
            let Poll::Ready(request) = self.requests.poll_recv(cx) else { return };
            match request {
                Some(Request::Command(command, reply)) => {
                    let id = CommandId(self.next_command);
                    self.next_command = self.next_command.wrapping_add(1);
                    self.replies.extend(reply.map(|reply| (id, reply)));
                    self.command(id, command);
                }
                Some(Request::Channels(reply)) => {
                    let channels = self.supervisor.channels();
                    let _ = reply.send(channels.map(|(n, s)| (n.to_owned(), s)).collect());
                }
                // The listener and all its handles are gone.
                None => return self.command(CommandId(u64::MAX), Command::Close),
            }
        }
        // Perhaps there are more.
        cx.waker().wake_by_ref();
    }

    fn command(&mut self, id: CommandId, command: Command) {
        self.supervisor.handle_command(self.outside.now(), id, command);
        self.act();
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready((link, event)) = self.links.poll_opened(cx, &mut self.outside) {
            self.event(link, event);
            // What came right behind the login.
            self.handle_bytes(link);
            self.act();
        }
    }

    fn event(&mut self, link: LinkId, event: LinkEvent) {
        self.supervisor.handle_link(self.outside.now(), link, event, self.outside.sink());
        self.act();
    }

    /// Writes and reads. Returns whether something was read.
    fn poll_links(&mut self, cx: &mut Context<'_>) -> bool {
        let mut has_read = false;
        for id in self.links.ids() {
            if let (Some(link), Some(out)) = (self.links.get(id), self.supervisor.transmit(id)) {
                link.poll_write(cx, &mut self.outside, out);
            }
            match self.links.poll_read(cx, &mut self.outside, id) {
                Poll::Ready(Ok(bytes)) => {
                    Counters::add(&self.shared.counters.reads, 1);
                    Counters::add(&self.shared.counters.bytes_read, bytes as u64);
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

    pub(super) fn handle_bytes(&mut self, id: LinkId) {
        let Some((input, received_at)) = self.links.input(id) else { return };
        self.outside.handles(id);
        let now = self.outside.now();
        self.supervisor.handle_bytes(now, received_at, id, input, self.outside.sink());
    }

    /// While the socket is left unread: has the consumer made room? What was read already may fill it
    /// again at once, so this ends with reading on or with a waker left.
    fn poll_room(&mut self, cx: &mut Context<'_>) {
        while self.links.poll_room(cx, &mut self.outside).is_ready() {
            self.supervisor.handle_room(self.outside.now());
            self.act();
        }
    }

    /// One that has ended may be followed by the next at once, which is to be polled too.
    fn poll_hook(&mut self, cx: &mut Context<'_>) {
        loop {
            if self.hooks.begin(cx, &mut self.outside, self.links.socket()) {
                self.supervisor.handle_hook_begun(self.outside.now());
            }
            let Poll::Ready(result) = self.hooks.poll(cx, &mut self.outside) else { return };
            self.supervisor.handle_hook(self.outside.now(), result, self.outside.sink());
            self.act();
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let deadline = self.supervisor.poll_timeout();
        self.outside.poll_timer(cx, &mut self.timer, deadline)
    }
}

/// Whether a user can see what the action does. An error that belongs to the figures may come behind one that is not.
fn is_visible(action: &Action) -> bool {
    !matches!(
        action,
        Action::Open { .. } | Action::Close { .. } | Action::RunHook(_) | Action::CancelHook
    )
}

impl<O: Outside> Future for Task<O> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        if task.done {
            return task.hooks.poll_gone(cx, &mut task.outside);
        }
        task.supervisor.set_time(task.outside.now(), task.outside.time());
        task.act();
        task.poll_requests(cx);
        task.poll_opening(cx);
        task.poll_room(cx);
        task.poll_hook(cx);
        let has_read = task.poll_links(cx);
        // After reading: an answer that is there was in time, however late we come for it.
        let was_due = task.poll_timer(cx);
        if was_due {
            task.supervisor.handle_timeout(task.outside.now(), task.outside.sink());
            task.act();
        }
        if task.done {
            return task.hooks.poll_gone(cx, &mut task.outside);
        }
        // After each read the consumer gets its turn. A deadline that has moved is looked at once more, and what it has changed too.
        let is_due = task.poll_timer(cx);
        if has_read || was_due || is_due {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl<O: Outside> Drop for Task<O> {
    /// Also when the runtime ends before the listener, or something in here has panicked: then with a cause. The
    /// producer goes with the task, and so the queue ends after what was published.
    fn drop(&mut self) {
        // Wakers are code of the user. Whatever they do, the end comes, and waits for nothing.
        let left = catch_unwind(AssertUnwindSafe(|| {
            if !self.done {
                self.leave();
            }
            // What was not taken was not sent.
            self.requests.close();
            while let Ok(request) = self.requests.try_recv() {
                if let Request::Command(_, Some(reply)) = request {
                    let _ = reply.send(Err(self.shared.closed()));
                }
            }
        }));
        if let Err(payload) = left {
            self.shared.end(Error::panicked("the task of the listener", &*payload));
        }
        self.shared.set_state(State::Closed);
    }
}
