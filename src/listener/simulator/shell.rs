//! The world as the task of the listener has it: its clock, its sockets, its hook, and who polls it.

use std::cell::RefCell;
use std::future::Future;
use std::panic::resume_unwind;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Instant, SystemTime};

use bytes::BytesMut;
use tokio::sync::{mpsc, oneshot};

use super::World;
use super::alarms::Alarm;
use super::connection::Packet;
use super::hook::Run;
use super::witness::Witness;
use crate::listener::handle::Request;
use crate::listener::outside::{Opened, Outside};
use crate::listener::shared::Shared;
use crate::listener::sink::RingSink;
use crate::listener::task::Task;
use crate::supervisor::{Action, LinkEvent, LinkId, Live, State, Supervisor};
use crate::{Error, ErrorKind};

/// More calls at one moment are no progress.
const CALLS_MAX: u32 = 3_000;

/// What the task is made of, besides the world.
pub(super) struct Inside {
    pub(super) supervisor: Supervisor,
    pub(super) requests: mpsc::UnboundedReceiver<Request>,
    pub(super) connected: oneshot::Sender<()>,
}

/// Our end of a connection, in the hands of the task. That it is dropped is how the world knows that it is closed.
pub(super) struct End {
    index: usize,
    dropped: Option<Rc<RefCell<Vec<usize>>>>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.borrow_mut().push(self.index);
        }
    }
}

impl Outside for &mut World {
    type Opening = End;
    type Socket = End;
    type Run = Run;
    type Timer = Alarm;
    type Sink = Witness;

    fn now(&self) -> Instant {
        self.clock.instant()
    }

