//! The shell around the supervisor: it carries bytes, time and actions, and decides nothing.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::{mpsc, oneshot};

use super::handle::Request;
use super::link::{self, Link, Opening};
use super::shared::{Counters, Shared};
use super::sink::RingSink;
use crate::net::{self, Timer};
use crate::supervisor::{
    Action, Close, Command, CommandId, LinkEvent, LinkId, Reply, State, Supervisor,
};
use crate::{Config, Error};

/// Most requests that are handled before the socket gets its turn. Tokio lets a task do 128 things at a
/// time: requests without end must leave some of them for reading and writing.
const REQUESTS_AT_ONCE: usize = 32;

/// Reads the socket for as long as the listener lives.
#[must_use]
pub(super) struct Task {
    config: Config,
    supervisor: Supervisor,
    sink: RingSink,
    requests: mpsc::UnboundedReceiver<Request>,
    replies: BTreeMap<CommandId, oneshot::Sender<Result<Reply, Error>>>,
    next_command: u64,
    shared: Arc<Shared>,
    /// Told when the first subscription is active; dropped when there will be none.
    connected: Option<oneshot::Sender<()>>,
    timer: Timer,
    opening: Option<(LinkId, Opening)>,
    link: Option<Link>,
    done: bool,
}

impl Task {
    pub(super) fn new(
        config: Config,
        supervisor: Supervisor,
        sink: RingSink,
        requests: mpsc::UnboundedReceiver<Request>,
        shared: Arc<Shared>,
        connected: oneshot::Sender<()>,
    ) -> Self {
        Self {
            config,
            supervisor,
            sink,
            requests,
            replies: BTreeMap::new(),
            next_command: 0,
            shared,
            connected: Some(connected),
            timer: Timer::default(),
            opening: None,
            link: None,
            done: false,
        }
    }

    /// Carries out what the supervisor wants.
    fn act(&mut self) {
        let mut entered = None;
        while let Some(action) = self.supervisor.poll_action() {
            match action {
                Action::Open { link } => {
                    self.opening = Some((link, link::open(self.config.clone())));
                }
                Action::Read { link, on } => {
                    if let Some(current) = self.link(link) {
                        current.reading = on;
                        if on {
                            self.handle_bytes();
                        }
                    }
                }
                Action::Close { link, how: Close::Graceful } => {
                    if let Some(current) = self.link(link) {
                        current.close();
                    }
                }
                Action::Close { link, how: Close::Abort } => {
                    self.link.take_if(|current| current.id == link);
                    self.opening.take_if(|(id, _)| *id == link);
                }
                Action::Reply { id, result } => {
                    if let Some(reply) = self.replies.remove(&id) {
                        let _ = reply.send(result);
                    }
                }
                Action::State(state) => entered = Some(state),
                Action::Done(result) => {
                    if let Err(cause) = result {
                        self.shared.end(cause);
                    }
                    self.done = true;
                }
            }
        }
        // Last: who sees the end of the listener finds its cause.
        if let Some(state) = entered {
            self.shared.set_process_id(self.supervisor.process_id());
            self.shared.set_state(state);
            // Dropped, and so told, when the first state is the last.
            let waiting = self.connected.take();
            if let Some(connected) = waiting.filter(|_| state == State::Connected) {
                let _ = connected.send(());
            }
        }
    }

    fn link(&mut self, id: LinkId) -> Option<&mut Link> {
        self.link.as_mut().filter(|link| link.id == id)
    }

