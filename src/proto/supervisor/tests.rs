//! Tests of a supervisor between a scripted server and a small queue, without a clock.

mod attempts;
mod chaos;
mod close;
mod commands;
mod drain;
mod driver;
mod flow;
mod handover;
mod handover_broken;
mod handover_random;
mod heartbeat;
mod hook;
mod owner;
mod properties;
mod queue;
mod reading;
mod reconnect;
mod restore;
mod self_notification;
mod server;
mod start;
mod transaction;
mod words;

use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use bytes::BytesMut;

use self::driver::{TestDriver, looked_at_in_a_run_without_room};
use self::words::*;
use super::*;
use crate::error::{ErrorKind, Panic};
use crate::notification::Gap;
use crate::proto::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use crate::proto::session::{Login, READ_DELAY_MAX};
use crate::proto::wire::ProtocolVersion;

/// No heartbeats.
const HEARTBEAT: Heartbeat = Heartbeat { interval: Duration::MAX, timeout: Duration::from_secs(8) };

fn policy() -> Policy {
    Policy {
        channels: vec!["a".into()],
        overflow: Overflow::Block { max_stall: Duration::from_secs(1) },
        connect_timeout: Duration::from_secs(10),
        close_timeout: Duration::from_secs(2),
        reconnect: None,
        heartbeat: HEARTBEAT,
        max_lifetime: None,
        read_delay: READ_DELAY_MAX,
        hook: None,
        owner: Owner::default(),
    }
}

fn session(now: Instant) -> Box<Session> {
    Box::new(Session::new(login(now)).unwrap())
}

fn login(now: Instant) -> Login {
    Login {
        credentials: Credentials::new("bob").unwrap().password(Password::new("secret")).unwrap(),
        policy: AuthPolicy::default().allow_cleartext(true),
        nonce: ScramNonce::new([7; 18]),
        parameters: Vec::new(),
        protocol: ProtocolVersion::V3_0,
        min_protocol: ProtocolVersion::V3_0,
        deadline: now + Duration::from_secs(10),
        command_timeout: Duration::from_secs(5),
    }
}

/// Returns a session that is logged in.
fn ready(now: Instant) -> Box<Session> {
    let mut session = session(now);
    let _ = session.handle_input(now, &mut BytesMut::from(PRELUDE)).unwrap();
    assert!(session.poll_event().is_some() && session.is_ready());
    session.transmit().clear();
    session
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn broken() -> LinkEvent {
    LinkEvent::Failed(Error::new(ErrorKind::Connect, "broken"))
}

/// The limits of a hook.
const HOOK: HookPolicy = HookPolicy { timeout: Duration::from_secs(30), failures_max: None };

/// As [`policy`], but the listener reconnects after a loss.
fn lasting() -> Policy {
    let (min, max) = (Duration::from_millis(50), Duration::from_secs(30));
    Policy { reconnect: Some(Reconnect { min, max, retry_refusals: false }), ..policy() }
}

const NOTHING: [&str; 0] = [];

fn listen(channels: &[&str]) -> Command {
    Command::Listen(channels.iter().map(|&name| name.to_owned()).collect())
}

fn unlisten(channels: &[&str]) -> Command {
    Command::Unlisten(channels.iter().map(|&name| name.to_owned()).collect())
}

fn query(sql: &str) -> Command {
    Command::SimpleQuery(sql.to_owned())
}

const REFUSED: &str = "server error: the server refused LISTEN: ERROR: no (SQLSTATE 42501)";
const NOT_LISTENED: &str = "server error: the channel \"a\" cannot be listened to: \
    the server refused LISTEN: ERROR: no (SQLSTATE 42501)";
const ENDED: &str = "server error: the server ended the session: FATAL: no (SQLSTATE 57P01)";
const OVER: &str = "closed: the listener is closed";

/// The answer to a command that still waited when the session was lost.
const UNSENT: &str = "closed: the listener has ended before this was sent";
const OPEN_TRANSACTION: &str = "misuse: the query left a transaction open on the listening session, \
    it was rolled back (hint: nothing is delivered inside a transaction: use a connection of its own)";
const NOT_ROLLED_BACK: &str = "in doubt: the query was answered and left a transaction open, \
    and the session was lost before that was rolled back";
