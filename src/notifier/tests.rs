//! Tests of the machine with scripted bytes and a simulated clock.

mod deadlines;
mod groups;
mod nudges;
mod reconnect;
mod server;
#[cfg(feature = "testing")]
mod simulation;
mod wakers;

use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use tokio::sync::oneshot::{self, Receiver};

use super::machine::{NotifierMachine, NotifierPolicy};
use super::pipeline::PIPELINE_MAX;
use super::request::{Message, Reply, Request};
use super::waiting::{GroupLimits, WaitingCalls};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::{AuthPolicy, Credentials, ScramNonce};
use crate::proto::session::{Login, Session};
use crate::proto::supervisor::Reconnect;
use crate::proto::wire::ProtocolVersion;

const TIMEOUT: Duration = Duration::from_secs(30);

const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";

/// ParseComplete, BindComplete, RowDescription, DataRow, CommandComplete.
const RESULT: &[u8] =
    b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1a\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
    D\0\0\0\x0a\0\x01\0\0\0\0C\0\0\0\x0dSELECT 1\0";
const READY: &[u8] = b"Z\0\0\0\x05I";

type Call = Receiver<Result<(), Error>>;

/// A machine that does not reconnect, its session, and a simulated socket.
struct NotifierScene {
    machine: NotifierMachine,
    session: Session,
    now: Instant,
    written: u64,
}

fn policy(reconnect: Option<Reconnect>) -> NotifierPolicy {
    let limits = GroupLimits { calls: 5, bytes: 100 };
    let connect_timeout = Duration::from_secs(10);
    NotifierPolicy { answer_timeout: TIMEOUT, limits, connect_timeout, reconnect }
}

/// Returns a session that is ready.
fn session(now: Instant) -> Session {
    let mut session = Session::new(Login {
        credentials: Credentials::new("bob").unwrap(),
        policy: AuthPolicy::default(),
        nonce: ScramNonce::new([7; 18]),
        parameters: Vec::new(),
        protocol: ProtocolVersion::V3_0,
        min_protocol: ProtocolVersion::V3_0,
        deadline: now + TIMEOUT,
        command_timeout: TIMEOUT,
    })
    .unwrap();
    session.transmit().clear();
    let _ = session.handle_input(now, &mut BytesMut::from(PRELUDE)).unwrap();
    while session.poll_event().is_some() {}
    session
}

impl NotifierScene {
    fn new() -> Self {
        let now = Instant::now();
        let session = session(now);
        let machine = NotifierMachine::new(&policy(None), now, 0, 1);
        Self { machine, session, now, written: 0 }
    }

    /// A call with a transaction of its own, which waits for no answer.
    fn call(&mut self) -> Call {
        let (channels, payloads) = ("{\"a\"}".to_owned(), "{\"b\"}".to_owned());
        self.accept(Message::Many { channels, payloads })
    }

    /// A call that may become part of a group.
    fn notify(&mut self, payload: &str) -> Call {
        self.accept(Message::Notify { channel: "a".to_owned(), payload: payload.to_owned() })
    }

    fn accept(&mut self, message: Message) -> Call {
        let (reply, call) = oneshot::channel();
        let reply = Reply::new(reply);
        self.machine.accept(Request { message, called_at: self.now, room: None, reply });
        self.start();
        call
    }

    /// Gives the session what can be sent, and sends the answers.
    fn start(&mut self) {
        self.machine.start(self.now, &mut self.session);
        self.answers();
    }

    fn answers(&mut self) {
        while let Some((reply, answer)) = self.machine.poll_answer() {
            reply.send(answer);
        }
    }

    fn unwritten(&mut self) -> usize {
        self.session.transmit().len()
    }

    /// The socket accepts so many bytes.
    fn write(&mut self, bytes: usize) {
        self.session.transmit().advance(bytes);
        self.written += bytes as u64;
        self.machine.wrote(self.now, self.written);
    }

    fn write_all(&mut self) {
        let bytes = self.unwritten();
        self.write(bytes);
    }

    /// The server sends these bytes. Returns the error that ended the session.
    fn receive(&mut self, bytes: &[u8]) -> Option<Error> {
        let mut error = self.session.handle_input(self.now, &mut BytesMut::from(bytes)).err();
        while let Some(event) = self.session.poll_event() {
            if let Some(stray) = self.machine.stray_error(&event, &self.session) {
                error = Some(self.session.fail(stray));
                break;
            }
            self.machine.handle_event(self.now, event);
        }
        if let Some(error) = &error {
            self.machine.handle_lost(self.now, error.clone());
        }
        self.start();
        error
    }