    fn poll_requests(&mut self, cx: &mut Context<'_>) {
        for _ in 0..REQUESTS_AT_ONCE {
            let Poll::Ready(request) = self.requests.poll_recv(cx) else { return };
            let now = net::now();
            match request {
                Some(Request::Command(command, reply)) => {
                    let id = CommandId(self.next_command);
                    self.next_command = self.next_command.wrapping_add(1);
                    self.replies.extend(reply.map(|reply| (id, reply)));
                    self.supervisor.handle_command(now, id, command);
                    self.act();
                }
                Some(Request::Channels(reply)) => {
                    let channels = self.supervisor.channels();
                    let _ = reply.send(channels.map(|(n, l)| (n.to_owned(), l)).collect());
                }
                // The listener and all its handles are gone.
                None => {
                    self.supervisor.handle_command(now, CommandId(u64::MAX), Command::Close);
                    return self.act();
                }
            }
        }
        // Perhaps there are more.
        cx.waker().wake_by_ref();
    }

    fn poll_opening(&mut self, cx: &mut Context<'_>) {
        let Some((id, opening)) = &mut self.opening else { return };
        let Poll::Ready(result) = opening.as_mut().poll(cx) else { return };
        let id = *id;
        self.opening = None;
        let event = match result {
            Ok(established) => {
                let (session, pipe, rest) = established.driver.into_parts();
                let epoch = self.supervisor.epoch();
                let mut input = self.sink.first_buffer();
                input.extend_from_slice(&rest);
                self.link = Some(Link::new(id, pipe, input, epoch));
                Counters::set(&self.shared.counters.sessions, epoch.into());
                LinkEvent::Opened(Box::new(session))
            }
            Err(error) => LinkEvent::Failed(error),
        };
        self.supervisor.handle_link(net::now(), id, event);
        // What came right behind the login.
        self.handle_bytes();
        self.act();
    }

    /// Writes and reads. Returns whether something was read.
    fn poll_link(&mut self, cx: &mut Context<'_>) -> bool {
        let Some(link) = &mut self.link else { return false };
        let id = link.id;
        if let Some(out) = self.supervisor.transmit(id) {
            link.poll_write(cx, out);
        }
        let read = link.poll_read(cx, &mut self.sink);
        match read {
            Poll::Ready(Ok(bytes)) => {
                Counters::add(&self.shared.counters.reads, 1);
                Counters::add(&self.shared.counters.bytes_read, bytes as u64);
                self.handle_bytes();
            }
            Poll::Ready(Err(event)) => self.supervisor.handle_link(net::now(), id, event),
            Poll::Pending => return false,
        }
        self.act();
        true
    }

    fn handle_bytes(&mut self) {
        let Some(Link { id, input, stamp, .. }) = &mut self.link else { return };
        self.supervisor.handle_bytes(net::now(), *stamp, *id, input, &mut self.sink);
        let counters = &self.shared.counters;
        Counters::set(&counters.gaps, self.supervisor.gaps());
        Counters::set(&counters.stalls, self.supervisor.stalls());
    }

    /// While the socket is left unread: has the consumer made room? What was read already may fill it
    /// again at once, so this ends with reading on or with a waker left.
    fn poll_room(&mut self, cx: &mut Context<'_>) {
        while let Some(link) = self.link.as_mut().filter(|link| !link.reading)
            && self.sink.poll_room(cx, &mut link.input).is_ready()
        {
            self.supervisor.handle_room(net::now());
            self.act();
        }
    }
}

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let task = self.get_mut();
        task.act();
        task.poll_requests(cx);
        task.poll_opening(cx);
        task.poll_room(cx);
        let has_read = task.poll_link(cx);
        // After reading: an answer that is there was in time, however late we come for it.
        let was_due = task.timer.poll(cx, task.supervisor.poll_timeout());
        if was_due {
            task.supervisor.handle_timeout(net::now());
            task.act();
        }
        if task.done {
            return Poll::Ready(());
        }
        // After each read the consumer gets its turn. A deadline that has moved is looked at once more, and what it has changed too.
        let is_due = task.timer.poll(cx, task.supervisor.poll_timeout());
        if has_read || was_due || is_due {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl Drop for Task {
    /// Also when the runtime ends before the listener. The producer goes with the task, and so the ring
    /// ends after what was published.
    fn drop(&mut self) {
        self.shared.set_state(State::Closed);
    }
}
