//! Restoring the wanted channels on a new session.

use super::*;

/// Returns the channels `n000`, `n001` and so on.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n:03}")).collect()
}

fn refuse(driver: &mut TestDriver, name: &str) {
    driver.refused.insert(name.to_owned());
}

/// Returns a driver whose session was lost, and whose next attempt has begun.
fn down(policy: Policy) -> TestDriver {
    let mut driver = TestDriver::up(policy);
    driver.break_and_reopen();
    driver.clear_logs();
    driver
}

#[test]
fn one_refused_channel_is_refused_alone_and_the_others_become_active() {
    let mut driver = down(Policy { channels: names(150), ..lasting() });
    refuse(&mut driver, "n070");
    driver.open();
    let groups: Vec<usize> =
        driver.serve().iter().map(|sql| sql.matches("LISTEN").count()).collect();
    assert_eq!(groups, [64, 64, 22]);
    assert_eq!(driver.take_log(), NOTHING);
    assert_eq!(driver.seen(), NOTHING);
    // The group in the middle is sent again, one by one.
    let again = driver.serve();
    assert_eq!(again.len(), 64);
    assert_eq!((&*again[0], &*again[63]), (r#"LISTEN "n064""#, r#"LISTEN "n127""#));
    assert_eq!(driver.take_log(), ["Connected"]);
    for (name, state) in driver.supervisor.channels() {
        match state {
            ChannelState::Refused(error) => {
                assert_eq!((name, error.to_string()), ("n070", REFUSED.to_owned()));
            }
            state => assert!(matches!(state, ChannelState::Active) && name != "n070", "{name}"),
        }
    }
    assert_eq!(driver.seen(), ["GAP"]);
    let gaps = driver.take_gaps();
    let [(name, error)] = gaps[0].refused() else { panic!("one is refused") };
    assert_eq!((&**name, error.sqlstate()), ("n070", Some("42501")));
    assert!(matches!(
        driver.logged[..],
        [LogEvent::Established { epoch: 2, channels: 149, refused: 1 }]
    ));
}

#[test]
fn a_refused_channel_is_tried_again_with_every_new_session() {
    let mut driver = down(lasting());
    refuse(&mut driver, "a");
    driver.open();
    driver.serve();
    assert_eq!(driver.channels()[0].split(['(', ' ']).nth(1), Some("Refused"));
    // A group with one channel is not sent twice on one session.
    assert_eq!(driver.serve(), NOTHING);
    driver.refused.clear();
    driver.reconnect();
    assert_eq!(driver.serve(), [r#"LISTEN "a""#]);
    assert_eq!(driver.channels(), ["a Active"]);
    assert!(driver.take_gaps()[1].refused().is_empty());
}

/// In an earlier version a gap of the same session reported it as refused.
#[test]
fn a_refused_channel_that_the_server_accepts_later_is_not_reported_as_refused() {
    let mut driver = down(lasting());
    refuse(&mut driver, "a");
    driver.open();
    driver.serve();
    driver.refused.clear();
    driver.command(listen(&["a"]));
    driver.serve();
    assert_eq!(driver.channels(), ["a Active"]);
    driver.take_gaps();
    driver.read(&[ERROR, READY].concat());
    assert!(driver.take_gaps()[0].refused().is_empty());
}

#[test]
fn a_refused_channel_in_a_group_of_the_first_restore_ends_the_listener_with_its_name() {
    let mut driver = TestDriver::new(Policy { channels: names(70), ..lasting() });
    refuse(&mut driver, "n066");
    driver.open();
    driver.serve_all();
    let text = NOT_LISTENED.replace("\"a\"", "\"n066\"");
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", &format!("done: {text}")]);
}

#[test]
fn a_thousand_channels_with_a_bad_one_take_two_round_trips() {
    let mut driver = down(Policy { channels: names(1_000), ..lasting() });
    refuse(&mut driver, "n500");
    driver.open();
    let trips: Vec<usize> = driver.serve_all().iter().map(Vec::len).collect();
    assert_eq!(trips, [16, 64]);
    assert_eq!(driver.take_log(), ["Connected"]);
}

#[test]
fn commands_given_while_a_session_is_restored_wait_until_it_is() {
    let mut driver = down(lasting());
    driver.command(listen(&["b"]));
    assert_eq!(driver.take_log(), ["0: Pending"]);
    driver.open();
    driver.command(unlisten(&["a"]));
    driver.command(listen(&["c"]));
    driver.command(query("SELECT 1"));
    assert_eq!(driver.serve(), [r#"LISTEN "a";LISTEN "b""#]);
    assert_eq!(driver.take_log(), ["Connected"]);
    assert_eq!(driver.serve(), [r#"UNLISTEN "a""#, r#"LISTEN "c""#]);
    assert_eq!(driver.take_log(), ["1: Unlistened", "2: Active"]);
    assert_eq!(driver.serve(), ["SELECT 1"]);
    assert_eq!(driver.take_log(), ["3: 1 results"]);
    assert_eq!(driver.channels(), ["b Active", "c Active"]);
}

#[test]
fn commands_without_a_session_are_applied_once_and_in_order() {
    type Change = (fn() -> Command, fn(&mut BTreeSet<String>));
    let changes: [Change; 5] = [
        (|| listen(&["b"]), |set| set.extend(["b".into()])),
        (|| listen(&["c", "b"]), |set| set.extend(["b".into(), "c".into()])),
        (|| unlisten(&["a"]), |set| set.retain(|name| name != "a")),
        (|| unlisten(&["b"]), |set| set.retain(|name| name != "b")),
        (|| Command::UnlistenAll, BTreeSet::clear),
    ];
    for order in 0..changes.len().pow(3) {
        let mut driver = down(lasting());
        let mut expect = BTreeSet::from(["a".to_owned()]);
        for place in 0..3 {
            let (command, apply) = changes[order / changes.len().pow(place) % changes.len()];
            driver.command(command());
            apply(&mut expect);
        }
        let log = driver.take_log();
        assert!(log.iter().all(|line| line.ends_with("ending") || line.ends_with("Unlistened")));
        driver.open();
        let sent = driver.serve();
        let sql: Vec<String> = expect.iter().map(|name| format!("LISTEN {name:?}")).collect();
        assert_eq!(sent.join(";"), sql.join(";"));
        assert_eq!(driver.serve(), NOTHING);
        let states: Vec<String> = expect.iter().map(|name| format!("{name} Active")).collect();
        assert_eq!(driver.channels(), states);
        assert_eq!(driver.seen(), ["GAP"]);
    }
}

#[test]
fn a_channel_whose_unlisten_was_in_flight_at_the_loss_is_not_listened_to_again() {
    for command in [unlisten(&["a"]), Command::UnlistenAll] {
        let mut driver =
            TestDriver::up(Policy { channels: vec!["a".into(), "b".into()], ..lasting() });
        driver.command(command.clone());
        driver.take_sent();
        driver.event(broken());
        assert_eq!(driver.take_log(), ["0: Unlistened", "close 1 Abort", "Reconnecting"]);
        driver.reopen();
        let rest = if command == Command::UnlistenAll { &[][..] } else { &[r#"LISTEN "b""#][..] };
        assert_eq!(driver.serve(), rest);
        assert_eq!(driver.seen(), ["GAP"]);
    }
}

#[test]
fn a_listen_in_flight_at_the_loss_is_pending_and_active_before_the_gap() {
    let mut driver = TestDriver::up(lasting());
    driver.command(listen(&["b"]));
    driver.command(listen(&["c"]));
    driver.command(unlisten(&["b"]));
    driver.read(&[LISTEN, READY].concat());
    driver.event(LinkEvent::Eof);
    assert_eq!(
        driver.take_log(),
        ["0: Active", "1: Pending", "2: Unlistened", "close 1 Abort", "Reconnecting"]
    );
    assert_eq!(driver.channels(), ["a Pending", "c Pending"]);
    driver.reopen();
    assert_eq!(driver.seen(), NOTHING);
    assert_eq!(driver.serve(), [r#"LISTEN "a";LISTEN "c""#]);
    assert_eq!(driver.seen(), ["GAP"]);
    assert_eq!(driver.channels(), ["a Active", "c Active"]);
}

/// The error of a query without a session. It is transient.
const NO_SESSION: &str = "1: connection: no session is up (hint: the listener reconnects by itself: try again \
    when its state is Connected)";

#[test]
fn a_query_in_flight_at_the_loss_is_in_doubt_and_one_that_waited_was_not_sent() {
    let mut driver = TestDriver::up(lasting());
    driver.command(query("SELECT 1"));
    driver.command(query("SELECT 2"));
    driver.command(listen(&["b"]));
    driver.event(broken());
    let log = driver.take_log();
    assert!(log[0].starts_with("0: in doubt: the connection was lost"), "{log:?}");
    let rest = ["close 1 Abort", "Reconnecting", NO_SESSION, "2: Pending"];
    assert_eq!(log[1..], rest);
}

/// They would never be answered, or by the wrong session.
#[test]
fn commands_that_waited_for_a_restore_that_fails_are_applied_without_a_session() {
    let mut driver = down(lasting());
    driver.open();
    driver.command(listen(&["b"]));
    driver.command(query("SELECT 1"));
    driver.command(Command::Rotate);
    driver.event(broken());
    assert_eq!(driver.take_log(), ["close 2 Abort", "0: Pending", NO_SESSION, "2: Rotating"]);
    driver.reopen();
    assert_eq!(driver.serve(), [r#"LISTEN "a";LISTEN "b""#]);
    assert_eq!(driver.take_log(), ["open 3", "Connected"]);
}

/// Returns a name that the server may cut.
fn long_name() -> String {
    "\u{e9}".repeat(16)
}

const MUTE: &str = "timeout: the server did not answer SET client_min_messages = notice within 5s";

/// An earlier version waited without a limit: the SET before the LISTEN had no timeout.
#[test]
fn a_server_that_does_not_answer_the_setting_for_notices_is_given_up_in_time() {
    let channels = vec![long_name()];
    let mut driver = TestDriver::opened(Policy { channels: channels.clone(), ..policy() });
    driver.read(PRELUDE);
    assert_eq!(driver.due_in(), seconds(5));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 1 Abort", "Closed", &format!("done: {MUTE}")]);

    let mut driver = TestDriver::opened(Policy { channels, ..lasting() });
    driver.read(PRELUDE);
    let set = [message(b'C', b"SET\0"), READY.to_vec(), LISTEN.to_vec(), READY.to_vec()].concat();
    driver.read(&set);
    assert_eq!(driver.take_log(), ["Connected"]);
    driver.break_and_reopen();
    driver.open();
    driver.clear_logs();
    assert_eq!(driver.due_in(), seconds(5));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["close 2 Abort"]);
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["open 3"]);
}

/// On a live session without channels there is no heartbeat before its first LISTEN.
#[test]
fn a_first_listen_after_the_setting_for_notices_has_a_deadline() {
    let mut driver = TestDriver::up(Policy { channels: Vec::new(), ..lasting() });
    driver.command(listen(&[&long_name()]));
    assert_eq!(driver.due_in(), seconds(5));
    driver.pass_until_due();
    assert_eq!(driver.take_log(), ["0: Pending", "close 1 Abort", "Reconnecting"]);
}
