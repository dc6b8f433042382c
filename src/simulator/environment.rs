//! The simulated environment of the listener's task: its clock, its sockets and its hook, and the code that polls the task.

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

use super::Simulation;
use super::alarms::Alarm;
use super::connection::Packet;
use super::hook::RunningHook;
use super::recording_sink::SharedSink;
use crate::error::{Error, ErrorKind};
use crate::listener::command_queue::QueuedCall;
use crate::listener::environment::{Environment, Opened};
use crate::listener::shared::ListenerShared;
use crate::listener::task::ListenerTask;
use crate::net::ReadWait;
use crate::proto::supervisor::{Action, LinkEvent, LinkId, Live, State, Supervisor};

/// The highest number of calls of the task at one time. More calls mean a busy loop.
const CALLS_MAX: u32 = 3_000;

/// The parts of the task, besides its environment.
pub(super) struct TaskParts {
    pub(super) supervisor: Supervisor<SharedSink>,
    pub(super) requests: mpsc::UnboundedReceiver<QueuedCall>,
    pub(super) connected: oneshot::Sender<()>,
}

/// The client's socket of a connection, which the task owns. Its drop closes the connection.
pub(super) struct ClientSocket {
    index: usize,
    dropped: Option<Rc<RefCell<Vec<usize>>>>,
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if let Some(dropped) = &self.dropped {
            dropped.borrow_mut().push(self.index);
        }
    }
}

impl Environment for &mut Simulation {
    type Opening = ClientSocket;
    type Socket = ClientSocket;
    type RunningHook = RunningHook;
    type Timer = Alarm;
    type Sink = SharedSink;

    fn now(&self) -> Instant {
        self.clock.instant()
    }

    fn system_time(&self) -> SystemTime {
        self.clock.wall_time()
    }

    fn poll_timer(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Alarm,
        deadline: Option<Instant>,
    ) -> bool {
        self.poll_alarm(cx, timer, deadline)
    }

    fn open(&mut self, link: LinkId, attempt: u64) -> ClientSocket {
        self.close_dropped();
        let index = self.begin(link);
        if attempt != self.connections.len() as u64 {
            self.fail(format!("connection {index} is counted as attempt {attempt}"));
        }
        ClientSocket { index, dropped: Some(self.dropped.clone()) }
    }

