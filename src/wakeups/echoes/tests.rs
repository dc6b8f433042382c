//! Which notifications are echoes.

mod model;

use std::sync::LazyLock;

use super::*;

/// The time of all that a test does, unless it says another one.
fn now() -> Instant {
    static NOW: LazyLock<Instant> = LazyLock::new(Instant::now);
    *NOW
}

/// The listening session.
const HERE: (&str, &str) = ("127.0.0.1:5432", "shop");

fn place((address, database): (&str, &str)) -> SessionPlace {
    SessionPlace::tcp(address.parse().unwrap(), database)
}

fn source(process_id: i32, there: (&str, &str)) -> NudgeSource {
    NudgeSource { process_id, place: place(there) }
}

fn nudge(channel: &str, key: &str) -> Nudge {
    Nudge { channel: channel.into(), key: key.into() }
}

fn echoes() -> Echoes {
    let echoes = Echoes::default();
    echoes.listens_at(Some(place(HERE)));
    echoes
}

fn is_echo(echoes: &Echoes, process_id: i32, channel: &[u8], payload: &[u8]) -> bool {
    let mut found = Vec::new();
    echoes.recognize(channel, [(process_id, payload)].into_iter(), now(), &mut found);
    found.first().copied().unwrap_or(false)
}

fn count(echoes: &Echoes) -> usize {
    let expected = echoes.lock();
    expected.young.echoes.len() + expected.old.echoes.len()
}

fn bytes(echoes: &Echoes) -> usize {
    let expected = echoes.lock();
    expected.young.bytes + expected.old.bytes
}

#[test]
fn each_nudge_that_was_sent_has_one_echo() {
    let echoes = echoes();
    for _ in 0..2 {
        echoes.expect(&source(7, HERE), [nudge("a", "1"), nudge("a", "")].iter(), now());
    }
    for expected in [true, true, false] {
        assert_eq!(is_echo(&echoes, 7, b"a", b"1"), expected);
    }
    assert!(!is_echo(&echoes, 8, b"a", b""), "another session");
    assert!(!is_echo(&echoes, 7, b"b", b""), "another channel");
    assert!(!is_echo(&echoes, 7, b"a", b"2"), "another key");
    assert!(!is_echo(&echoes, 7, b"a", b"\xff"));
    let mut found = Vec::new();
    let run: [(i32, &[u8]); 4] = [(8, b""), (7, b""), (7, b""), (7, b"")];
    echoes.recognize(b"a", run.into_iter(), now(), &mut found);
    assert_eq!(found, [false, true, true, false]);
    assert_eq!((count(&echoes), bytes(&echoes)), (0, 0));
}

/// The process ids of two servers are not related, and a channel of another database is another one.
#[test]
fn a_nudge_to_another_server_or_database_has_no_echo() {
    let echoes = Echoes::default();
    for (there, is_listening) in [
        (HERE, false),
        (("127.0.0.1:5433", "shop"), true),
        (("127.0.0.1:5432", "mail"), true),
        (("127.0.0.2:5432", "shop"), true),
    ] {
        echoes.listens_at(is_listening.then(|| place(HERE)));
        echoes.expect(&source(7, there), [nudge("a", "")].iter(), now());
        assert!(!is_echo(&echoes, 7, b"a", b""), "{there:?}");
    }
}

#[test]
fn nothing_is_expected_after_a_refusal_or_a_lost_session() {
    let (echoes, one, two) = (echoes(), source(7, HERE), source(8, HERE));
    let sent = [nudge("a", "1"), nudge("a", "2")];
    echoes.expect(&one, sent.iter(), now());
    echoes.expect(&two, sent.iter(), now());
    echoes.refused(&one, &sent[..1], now());
    assert!(!is_echo(&echoes, 7, b"a", b"1"));
    echoes.session_ended(7);
    assert!(!is_echo(&echoes, 7, b"a", b"2"));
    assert!(is_echo(&echoes, 8, b"a", b"1"));
    echoes.listens_at(Some(place(HERE)));
    assert!(!is_echo(&echoes, 8, b"a", b"2"));
    assert_eq!((count(&echoes), bytes(&echoes)), (0, 0));
}