    fn answer(&mut self) {
        assert!(self.receive(&[RESULT, READY].concat()).is_none());
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// Time passes until the next deadline. Returns the error that ended the connection, as the task does.
    fn wait_for_the_deadline(&mut self) -> Option<Error> {
        let deadline = self.machine.poll_timeout().expect("there is a deadline");
        assert!(deadline > self.now, "the deadline has passed");
        self.now = deadline;
        let error = self.machine.handle_timeout(self.now);
        self.answers();
        let error = self.session.fail(error?);
        while let Some(event) = self.session.poll_event() {
            self.machine.handle_event(self.now, event);
        }
        self.machine.handle_lost(self.now, error.clone());
        self.answers();
        Some(error)
    }
}

/// The kind of the answer; `None` while there is none.
fn kind(call: &mut Call) -> Option<Result<(), ErrorKind>> {
    let answer = call.try_recv().ok()?;
    Some(answer.map_err(|error| error.kind()))
}

#[test]
fn only_written_commands_are_in_doubt_after_the_server_was_silent() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    let mut written = scene.call();
    scene.write_all();
    let mut all_but_one_byte = scene.call();
    let mut unwritten = scene.call();
    let of_one = scene.unwritten() / 2;
    scene.write(of_one - 1);
    let mut beyond: Vec<_> = (0..PIPELINE_MAX).map(|_| scene.call()).collect();
    let error = scene.wait_for_the_deadline().unwrap();
    assert_eq!((error.kind(), scene.now - begin), (ErrorKind::Timeout, TIMEOUT));
    let answer = written.try_recv().unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::InDoubt);
    assert!(format!("{answer:#}").contains("did not answer within 30s"), "{answer}");
    let answer = all_but_one_byte.try_recv().unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Closed);
    assert!(format!("{answer:#}").contains("before the notification was sent"), "{answer:#}");
    assert_eq!(kind(&mut unwritten), Some(Err(ErrorKind::Closed)));
    for call in &mut beyond {
        assert_eq!(kind(call), Some(Err(ErrorKind::Closed)));
    }
    assert!(scene.machine.is_idle());
}

/// The session reports its end as an event first.
#[test]
fn an_unwritten_notification_is_not_in_doubt_when_the_server_ends_the_session() {
    let mut scene = NotifierScene::new();
    let mut written = scene.call();
    scene.write_all();
    let mut unwritten = scene.call();
    let fatal = b"E\0\0\0\x1aSFATAL\0C57P01\0Mbye\0\0";
    let fatal = [&fatal[..1], &u32::try_from(fatal.len() - 1).unwrap().to_be_bytes(), &fatal[5..]];
    let error = scene.receive(&fatal.concat()).unwrap();
    assert_eq!(error.sqlstate(), Some("57P01"));
    assert_eq!(kind(&mut written), Some(Err(ErrorKind::InDoubt)));
    assert_eq!(kind(&mut unwritten), Some(Err(ErrorKind::Closed)));
}

#[test]
fn each_answer_restarts_the_answer_timeout() {
    let mut scene = NotifierScene::new();
    let mut calls: Vec<_> = (0..3).map(|_| scene.call()).collect();
    scene.write_all();
    for call in calls.iter_mut().take(2) {
        scene.wait(Duration::from_secs(25));
        assert!(scene.machine.handle_timeout(scene.now).is_none());
        scene.answer();
        assert_eq!(kind(call), Some(Ok(())));
    }
    // 50 s have passed.
    scene.wait(Duration::from_secs(9));
    scene.answer();
    assert_eq!(kind(&mut calls[2]), Some(Ok(())));
    assert_eq!(scene.machine.poll_timeout(), None);
}