    fn poll_opening(
        &mut self,
        cx: &mut Context<'_>,
        opening: &mut ClientSocket,
    ) -> Poll<Result<Opened<ClientSocket>, Error>> {
        let index = opening.index;
        match self.continue_login(index) {
            Poll::Ready(Ok(session)) => {
                let rest = std::mem::take(&mut self.connections[index].input);
                let socket = ClientSocket { index, dropped: opening.dropped.take() };
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
        socket: &mut ClientSocket,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, Error>> {
        self.read(cx, socket.index, input)
    }

    fn can_wait(&self, socket: &ClientSocket) -> bool {
        self.connections[socket.index].socket.is_empty()
    }

    fn poll_delay(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
        timer: &mut Alarm,
        until: Instant,
    ) -> ReadWait {
        let begun = self.connections[socket.index].waits_until;
        let has_begun = begun == Some(self.clock.micros(until));
        if !self.poll_alarm(cx, timer, Some(until)) {
            self.delay_read(socket.index, until);
            return ReadWait::Pending;
        }
        if !has_begun {
            return ReadWait::None;
        }
        self.delayed += 1;
        ReadWait::Over
    }

    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut ClientSocket,
        out: &mut BytesMut,
    ) -> Poll<()> {
        let index = socket.index;
        if out.is_empty() {
            return Poll::Ready(());
        }
        if self.connections[index].is_shut {
            self.fail(format!("connection {index} is written after it was shut down"));
        }
        self.write(index, out);
        if out.is_empty() {
            return Poll::Ready(());
        }
        self.connections[socket.index].writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_shutdown(&mut self, _cx: &mut Context<'_>, socket: &mut ClientSocket) -> Poll<()> {
        let index = socket.index;
        if !self.connections[index].is_closing {
            self.fail(format!("connection {index} is shut down without a reason"));
        }
        if std::mem::replace(&mut self.connections[index].is_shut, true) {
            self.fail(format!("connection {index} is shut down twice"));
        }
        self.put(index, true, Packet::Fin);
        Poll::Ready(())
    }

    fn run_hook(&mut self, _socket: Option<&ClientSocket>, _live: Live) -> Option<RunningHook> {
        self.plan.has_hook.then(|| self.start_hook())
    }

    fn poll_hook(
        &mut self,
        cx: &mut Context<'_>,
        run: &mut RunningHook,
    ) -> Poll<Result<(), Error>> {
        self.poll_hook_run(cx, run)
    }

    fn cancel_hook(&mut self, run: &mut RunningHook) {
        self.stop_hook(run);
    }

    fn before_input(&mut self, link: LinkId) {
        self.sink.get_mut().connection = self.links[&link];
    }

    fn before_action(&mut self, action: &Action, supervisor: &Supervisor<SharedSink>) {
        self.close_dropped();
        self.count_call();
        self.record_sent_calls();
        self.record_action(action, supervisor);
    }

    fn after_actions(&mut self, _shared: &ListenerShared) {
        self.close_dropped();
        self.count_call();
        self.check_taken();
        if std::mem::take(&mut self.sink.get_mut().drops_too_early) {
            self.fail("notifications were dropped before the stall had lasted for its maximum");
        }
        let (state, is_held) = (self.shared.state(), self.sink.get().is_held);
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

impl Simulation {
    /// Closes the connections whose sockets the task has dropped.
    pub(super) fn close_dropped(&mut self) {
        loop {
            let Some(index) = self.dropped.borrow_mut().pop() else { return };
            self.drop_connection(index);
        }
    }

    pub(super) fn count_call(&mut self) {
        let now = self.clock.now();
        if self.task_calls.0 != now {
            self.task_calls = (now, 0);
        }
        self.task_calls.1 += 1;
        if self.task_calls.1 > CALLS_MAX {
            self.fail("the task is called too often at one time: it is in a busy loop");
        }
        if self.task_calls.1 > 2 * CALLS_MAX {
            // The loop is within one poll: only a panic can end it.
            resume_unwind(Box::new("the task is in a busy loop"));
        }
    }
}

/// Polls the task. Returns false if it has ended.
pub(super) fn poll(task: &mut ListenerTask<&mut Simulation>) -> bool {
    let simulation = &mut *task.environment;
    simulation.is_scheduled = false;
    simulation.count_call();
    let was_done = simulation.done.is_some();
    let waker = Waker::from(simulation.waker.clone());
    let polled = Pin::new(&mut *task).poll(&mut Context::from_waker(&waker));
    let ListenerTask { environment, supervisor, requests, .. } = task;
    environment.close_dropped();
    environment.record_sent_calls();
    if !was_done {
        environment.record_received_calls(requests.len());
    }
    environment.check_published(supervisor);
    polled.is_pending()
}

/// Calls the supervisor although no deadline has passed, there is no room, no hook runs, and nothing was read.
pub(super) fn make_useless_calls(task: &mut ListenerTask<&mut Simulation>) {
    let ListenerTask { environment: simulation, supervisor, .. } = task;
    let now = simulation.clock.instant();
    supervisor.set_time(now, simulation.clock.wall_time());
    let is_closed = |&index: &usize| simulation.connections[index].is_closed();
    let closed: Vec<usize> = (0..simulation.connections.len()).filter(is_closed).collect();
    if !closed.is_empty() {
        let index = simulation.random.pick(&closed);
        let event = match simulation.random.below(3) {
            0 => LinkEvent::Eof,
            1 => LinkEvent::Closed,
            _ => LinkEvent::Failed(Error::new(ErrorKind::Connect, "too late (simulated)")),
        };
        let link = simulation.connections[index].link;
        supervisor.handle_link(link, event);
    }
    if supervisor.poll_timeout().is_none_or(|due| due > now) {
        supervisor.handle_timeout();
    }
    if simulation.stalled().is_none() {
        supervisor.handle_room();
    }
    if simulation.hook.running.is_none() && !simulation.hook.is_asked {
        supervisor.handle_hook(Ok(()));
    }
    let delivering = simulation.current().map(|index| simulation.connections[index].link);
    if let Some(link) = delivering {
        task.handle_bytes(link);
    }
    Arc::clone(&task.environment.waker).wake();
}
