//! The heartbeat of a session whose server cannot name its channels.

use super::*;
use crate::session::Evidence;

const EVERY: Duration = Duration::from_secs(10);
const DEADLINE: Duration = Duration::from_secs(8);
const PRIVATE: &str = "private_1";

/// A listener to `a` whose session is proven by this.
fn proven_by(evidence: Evidence) -> Shell {
    let heartbeat = Heartbeat { every: EVERY, deadline: DEADLINE };
    let mut shell = Shell::new(Policy { heartbeat, ..lasting() });
    let mut session = ready(shell.now);
    session.prove_by(evidence);
    shell.event(LinkEvent::Opened(session));
    assert_eq!(shell.serve_all(), [[r#"LISTEN "a""#]]);
    shell.forget();
    shell
}

/// A heartbeat was sent just now.
fn asked() -> Shell {
    let mut shell = proven_by(Evidence::Echo(PRIVATE.to_owned()));
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["notify"]);
    assert_eq!(shell.private, PRIVATE);
    shell
}

fn cause(shell: &Shell) -> String {
    let error = shell.told.iter().find_map(|incident| match incident {
        Incident::Lost { error } => Some(format!("{error:#}")),
        _ => None,
    });
    error.unwrap_or_default()
}

const SWALLOWED: &str =
    "pooler: a notification that the session sent to itself did not come back within 8s";

#[test]
fn a_heartbeat_that_comes_back_is_no_notification_of_the_users() {
    for answer_is_first in [true, false] {
        let mut shell = asked();
        for n in 1..4 {
            let (fence, answer) = (shell.fence(), notified());
            let both = if answer_is_first { [answer, fence] } else { [fence, answer] };
            // In one piece with others, and by itself.
            let [first, second] = both;
            shell.read(&[A1, &first, A1, A1].concat());
            shell.read(&second);
            assert_eq!(shell.supervisor.figures().received, 3 * n);
            shell.consume(3);
            assert_eq!(shell.due_in(), EVERY);
            shell.pass_until_due();
            assert_eq!(shell.take_sent(), ["notify"]);
            assert_eq!(shell.supervisor.figures().proofs, n + 1);
        }
        assert_eq!(shell.take_log(), NOTHING);
    }
}

#[test]
fn a_heartbeat_that_does_not_come_back_loses_the_session() {
    let mut shell = asked();
    shell.pass(Duration::from_secs(3));
    shell.read(&notified());
    assert_eq!(shell.due_in(), DEADLINE);
    shell.pass(DEADLINE - Duration::from_millis(1));
    // That of another heartbeat is none, and answers to commands are no sign of delivery.
    let other = note_on(PRIVATE, "other");
    shell.read(&other);
    shell.command(listen(&["b"]));
    shell.serve();
    assert_eq!(shell.take_log(), ["0: Active"]);
    shell.pass_until_due();
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    assert!(cause(&shell).starts_with(SWALLOWED), "{}", cause(&shell));
    assert_eq!(shell.supervisor.figures().received, 0);
}

#[test]
fn a_heartbeat_behind_others_is_waited_for_but_not_for_ever() {
    let mut shell = asked();
    shell.read(&notified());
    for _ in 0..42 {
        shell.pass(Duration::from_secs(7));
        shell.read(A1);
        shell.consume(1);
    }
    assert_eq!(shell.supervisor.state(), State::Connected);
    assert_eq!(shell.due_in(), Duration::from_secs(6), "five minutes in all");
    shell.pass_until_due();
    assert!(cause(&shell).starts_with(SWALLOWED), "{}", cause(&shell));
}

#[test]
fn a_heartbeat_without_an_answer_loses_the_session() {
    let mut shell = asked();
    shell.read(&shell.fence());
    shell.pass(DEADLINE);
    assert!(cause(&shell).starts_with("timeout: nothing came"), "{}", cause(&shell));
}

#[test]
fn the_private_channel_survives_unlisten_all() {
    let mut shell = proven_by(Evidence::Echo(PRIVATE.to_owned()));
    shell.command(Command::UnlistenAll);
    let sent = shell.serve();
    assert_eq!(sent, ["UNLISTEN *", r#"LISTEN "private_1""#]);
    assert_eq!(shell.take_log(), ["0: Unlistened"]);
    // While a heartbeat is on its way, it waits: the heartbeat would be swallowed.
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["notify"]);
    shell.read(&notified());
    shell.command(Command::UnlistenAll);
    assert_eq!(shell.take_sent(), NOTHING);
    shell.read(&shell.fence());
    assert_eq!(shell.serve(), ["UNLISTEN *", r#"LISTEN "private""#]);
    // If the channel is refused, the session is of no use.
    shell.command(Command::UnlistenAll);
    shell.refused.insert(PRIVATE.to_owned());
    shell.serve();
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
}

/// What was committed before stands in front of the heartbeat, whoever delivers it.
#[test]
fn a_drain_ends_when_its_heartbeat_has_come_back() {
    let mut shell = asked();
    shell.read(&notified());
    shell.command(Command::Drain { within: Duration::from_secs(60) });
    // One of its own follows the one that is on its way.
    assert_eq!(shell.take_sent(), NOTHING);
    shell.read(&shell.fence());
    assert_eq!(shell.serve(), ["notify"]);
    shell.read(A1);
    assert_eq!(shell.take_sent(), NOTHING);
    shell.read(&shell.fence());
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    assert_eq!(shell.take_sent(), ["Terminate"]);
    assert_eq!(shell.take_log(), ["0: Drained", "close 1 Graceful"]);
    assert_eq!(shell.supervisor.figures().received, 1);
}

#[test]
fn a_handover_waits_for_the_heartbeat_and_proves_the_old_session_by_another_one() {
    let mut shell = asked();
    shell.read(&notified());
    shell.command(Command::Rotate);
    let mut session = ready(shell.now);
    session.prove_by(Evidence::Echo("private_2".to_owned()));
    assert_eq!(shell.take_log(), ["open 2", "0: Rotating"]);
    shell.event(LinkEvent::Opened(session));
    assert_eq!((shell.on(1).take_sent(), shell.on(2).take_sent()), (vec![], vec![]));
    shell.private = PRIVATE.to_owned();
    let fence = shell.fence();
    shell.on(1).read(&fence);
    let sent = shell.on(1).serve();
    assert_eq!(sent, [r#"LISTEN "private""#, "notify"]);
    let heartbeat = shell.fence();
    shell.on(2).serve_all();
    assert_eq!(shell.on(2).take_sent(), NOTHING);
    shell.on(1).read(&heartbeat);
    // Now the fence.
    assert_eq!(shell.on(2).serve(), ["notify"]);
    let fence = shell.fence();
    shell.on(1).read(&[A1, &fence].concat());
    shell.on(2).read(&fence);
    shell.serve_all();
    assert_eq!(shell.supervisor.figures().handovers, 1);
    assert_eq!(shell.supervisor.figures().received, 1);
    // The new session has a channel of its own.
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["notify"]);
    assert_eq!(shell.private, "private_2");
}

#[test]
fn where_nothing_is_proven_only_an_answer_is_asked_for() {
    let mut shell = proven_by(Evidence::Answer);
    shell.wire().listening.clear();
    for _ in 0..3 {
        shell.pass(EVERY);
        assert_eq!(shell.serve(), ["life"]);
        assert_eq!(shell.due_in(), EVERY);
    }
    shell.command(Command::UnlistenAll);
    assert_eq!(shell.serve(), ["UNLISTEN *"]);
    shell.pass(EVERY);
    assert_eq!(shell.take_sent(), ["life"]);
    shell.pass(DEADLINE);
    assert!(cause(&shell).starts_with("timeout: nothing came"), "{}", cause(&shell));
}

/// Each query put the end of the wait off, so that a loss was never noticed.
#[test]
fn queries_do_not_put_off_the_end_of_a_heartbeat_that_does_not_come_back() {
    let mut shell = asked();
    shell.read(&notified());
    for _ in 0..3 {
        shell.pass(Duration::from_secs(2));
        shell.command(query("SELECT 1"));
        shell.serve();
    }
    assert_eq!(shell.take_log(), NOTHING, "they wait for it");
    shell.pass(DEADLINE - Duration::from_secs(6));
    assert_eq!(shell.supervisor.state(), State::Reconnecting);
    assert!(cause(&shell).starts_with(SWALLOWED), "{}", cause(&shell));
}

/// It was a counter: anyone who may notify the channel could answer in place of the session.
#[test]
fn a_heartbeat_cannot_be_guessed() {
    let mut shell = asked();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        assert!(shell.nonce.len() == 32 && seen.insert(shell.nonce.clone()), "{}", shell.nonce);
        let both = [notified(), shell.fence()].concat();
        shell.read(&both);
        shell.pass_until_due();
        assert_eq!(shell.take_sent(), ["notify"]);
    }
}

/// With each one that the consumer took, all the others were searched again.
#[test]
fn a_run_without_room_is_searched_once_for_the_heartbeat() {
    let mut shell = asked();
    let looked_at = looked_at_in_a_run_without_room(&mut shell);
    assert!(looked_at <= 500, "{looked_at}");
    let both = [notified(), shell.fence()].concat();
    shell.read(&both);
    assert_eq!(shell.due_in(), EVERY);
}