/// A command that is still being written cannot be answered yet.
#[test]
fn only_writes_of_the_oldest_command_restart_the_answer_timeout() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    let mut first = scene.call();
    scene.wait(Duration::from_secs(20));
    scene.write(10);
    scene.wait(Duration::from_secs(20));
    assert!(scene.machine.handle_timeout(scene.now).is_none());
    scene.write_all();
    // Later commands do not extend its deadline.
    scene.wait(Duration::from_secs(10));
    let mut second = scene.call();
    scene.write_all();
    assert_eq!(kind(&mut first), None);
    scene.wait(Duration::from_secs(9));
    assert!(scene.machine.handle_timeout(scene.now).is_none());
    assert!(scene.wait_for_the_deadline().is_none(), "it is 60 s old");
    assert_eq!(scene.now - begin, 2 * TIMEOUT);
    assert_eq!(kind(&mut first), Some(Err(ErrorKind::InDoubt)));
    assert!(scene.wait_for_the_deadline().is_some());
    assert_eq!(scene.now - begin, Duration::from_secs(70));
    assert_eq!(kind(&mut second), Some(Err(ErrorKind::InDoubt)));
}

/// An answer every 29 s keeps the connection open, and does not extend any call.
#[test]
fn a_call_takes_at_most_twice_the_timeout_if_the_server_answers_slowly() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    let mut calls: Vec<_> = (0..PIPELINE_MAX + 10).map(|_| scene.call()).collect();
    scene.write_all();
    let mut answered = 0;
    while calls.iter_mut().any(|call| !call.is_terminated() && kind(call).is_none()) {
        let next = begin + Duration::from_secs(29 * (answered + 1));
        if scene.machine.poll_timeout().unwrap() < next {
            assert!(scene.wait_for_the_deadline().is_none());
        } else {
            scene.now = next;
            scene.answer();
            scene.write_all();
            answered += 1;
        }
    }
    assert!(scene.now - begin <= 2 * TIMEOUT, "{:?}", scene.now - begin);
    // The connection continues: late answers are ignored, the next call is answered.
    assert!(!scene.machine.is_idle());
    while !scene.machine.is_idle() {
        scene.answer();
        scene.write_all();
    }
    let mut next = scene.call();
    scene.write_all();
    scene.answer();
    assert_eq!(kind(&mut next), Some(Ok(())));
}

#[test]
fn the_error_of_a_call_that_could_not_be_sent_in_time_says_that_nothing_was_sent() {
    let mut scene = NotifierScene::new();
    let begin = scene.now;
    let mut calls: Vec<_> = (0..PIPELINE_MAX + 3).map(|_| scene.call()).collect();
    for _ in 0..2 {
        scene.write_all();
        scene.wait(Duration::from_secs(10));
        scene.answer();
    }
    assert!(scene.wait_for_the_deadline().is_none());
    assert_eq!(scene.now - begin, TIMEOUT);
    let answer = calls.pop().unwrap().try_recv().unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Timeout);
    assert!(format!("{answer:#}").contains("was not sent"), "{answer:#}");
    assert!(calls[2..].iter_mut().all(|call| kind(call).is_none()));
}

#[test]
fn after_a_close_all_calls_end_within_one_timeout() {
    let mut scene = NotifierScene::new();
    let mut calls: Vec<_> = (0..PIPELINE_MAX + 1).map(|_| scene.call()).collect();
    scene.write_all();
    scene.wait(Duration::from_secs(20));
    scene.answer();
    scene.write_all();
    let begin = scene.now;
    scene.machine.close(scene.now);
    scene.wait(Duration::from_secs(20));
    scene.answer();
    scene.machine.close(scene.now);
    let error = scene.wait_for_the_deadline().unwrap();
    assert_eq!((error.kind(), scene.now - begin), (ErrorKind::Timeout, TIMEOUT));
    let answers: Vec<_> = calls.iter_mut().map(|call| kind(call).unwrap()).collect();
    assert_eq!(answers[..2], [Ok(()), Ok(())]);
    assert!(answers[2..].iter().all(|answer| *answer == Err(ErrorKind::InDoubt)));
}

/// In an earlier version waiting calls that were accepted just before others were sent returned their own timeout, and not the
/// end of the connection.
#[test]
fn after_a_close_a_call_that_waits_to_be_sent_has_the_deadline_of_the_close() {
    let mut scene = NotifierScene::new();
    let mut sent: Vec<_> = (0..PIPELINE_MAX).map(|_| scene.call()).collect();
    let mut waiting = scene.call();
    scene.wait(Duration::from_millis(3));
    scene.write_all();
    scene.wait(Duration::from_secs(1));
    scene.machine.close(scene.now);
    let error =
        scene.wait_for_the_deadline().expect("the first deadline is that of the server's silence");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(sent.iter_mut().all(|call| kind(call) == Some(Err(ErrorKind::InDoubt))));
    assert_eq!(kind(&mut waiting), Some(Err(ErrorKind::Closed)));
}

