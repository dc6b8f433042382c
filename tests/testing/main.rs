//! The testing server of the crate: against the crate's own session in memory, and on a real socket.
#![cfg(all(feature = "testing", feature = "proto"))]

mod answers;
mod backend;
#[cfg(feature = "tokio")]
mod control;
mod drivers;
mod extended;
mod golden;
mod login;
mod play;
#[path = "../queries/mod.rs"]
mod queries;
#[cfg(feature = "tokio")]
mod readme;
#[cfg(feature = "tokio")]
mod script;
#[cfg(feature = "tokio")]
mod server;

use std::time::{Duration, Instant};

use pgbell::Error;
use pgbell::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use pgbell::proto::session::{Login, Rows, Session, SessionEvent};
use pgbell::testing::{Backend, Link};

/// The client's half of the nonce in every test.
const NONCE: [u8; 18] = *b"client nonce 18 by";

fn session(user: &str, password: Option<&str>, now: Instant) -> Session {
    let mut credentials = Credentials::new(user).unwrap();
    if let Some(password) = password {
        credentials = credentials.password(Password::new(password)).unwrap();
    }
    let deadline = now + Duration::from_secs(10);
    let login = Login::new(credentials, ScramNonce::new(NONCE), deadline)
        .policy(AuthPolicy::default().allow_cleartext(true).scram_iterations_min(1))
        .parameter("application_name", "test")
        .command_timeout(Duration::from_secs(10));
    Session::new(login).unwrap()
}

/// A session that is ready.
fn ready(backend: &mut Backend, chunks: &[usize]) -> Link {
    let now = Instant::now();
    let mut link = Link::new(session("alice", None, now), backend, now).chunks(chunks);
    assert!(link.settle(backend).is_none());
    assert!(matches!(link.take_events()[..], [SessionEvent::Ready]));
    link
}

/// The result of the only command.
fn result(link: &mut Link, backend: &mut Backend) -> Result<Vec<Rows>, Error> {
    link.settle(backend);
    match link.take_events().pop() {
        Some(SessionEvent::Done { result, .. }) => result,
        other => panic!("no command is done: {other:?}"),
    }
}

/// Runs a simple query.
fn run(link: &mut Link, backend: &mut Backend, sql: &str) -> Result<Vec<Rows>, Error> {
    let now = link.now();
    link.session().simple_query(now, sql).unwrap();
    result(link, backend)
}

/// The notifications that the session has received since the last call.
fn received(link: &mut Link, backend: &mut Backend) -> Vec<(i32, String, String)> {
    link.settle(backend);
    let received = link.take_notifications().into_iter().map(|one| {
        let payload = one.payload().to_owned();
        (one.process_id(), one.channel().to_owned(), payload)
    });
    received.collect()
}

/// The same without process ids, as `channel=payload`.
fn texts(link: &mut Link, backend: &mut Backend) -> Vec<String> {
    let received = received(link, backend).into_iter();
    received.map(|(_, channel, payload)| format!("{channel}={payload}")).collect()
}
