//! What is wanted, on a new session.

use super::*;

/// `n000`, `n001` and so on.
fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("n{n:03}")).collect()
}

fn refuse(shell: &mut Shell, name: &str) {
    shell.refused.insert(name.to_owned());
}

/// A listener whose session was lost, and whose next one is to be opened.
fn down(policy: Policy) -> Shell {
    let mut shell = Shell::up(policy);
    shell.break_and_reopen();
    shell.forget();
    shell
}

#[test]
fn one_refused_channel_is_refused_alone_and_the_others_become_active() {
    let mut shell = down(Policy { channels: names(150), ..lasting() });
    refuse(&mut shell, "n070");
    shell.open();
    let groups: Vec<usize> =
        shell.serve().iter().map(|sql| sql.matches("LISTEN").count()).collect();
    assert_eq!(groups, [64, 64, 22]);
    assert_eq!(shell.take_log(), NOTHING);
    assert_eq!(shell.seen(), NOTHING);
    // The group in the middle again, one by one.
    let again = shell.serve();
    assert_eq!(again.len(), 64);
    assert_eq!((&*again[0], &*again[63]), (r#"LISTEN "n064""#, r#"LISTEN "n127""#));
    assert_eq!(shell.take_log(), ["Connected"]);
    for (name, state) in shell.supervisor.channels() {
        match state {
            ChannelState::Refused(error) => {
                assert_eq!((name, error.to_string()), ("n070", REFUSED.to_owned()));
            }
            state => assert!(matches!(state, ChannelState::Active) && name != "n070", "{name}"),
        }
    }
    assert_eq!(shell.seen(), ["GAP"]);
    let gaps = shell.take_gaps();
    let [(name, error)] = gaps[0].refused() else { panic!("one is refused") };
    assert_eq!((&**name, error.sqlstate()), ("n070", Some("42501")));
    assert!(matches!(
        shell.told[..],
        [Incident::Established { epoch: 2, channels: 149, refused: 1 }]
    ));
}

#[test]
fn a_refused_channel_is_tried_again_with_every_new_session() {
    let mut shell = down(lasting());
    refuse(&mut shell, "a");
    shell.open();
    shell.serve();
    assert_eq!(shell.channels()[0].split(['(', ' ']).nth(1), Some("Refused"));
    // A group of one is not tried twice on one session.
    assert_eq!(shell.serve(), NOTHING);
    shell.refused.clear();
    shell.come_back();
    assert_eq!(shell.serve(), [r#"LISTEN "a""#]);
    assert_eq!(shell.channels(), ["a Active"]);
    assert!(shell.take_gaps()[1].refused().is_empty());
}

/// A gap of the same session said that it was still refused.
#[test]
fn a_refused_channel_that_a_user_listens_to_later_is_not_told_as_refused_any_more() {
    let mut shell = down(lasting());
    refuse(&mut shell, "a");
    shell.open();
    shell.serve();
    shell.refused.clear();
    shell.command(listen(&["a"]));
    shell.serve();
    assert_eq!(shell.channels(), ["a Active"]);
    shell.take_gaps();
    shell.read(&[ERROR, READY].concat());
    assert!(shell.take_gaps()[0].refused().is_empty());
}

#[test]
fn a_refused_channel_in_a_group_of_the_first_subscription_ends_it_with_the_name() {
    let mut shell = Shell::new(Policy { channels: names(70), ..lasting() });
    refuse(&mut shell, "n066");
    shell.open();
    shell.serve_all();
    let text = NOT_LISTENED.replace("\"a\"", "\"n066\"");
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", &format!("done: {text}")]);
}

#[test]
fn a_thousand_channels_with_a_bad_one_take_two_round_trips() {
    let mut shell = down(Policy { channels: names(1_000), ..lasting() });
    refuse(&mut shell, "n500");
    shell.open();
    let trips: Vec<usize> = shell.serve_all().iter().map(Vec::len).collect();
    assert_eq!(trips, [16, 64]);
    assert_eq!(shell.take_log(), ["Connected"]);
}

#[test]
fn commands_given_while_a_session_is_restored_wait_until_it_is() {
    let mut shell = down(lasting());
    shell.command(listen(&["b"]));
    assert_eq!(shell.take_log(), ["0: Pending"]);
    shell.open();
    shell.command(unlisten(&["a"]));
    shell.command(listen(&["c"]));
    shell.command(query("SELECT 1"));
    assert_eq!(shell.serve(), [r#"LISTEN "a";LISTEN "b""#]);
    assert_eq!(shell.take_log(), ["Connected"]);
    assert_eq!(shell.serve(), [r#"UNLISTEN "a""#, r#"LISTEN "c""#]);
    assert_eq!(shell.take_log(), ["1: Unlistened", "2: Active"]);
    assert_eq!(shell.serve(), ["SELECT 1"]);
    assert_eq!(shell.take_log(), ["3: 1 results"]);
    assert_eq!(shell.channels(), ["b Active", "c Active"]);
}

#[test]
fn wishes_of_the_time_without_a_session_are_applied_once_and_in_order() {
    type Wish = (fn() -> Command, fn(&mut BTreeSet<String>));
    let wishes: [Wish; 5] = [
        (|| listen(&["b"]), |set| set.extend(["b".into()])),
        (|| listen(&["c", "b"]), |set| set.extend(["b".into(), "c".into()])),
        (|| unlisten(&["a"]), |set| set.retain(|name| name != "a")),
        (|| unlisten(&["b"]), |set| set.retain(|name| name != "b")),
        (|| Command::UnlistenAll, BTreeSet::clear),
    ];
    for order in 0..wishes.len().pow(3) {
        let mut shell = down(lasting());
        let mut expect = BTreeSet::from(["a".to_owned()]);
        for place in 0..3 {
            let (wish, apply) = wishes[order / wishes.len().pow(place) % wishes.len()];
            shell.command(wish());
            apply(&mut expect);
        }
        let log = shell.take_log();
        assert!(log.iter().all(|line| line.ends_with("ending") || line.ends_with("Unlistened")));
        shell.open();
        let sent = shell.serve();
        let sql: Vec<String> = expect.iter().map(|name| format!("LISTEN {name:?}")).collect();
        assert_eq!(sent.join(";"), sql.join(";"));
        assert_eq!(shell.serve(), NOTHING);
        let states: Vec<String> = expect.iter().map(|name| format!("{name} Active")).collect();
        assert_eq!(shell.channels(), states);
        assert_eq!(shell.seen(), ["GAP"]);
    }
}

#[test]
fn a_channel_whose_unlisten_was_in_flight_at_the_loss_is_not_subscribed_again() {
    for command in [unlisten(&["a"]), Command::UnlistenAll] {
        let mut shell = Shell::up(Policy { channels: vec!["a".into(), "b".into()], ..lasting() });
        shell.command(command.clone());
        shell.take_sent();
        shell.event(broken());
        assert_eq!(shell.take_log(), ["0: Unlistened", "close 1 Abort", "Reconnecting"]);
        shell.reopen();
        let rest = if command == Command::UnlistenAll { &[][..] } else { &[r#"LISTEN "b""#][..] };
        assert_eq!(shell.serve(), rest);
        assert_eq!(shell.seen(), ["GAP"]);
    }
}

#[test]
fn a_listen_in_flight_at_the_loss_is_pending_and_active_before_the_gap() {
    let mut shell = Shell::up(lasting());
    shell.command(listen(&["b"]));
    shell.command(listen(&["c"]));
    shell.command(unlisten(&["b"]));
    shell.read(&[LISTEN, READY].concat());
    shell.event(LinkEvent::Eof);
    assert_eq!(
        shell.take_log(),
        ["0: Active", "1: Pending", "2: Unlistened", "close 1 Abort", "Reconnecting"]
    );
    assert_eq!(shell.channels(), ["a Pending", "c Pending"]);
    shell.reopen();
    assert_eq!(shell.seen(), NOTHING);
    assert_eq!(shell.serve(), [r#"LISTEN "a";LISTEN "c""#]);
    assert_eq!(shell.seen(), ["GAP"]);
    assert_eq!(shell.channels(), ["a Active", "c Active"]);
}

/// It is no end of the listener: who tries again when an error is transient, tries this again.
const NO_SESSION: &str = "1: connection: no session is up (hint: the listener comes back by itself: ask again \
    when its state is Connected)";

#[test]
fn a_query_in_flight_at_the_loss_is_in_doubt_and_one_that_waited_was_not_sent() {
    let mut shell = Shell::up(lasting());
    shell.command(query("SELECT 1"));
    shell.command(query("SELECT 2"));
    shell.command(listen(&["b"]));
    shell.event(broken());
    let log = shell.take_log();
    assert!(log[0].starts_with("0: in doubt: the connection was lost"), "{log:?}");
    let rest = ["close 1 Abort", "Reconnecting", NO_SESSION, "2: Pending"];
    assert_eq!(log[1..], rest);
}

/// They would never be answered, or on the wrong session.
#[test]
fn commands_that_waited_for_a_restore_that_breaks_are_wishes() {
    let mut shell = down(lasting());
    shell.open();
    shell.command(listen(&["b"]));
    shell.command(query("SELECT 1"));
    shell.command(Command::Rotate);
    shell.event(broken());
    assert_eq!(shell.take_log(), ["close 2 Abort", "0: Pending", NO_SESSION, "2: Rotating"]);
    shell.reopen();
    assert_eq!(shell.serve(), [r#"LISTEN "a";LISTEN "b""#]);
    assert_eq!(shell.take_log(), ["open 3", "Connected"]);
}

/// A name that the server may cut.
fn long_name() -> String {
    "\u{e9}".repeat(16)
}

const MUTE: &str = "timeout: the server did not answer SET client_min_messages = notice within 5s";

/// The listener waited for ever: the setting in front of the LISTEN had no time limit.
#[test]
fn a_server_that_does_not_answer_the_setting_for_notices_is_given_up_in_time() {
    let channels = vec![long_name()];
    let mut shell = Shell::opened(Policy { channels: channels.clone(), ..policy() });
    shell.read(PRELUDE);
    assert_eq!(shell.due_in(), seconds(5));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 1 Abort", "Closed", &format!("done: {MUTE}")]);

    let mut shell = Shell::opened(Policy { channels, ..lasting() });
    shell.read(PRELUDE);
    let set = [message(b'C', b"SET\0"), READY.to_vec(), LISTEN.to_vec(), READY.to_vec()].concat();
    shell.read(&set);
    assert_eq!(shell.take_log(), ["Connected"]);
    shell.break_and_reopen();
    shell.open();
    shell.forget();
    assert_eq!(shell.due_in(), seconds(5));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["close 2 Abort"]);
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["open 3"]);
}

/// A live session without channels is asked for no proof before its first LISTEN.
#[test]
fn a_first_listen_behind_the_setting_for_notices_has_a_deadline() {
    let mut shell = Shell::up(Policy { channels: Vec::new(), ..lasting() });
    shell.command(listen(&[&long_name()]));
    assert_eq!(shell.due_in(), seconds(5));
    shell.pass_until_due();
    assert_eq!(shell.take_log(), ["0: Pending", "close 1 Abort", "Reconnecting"]);
}