#[test]
fn when_the_task_is_dropped_only_written_commands_are_in_doubt() {
    let mut scene = NotifierScene::new();
    let mut written = scene.call();
    scene.write_all();
    let mut unwritten = scene.call();
    let all_but_one = scene.unwritten() - 1;
    scene.write(all_but_one);
    let mut waiting: Vec<_> = (0..PIPELINE_MAX).map(|_| scene.call()).collect();
    drop(scene);
    assert_eq!(kind(&mut written), Some(Err(ErrorKind::InDoubt)));
    let answer = unwritten.try_recv().unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::Closed);
    assert!(format!("{answer:#}").contains("the runtime of the notifier has ended"), "{answer:#}");
    assert!(waiting.iter_mut().all(|call| kind(call) == Some(Err(ErrorKind::Closed))));
}

/// Behind a pooler, another client may have begun a transaction in the same server session, and may not commit it.
#[test]
fn an_answer_inside_a_transaction_is_not_reported_as_committed() {
    for status in [b"Z\0\0\0\x05T", b"Z\0\0\0\x05E"] {
        let mut scene = NotifierScene::new();
        let (mut first, mut second) = (scene.call(), scene.call());
        scene.write_all();
        let error = scene.receive(&[RESULT, status, RESULT, READY].concat()).unwrap();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("inside a transaction"), "{error}");
        assert_eq!(kind(&mut first), Some(Err(ErrorKind::InDoubt)));
        assert_eq!(kind(&mut second), Some(Err(ErrorKind::InDoubt)));
        // The connection is not used again.
        assert_eq!(kind(&mut scene.call()), Some(Err(ErrorKind::Closed)));
    }
}

#[test]
fn a_refusal_is_the_answer_to_its_own_call_only() {
    let mut scene = NotifierScene::new();
    let (mut first, mut second) = (scene.call(), scene.call());
    scene.write_all();
    let refused = b"E\0\0\0\x17SERROR\0C42501\0Mno\0\0Z\0\0\0\x05I";
    assert!(scene.receive(refused).is_none());
    assert_eq!(kind(&mut first), Some(Err(ErrorKind::Server)));
    scene.answer();
    assert_eq!(kind(&mut second), Some(Ok(())));
}

/// The answer to a notification is short. A longer one is not kept, but the server may have committed the notification.
#[test]
fn a_notification_with_a_long_answer_is_in_doubt() {
    let mut scene = NotifierScene::new();
    let mut call = scene.call();
    scene.write_all();
    let (begin, rest) = RESULT.split_at(RESULT.len() - 25);
    assert!(scene.receive(begin).is_none());
    let value = 60_000_u32;
    let mut row =
        [&b"D"[..], &(value + 10).to_be_bytes(), b"\0\x01", &value.to_be_bytes()].concat();
    row.resize(row.len() + 60_000, b'x');
    for _ in 0..2 {
        assert!(scene.receive(&row).is_none());
    }
    assert!(scene.receive(&[rest, READY].concat()).is_none());
    let answer = call.try_recv().unwrap().unwrap_err();
    assert_eq!(answer.kind(), ErrorKind::InDoubt, "{answer}");
    assert!(format!("{answer:#}").contains("larger than"), "{answer:#}");
}

/// The answer has one row. An answer with an unlimited number of rows is not read to its end.
#[test]
fn an_answer_with_too_many_rows_ends_the_session() {
    let mut scene = NotifierScene::new();
    let mut call = scene.call();
    scene.write_all();
    assert!(scene.receive(&RESULT[..RESULT.len() - 25]).is_none());
    let row = b"D\0\0\0\x0a\0\x01\0\0\0\0";
    let error = (0..10).find_map(|_| scene.receive(row)).expect("the session accepts ten rows");
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert_eq!(kind(&mut call), Some(Err(ErrorKind::InDoubt)));
}

/// The server begins a COPY instead of answering the notification.
#[test]
fn a_notification_that_is_answered_by_a_copy_is_in_doubt() {
    let mut scene = NotifierScene::new();
    let mut call = scene.call();
    scene.write_all();
    let copy = b"H\0\0\0\x07\0\0\0c\0\0\0\x04C\0\0\0\x0bCOPY 0\0";
    assert!(scene.receive(&[&copy[..], READY].concat()).is_none());
    assert_eq!(kind(&mut call), Some(Err(ErrorKind::InDoubt)));
}