/// The address of a proxy is that of two servers during a failover. The echoes of the former one never arrive, and swallowed as many
/// notifications of another session, which had the same process id, however much later.
#[test]
fn an_echo_that_does_not_come_swallows_no_notification_of_a_later_time() {
    let (echoes, one) = (echoes(), source(7, HERE));
    let mut time = now();
    // One second apart. Those of the last ten are expected.
    for second in 1..=35 {
        time += Duration::from_secs(1);
        echoes.expect(&one, [nudge("a", "1"), nudge("b", "1")].iter(), time);
        let count = echoes.lock().young.echoes.values().map(|echo| echo.count).max();
        assert!(count.unwrap() <= 10, "{count:?} after {second}");
    }
    let is_echo = |channel: &[u8], time| {
        let mut found = Vec::new();
        echoes.recognize(channel, [(7, &b"1"[..])].into_iter(), time, &mut found);
        found == [true]
    };
    assert!(is_echo(b"a", time));
    for _ in 0..10 {
        assert!(!is_echo(b"a", time + EXPECTED_TIME));
        assert!(!is_echo(b"b", time + EXPECTED_TIME));
    }
    assert_eq!((count(&echoes), bytes(&echoes)), (0, 0));
}

/// A repeated nudge was forgotten with the older half although it was the last one.
#[test]
fn a_nudge_that_is_repeated_is_among_the_youngest() {
    let (echoes, one) = (echoes(), source(7, HERE));
    let fill = |range: std::ops::Range<usize>| {
        let nudges: Vec<_> = range.map(|key| nudge("a", &key.to_string())).collect();
        echoes.expect(&one, nudges.iter(), now());
    };
    fill(0..EXPECTED_MAX);
    // It is in the older half, which the next nudge drops.
    echoes.expect(&one, [nudge("a", "0")].iter(), now());
    fill(EXPECTED_MAX..EXPECTED_MAX + 100);
    assert!(is_echo(&echoes, 7, b"a", b"0") && is_echo(&echoes, 7, b"a", b"0"));
}

#[test]
fn what_is_expected_is_bounded() {
    let (echoes, one) = (echoes(), source(7, HERE));
    let mut most = 0;
    for key in 0..3 * EXPECTED_MAX {
        echoes.expect(&one, [nudge("a", &key.to_string())].iter(), now());
        most = most.max(count(&echoes));
        // The newer half is always there.
        let kept = key.saturating_sub(EXPECTED_MAX / 2 - 1).to_string();
        let name: &dyn Named = &(7, "a", &*kept);
        let expected = echoes.lock();
        let is_kept = |generation: &Generation| generation.echoes.contains_key(name);
        assert!(is_kept(&expected.young) || is_kept(&expected.old), "{kept} of {key}");
    }
    assert_eq!(most, EXPECTED_MAX);
    echoes.listens_at(Some(place(HERE)));
    let long = "x".repeat(7_990);
    for key in 0..100 {
        echoes.expect(&one, [nudge("a", &format!("{long}{key}"))].iter(), now());
        assert!(bytes(&echoes) <= EXPECTED_BYTES_MAX);
    }
    assert_eq!(count(&echoes), 16 + 100 % 16);
}

/// No notification arrives on a channel whose LISTEN was refused. Its expected echoes have kept out all others.
#[test]
fn echoes_that_never_come_keep_no_later_ones_out() {
    let (echoes, one) = (echoes(), source(7, HERE));
    let never = (0..2 * EXPECTED_MAX).map(|key| nudge("refused", &key.to_string()));
    echoes.expect(&one, never.collect::<Vec<_>>().iter(), now());
    for key in ["1", "2", "3"] {
        echoes.expect(&one, [nudge("a", key)].iter(), now());
        assert!(is_echo(&echoes, 7, b"a", key.as_bytes()), "{key}");
    }
}

/// Notifications of other processes are the rule. An earlier version allocated for each of them.
#[test]
fn nothing_is_allocated_for_notifications_while_no_echo_is_expected() {
    let (echoes, mut found) = (echoes(), Vec::new());
    let run = std::iter::repeat_n((7, &b"1"[..]), 100);
    echoes.recognize(b"a", run, now(), &mut found);
    assert_eq!(found.capacity(), 0);
    // Neither is the lock taken.
    let _locked = echoes.lock();
    assert!(!is_echo(&echoes, 7, b"a", b"1"));
}
