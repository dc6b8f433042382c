//! A session that sends a few commands when it is ready, and waits for each answer.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use pgbell::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use pgbell::proto::session::{Login, Progress, Session, SessionEvent};
use pgbell::proto::wire::{self, ProtocolVersion};

pub struct Player {
    session: Session,
    input: BytesMut,
    now: Instant,
    over: bool,
    /// The kinds of all events, and the notifications.
    pub events: Vec<String>,
    /// The number of accepted commands, and of answered ones.
    pub taken: usize,
    pub done: usize,
}

impl Player {
    pub fn new() -> Self {
        let now = Instant::now();
        let credentials = Credentials::new("bob").unwrap().password(Password::new("x")).unwrap();
        let deadline = now + Duration::from_secs(10);
        let login = Login::new(credentials, ScramNonce::new([7; 18]), deadline)
            .policy(AuthPolicy::default().scram_iterations_min(1).scram_iterations_max(64))
            .parameter("database", "db")
            .protocol(ProtocolVersion::V3_2)
            .command_timeout(Duration::from_secs(5));
        let session = Session::new(login).unwrap();
        let (input, events) = (BytesMut::new(), Vec::new());
        Self { session, input, now, over: false, events, taken: 0, done: 0 }
    }

    /// Feeds single bytes until the session is ready, so that its commands begin at the same byte of the stream however the
    /// stream is split. After that it feeds whole pieces.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while let Some((first, rest)) = bytes.split_first()
            && !self.over
            && !self.session.is_ready()
        {
            self.input.extend_from_slice(&[*first]);
            self.handle();
            bytes = rest;
        }
        if !self.over {
            self.input.extend_from_slice(bytes);
            self.handle();
        }
    }

    /// Feeds the end of the stream.
    pub fn end(&mut self) {
        let error = self.session.handle_eof(!self.input.is_empty());
        self.take_events();
        assert_eq!(error.to_string(), self.session.handle_eof(false).to_string());
        assert!(self.session.listen(self.now, &["a"]).is_err());
        assert_eq!(self.session.commands_in_flight(), 0);
    }

    fn take_events(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                SessionEvent::Ready => self.give_commands(),
                SessionEvent::Done { .. } => self.done += 1,
                _ => {}
            }
            // With the text of every error, but without the age of the session.
            self.events.push(format!("{event:?}"));
        }
    }

    fn give_commands(&mut self) {
        let (session, now) = (&mut self.session, self.now);
        let taken = [
            session.listen(now, &["a", "b"]),
            session.simple_query(now, "SELECT 1; COPY t TO STDOUT"),
            session.query(now, "SELECT $1", &[(25, Some("x"))]),
            session.simple_query(now, "COPY t FROM STDIN"),
            session.unlisten(now, &["a"]),
            session.notify(now, "a", "b"),
            session.unlisten_all(now),
        ];
        // The same bytes may have ended the session.
        self.taken = taken.iter().filter(|id| id.is_ok()).count();
    }

    fn handle(&mut self) {
        loop {
            let progress = self.session.handle_input(self.now, &mut self.input);
            while self.session.is_computing() && self.session.compute().is_ok() {}
            self.take_events();
            assert!(self.session.transmit().split().len() < 1_000);
            match progress {
                Ok(Progress::NeedMore) => return,
                Ok(Progress::Notifications(run)) => {
                    let frames = self.input.split_to(run.bytes);
                    assert_eq!(wire::frames(&frames).count(), run.count);
                    self.events.extend(wire::frames(&frames).map(|raw| format!("{raw:?}")));
                }
                Err(error) => {
                    self.over = true;
                    self.events.push(format!("{:?}", error.kind()));
                    return;
                }
            }
        }
    }
}
