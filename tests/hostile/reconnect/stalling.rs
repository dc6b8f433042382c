//! Servers that stop answering, or answer without a limit, at every step of an attempt.

use std::time::Duration;

use bytes::Bytes;
use pgbell::testing::Script;
use pgbell::{ErrorKind, Listener, State};

use super::super::attack::hex;
use super::super::client::check_text;
use super::super::scram;
use super::attacks::diagnostic;
use super::host::{BACKOFF, Host, close, gap, paused_clock, soon};
use super::peer::{OK, Peer};
use crate::queries::FACTS_SQL;

/// The timeout of an attempt.
const ATTEMPT: Duration = Duration::from_secs(2);

/// The timeout of a command.
pub(super) const COMMAND: Duration = Duration::from_secs(30);

/// The time for rounding, and for the pause after a session that had to become live.
pub(super) const MARGIN: Duration = Duration::from_millis(20);

/// The step at which an attempt stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LoginStep {
    NoRead,
    NoAnswer,
    HalfOfAuthentication,
    ScramIsOffered,
    HalfOfServerFirst,
    AfterServerFirst,
    Authenticated,
    HalfOfAParameter,
    NotReady,
    Facts,
    HalfOfFacts,
    Listen,
    HalfOfListen,
    /// An endless notice, one byte at a time.
    DripAtLogin,
    DripAtListen,
}

use LoginStep::*;

const LOGIN_STEPS: [LoginStep; 15] = [
    NoRead,
    NoAnswer,
    HalfOfAuthentication,
    ScramIsOffered,
    HalfOfServerFirst,
    AfterServerFirst,
    Authenticated,
    HalfOfAParameter,
    NotReady,
    Facts,
    HalfOfFacts,
    Listen,
    HalfOfListen,
    DripAtLogin,
    DripAtListen,
];

impl LoginStep {
    /// Returns true for a step in a session that was ready. Such a session is a lost one.
    fn is_in_session(self) -> bool {
        matches!(self, Listen | HalfOfListen | DripAtListen)
    }
}

async fn stall(mut peer: Peer, step: LoginStep) {
    let prelude = Script::PRELUDE;
    match step {
        NoRead => tokio::time::sleep(COMMAND).await,
        NoAnswer => {}
        HalfOfAuthentication => drop(peer.send(&prelude[..5]).await),
        ScramIsOffered | HalfOfServerFirst | AfterServerFirst => {
            let startup = peer.packet().await.unwrap();
            peer.send(hex(scram::SASL)).await;
            let (tag, body) = peer.message().await.unwrap();
            assert_eq!(tag, b'p');
            let first = super::super::attack::message(tag, &body);
            let received = [Bytes::from(startup), Bytes::from(first)];
            let answer = scram::first(&scram::verifier(4_096))(&received);
            match step {
                HalfOfServerFirst => drop(peer.send(&answer[..answer.len() / 2]).await),
                AfterServerFirst => drop(peer.send(&answer).await),
                _ => {}
            }
        }
        Authenticated => drop(peer.send(hex(OK)).await),
        HalfOfAParameter => drop(peer.send(&prelude[..20]).await),
        NotReady => drop(peer.send(&prelude[..prelude.len() - 6]).await),
        Facts | HalfOfFacts => {
            peer.let_in().await;
            assert_eq!(peer.query().await.unwrap(), FACTS_SQL);
            let half = if step == Facts { 0 } else { Script::FACTS.len() / 2 };
            peer.send(&Script::FACTS[..half]).await;
        }
        Listen | HalfOfListen | DripAtListen => {
            peer.ready().await;
            peer.read_listen().await;
            let half = if step == HalfOfListen { 12 } else { 0 };
            peer.send(&Script::ACK[..half]).await;
        }
        DripAtLogin => drop(peer.send(hex(OK)).await),
    }
    if let DripAtLogin | DripAtListen = step {
        drip(&mut peer).await;
    }
    peer.wait_for_end().await;
}

/// Sends complete notices, one byte every half a second, until the client disconnects.
pub(super) async fn drip(peer: &mut Peer) {
    let notice = diagnostic(b'N', "NOTICE", "00000");
    for byte in notice.iter().cycle() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if !peer.send([*byte]).await {
            return;
        }
    }
}

/// The first session is lost, three more attempts get as far as this step, and the next one is logged in.
async fn stalled_at(step: LoginStep) -> Host {
    Host::start(move |number, mut peer| async move {
        match number {
            1 => {
                peer.listening().await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            2..5 => stall(peer, step).await,
            _ => peer.serve_listener().await,
        }
    })
    .await
}

async fn connect(host: &Host) -> Listener {
    let url = format!("{} connect_timeout={}", host.url(), ATTEMPT.as_secs());
    let builder = Listener::builder(&*url).channels(["a"]).backoff(BACKOFF.0, BACKOFF.1);
    builder.connect().await.unwrap()
}

#[test]
fn an_attempt_that_stalls_at_any_step_ends_in_time_and_is_followed_by_another() {
    for step in LOGIN_STEPS {
        paused_clock().block_on(async {
            let host = stalled_at(step).await;
            let mut listener = connect(&host).await;
            let gap = gap(&mut listener).await;
            let lost = if step.is_in_session() { 4 } else { 1 };
            assert_eq!((gap.sessions(), gap.attempts()), (lost, 4), "{step:?}");
            let error = listener.last_error().unwrap();
            check_text(&error);
            assert_eq!(error.kind(), ErrorKind::Timeout, "{step:?}: {error}");
            let limit = if step.is_in_session() { COMMAND } else { ATTEMPT };
            for pause in &host.pauses()[1..] {
                assert!(*pause >= limit, "{step:?}: {pause:?}");
                assert!(*pause <= limit + BACKOFF.1 + MARGIN, "{step:?}: {pause:?}");
            }
            close(listener).await;
            host.ends().await;
        });
    }
}

/// Whatever the other end fails to do.
#[test]
fn a_listener_is_closed_in_time_whatever_step_its_attempt_stalls_at() {
    for step in LOGIN_STEPS {
        paused_clock().block_on(async {
            let host = stalled_at(step).await;
            let listener = connect(&host).await;
            soon("a loss", listener.handle().wait_state(State::Reconnecting)).await.unwrap();
            soon("an attempt", async {
                while host.accepted().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            tokio::time::sleep(ATTEMPT / 2).await;
            close(listener).await;
            assert_eq!(host.accepted().len(), 2);
            host.ends().await;
        });
    }
}
