//! Runs scripts against the crate's own session and against the backend, in memory.

use std::time::Instant;

use bytes::{Buf, BytesMut};
use pgbell::Error;
use pgbell::proto::session::{Progress, Session};
use pgbell::proto::wire;
use pgbell::testing::{Backend, Delivery, Mismatch, Output, Script};

/// An action of a client, which begins when the previous one is answered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Action {
    Listen(&'static [&'static str]),
    Notify(&'static str, &'static str),
    Query(&'static str),
    Terminate,
}

/// A session, its actions, and the notifications that it has received.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) received: Vec<String>,
    pub(crate) error: Option<Error>,
    actions: std::slice::Iter<'static, Action>,
    input: BytesMut,
    now: Instant,
}

impl Client {
    pub(crate) fn new(session: Session, now: Instant, actions: &'static [Action]) -> Self {
        let actions = actions.iter();
        Self { session, received: Vec::new(), error: None, actions, input: BytesMut::new(), now }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        loop {
            match self.session.handle_input(self.now, &mut self.input) {
                Ok(Progress::NeedMore) => break,
                Ok(Progress::Notifications(run)) => {
                    for one in wire::frames(&self.input[..run.bytes]) {
                        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                        let (channel, payload) = (text(one.channel), text(one.payload));
                        self.received.push(format!("{}:{channel}={payload}", one.process_id));
                    }
                    self.input.advance(run.bytes);
                }
                Err(error) => {
                    self.error.get_or_insert(error);
                    break;
                }
            }
        }
        while self.session.is_computing() {
            self.session.compute().unwrap();
        }
    }

    pub(crate) fn end(&mut self) {
        let error = self.session.handle_eof(!self.input.is_empty());
        self.error.get_or_insert(error);
    }

    /// Begins the next action. Returns whether there was one.
    fn next_action(&mut self) -> bool {
        if !self.session.is_ready() || self.session.commands_in_flight() > 0 {
            return false;
        }
        let (session, now) = (&mut self.session, self.now);
        let sent = match self.actions.next() {
            Some(Action::Listen(channels)) => session.listen(now, channels).map(drop),
            Some(Action::Notify(channel, payload)) => {
                session.notify(now, channel, payload).map(drop)
            }
            Some(Action::Query(sql)) => session.simple_query(now, sql).map(drop),
            Some(Action::Terminate) => {
                session.terminate();
                Ok(())
            }
            None => return false,
        };
        sent.unwrap();
        true
    }
}

/// Runs the script as the server of `client`.
pub(crate) fn serve(
    mut script: Script,
    client: &mut Client,
    delivery: Delivery,
) -> Result<(), Mismatch> {
    let mut to_server = BytesMut::new();
    let mut sent = 0;
    loop {
        to_server.extend_from_slice(&client.session.transmit().split());
        let output = match script.step(&mut to_server)? {
            Output::NeedMore | Output::WaitForEof if client.next_action() => continue,
            Output::NeedMore | Output::WaitForEof => script.handle_eof(&to_server)?,
            output => output,
        };
        match output {
            Output::Send(bytes) => {
                for piece in delivery.pieces(sent, &bytes) {
                    client.receive(piece);
                }
                sent += bytes.len();
            }
            _ => return Ok(()),
        }
    }
}

/// Runs the reversed script as a client of `backend`.
pub(crate) fn visit(
    script: Script,
    backend: &mut Backend,
    delivery: Delivery,
) -> Result<(), Mismatch> {
    let mut script = script.reversed();
    let id = backend.connect();
    let (mut to_client, mut to_server) = (BytesMut::new(), BytesMut::new());
    let mut sent = 0;
    loop {
        to_client.extend_from_slice(&backend.transmit(id).split());
        match script.step(&mut to_client)? {
            Output::Send(bytes) => {
                for piece in delivery.pieces(sent, &bytes) {
                    to_server.extend_from_slice(piece);
                    backend.handle_input(id, &mut to_server);
                }
                sent += bytes.len();
            }
            Output::NeedMore => return script.handle_eof(&to_client).map(drop),
            Output::WaitForEof => {
                assert!(backend.is_closed(id));
                return script.handle_eof(&to_client).map(drop);
            }
            _ => return Ok(()),
        }
    }
}