    fn time(&self) -> SystemTime {
        self.clock.wall()
    }

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Alarm,
        deadline: Option<Instant>,
    ) -> bool {
        self.look_at_alarm(cx, timer, deadline)
    }

    fn sink(&mut self) -> &mut Witness {
        &mut self.sink
    }

    fn ring(&mut self) -> &mut RingSink {
        &mut self.sink.ring
    }

    fn open(&mut self, link: LinkId, attempt: u64) -> End {
        self.settle();
        let index = self.begin(link);
        if attempt != self.connections.len() as u64 {
            self.fail(format!("connection {index} is told as attempt {attempt}"));
        }
        End { index, dropped: Some(self.dropped.clone()) }
    }

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        opening: &mut End,
    ) -> Poll<Result<Opened<End>, Error>> {
        let index = opening.index;
        match self.go_on_logging_in(index) {
            Poll::Ready(Ok(session)) => {
                let rest = std::mem::take(&mut self.connections[index].input);
                let socket = End { index, dropped: opening.dropped.take() };
                Poll::Ready(Ok(Opened { session, socket, rest }))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.connections[index].reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut End,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        self.read(cx, socket.index, input)
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut End,
        out: &mut BytesMut,
    ) -> Poll<()> {
        let index = socket.index;
        if out.is_empty() {
            return Poll::Ready(());
        }
        if self.connections[index].is_shut {
            self.fail(format!("connection {index} is written, and was shut"));
        }
        self.write(index, out);
        if out.is_empty() {
            return Poll::Ready(());
        }
        self.connections[socket.index].writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>, socket: &mut End) -> Poll<()> {
        let index = socket.index;
        if !self.connections[index].is_closing {
            self.fail(format!("connection {index} is shut, and nobody asked for it"));
        }
        if std::mem::replace(&mut self.connections[index].is_shut, true) {
            self.fail(format!("connection {index} is shut twice"));
        }
        self.put(index, true, Packet::Fin);
        Poll::Ready(())
    }

    fn run_hook(&mut self, _socket: Option<&End>, _live: Live) -> Option<Run> {
        self.plan.has_hook.then(|| self.start_hook())
    }

    fn poll_hook(&mut self, cx: &mut Context<'_>, run: &mut Run) -> Poll<Result<(), Error>> {
        self.look_at_hook(cx, run)
    }

    fn cancel_hook(&mut self, run: &mut Run) {
        self.stop_hook(run);
    }

    fn handles(&mut self, link: LinkId) {
        self.sink.connection = self.links[&link];
    }

    fn acts(&mut self, action: &Action, supervisor: &Supervisor) {
        self.settle();
        self.count_call();
        self.note(action, supervisor);
    }

    fn has_acted(&mut self, _shared: &Shared) {
        self.settle();
        self.count_call();
        self.check_taken();
        if std::mem::take(&mut self.sink.drops_too_early) {
            self.fail("notifications were dropped though the socket could be left unread");
        }
        let (state, is_held) = (self.shared.state(), self.sink.is_held);
        let is_wrong = match state {
            State::Connected => is_held,
            State::CatchingUp => !is_held,
            State::Connecting | State::Reconnecting | State::Closed => false,
        };
        if is_wrong && self.done.is_none() && !self.is_closing && !self.is_dropped {
            self.fail(format!(
                "the state is {state:?}, and notifications are held back: {is_held}"
            ));
        }
    }
}

impl World {
    /// Our ends that the task has dropped are closed.
    pub(super) fn settle(&mut self) {
        loop {
            let Some(index) = self.dropped.borrow_mut().pop() else { return };
            self.drop_connection(index);
        }
    }

    pub(super) fn count_call(&mut self) {
        let now = self.clock.now();
        if self.calls.0 != now {
            self.calls = (now, 0);
        }
        self.calls.1 += 1;
        if self.calls.1 > CALLS_MAX {
            self.fail("the task is called without end and time does not pass: it spins");
        }
        if self.calls.1 > 2 * CALLS_MAX {
            // Within one poll: nothing else ends that.
            resume_unwind(Box::new("the task spins"));
        }
    }
}

/// Whether the task goes on. It does not when it has ended.
pub(super) fn poll(task: &mut Task<&mut World>) -> bool {
    let world = &mut *task.outside;
    world.is_scheduled = false;
    world.count_call();
    let was_done = world.done.is_some();
    let waker = Waker::from(world.bell.clone());
    let polled = Pin::new(&mut *task).poll(&mut Context::from_waker(&waker));
    let Task { outside, supervisor, requests, .. } = task;
    outside.settle();
    if !was_done {
        outside.accepted = outside.next_command - requests.len() as u64;
        outside.is_end_known = outside.is_closing && requests.is_empty();
    }
    outside.check_told(supervisor);
    polled.is_pending()
}

/// Calls that the supervisor has no use for: nothing is due, nothing has room, no hook runs, nothing was read.
pub(super) fn call_for_nothing(task: &mut Task<&mut World>) {
    let Task { outside: world, supervisor, .. } = task;
    let now = world.clock.instant();
    supervisor.set_time(now, world.clock.wall());
    let is_closed = |&index: &usize| world.connections[index].is_closed();
    let closed: Vec<usize> = (0..world.connections.len()).filter(is_closed).collect();
    if !closed.is_empty() {
        let index = world.random.pick(&closed);
        let event = match world.random.below(3) {
            0 => LinkEvent::Eof,
            1 => LinkEvent::Closed,
            _ => LinkEvent::Failed(Error::new(ErrorKind::Connect, "too late (simulated)")),
        };
        let link = world.connections[index].link;
        supervisor.handle_link(now, link, event, &mut world.sink);
    }
    if supervisor.poll_timeout().is_none_or(|due| due > now) {
        supervisor.handle_timeout(now, &mut world.sink);
    }
    if world.stalled().is_none() {
        supervisor.handle_room(now);
    }
    if world.hook.running.is_none() && !world.hook.is_asked {
        supervisor.handle_hook(now, Ok(()), &mut world.sink);
    }
    let delivering = world.current().map(|index| world.connections[index].link);
    if let Some(link) = delivering {
        task.handle_bytes(link);
    }
    Arc::clone(&task.outside.bell).wake();
}
