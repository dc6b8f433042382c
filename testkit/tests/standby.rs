//! A standby follows, catches up, is promoted and changes places with its primary.

mod common;

use std::time::{Duration, Instant};

use common::{Session, ask, trusting, until};
use pgbell_testkit::{Auth, Cut, Direction, Flow, Mode, Proxy};

#[test]
fn a_standby_follows_and_can_be_promoted() {
    let primary = trusting()
        .auth(Auth::ScramSha256)
        .hba("host all all 127.0.0.1/32 trust")
        .superuser_password(r"it's \ a word")
        .start()
        .unwrap();
    ask(&primary, "CREATE TABLE t AS SELECT 1 AS n");
    let standby = primary.standby().unwrap();
    assert_ne!(standby.port(), primary.port());
    assert_eq!(ask(&standby, "SELECT pg_is_in_recovery()"), ["t"]);
    ask(&primary, "INSERT INTO t VALUES (2)");
    until("the row on the standby", || ask(&standby, "SELECT count(*) FROM t") == ["2"]);
    assert!(primary.promote().is_err());

    standby.promote().unwrap();
    assert_eq!(ask(&standby, "SELECT pg_is_in_recovery()"), ["f"]);
    ask(&standby, "INSERT INTO t VALUES (3)");
    assert_eq!(ask(&primary, "SELECT count(*) FROM t"), ["2"]);
}

#[test]
fn a_standby_that_has_caught_up_shows_every_commit() {
    let primary = trusting().start().unwrap();
    ask(&primary, "CREATE TABLE t (n int)");
    let standby = primary.standby().unwrap();
    let port = standby.port();
    for n in 1..=20 {
        ask(&primary, &format!("INSERT INTO t VALUES ({n})"));
        standby.wait_caught_up(&primary).unwrap();
        assert_eq!(ask(&standby, "SELECT count(*) FROM t"), [n.to_string()]);
    }
    // Nothing new was written: it returns at once.
    standby.wait_caught_up(&primary).unwrap();

    for mode in [Mode::Fast, Mode::Immediate] {
        standby.stop(mode).unwrap();
        ask(&primary, "INSERT INTO t VALUES (0)");
        standby.start_again().unwrap();
        assert_eq!(standby.port(), port);
        standby.wait_caught_up(&primary).unwrap();
    }
    assert_eq!(ask(&standby, "SELECT count(*) FROM t"), ["22"]);
    primary.restart().unwrap();
    primary.set_read_only(true).unwrap();
    let error = Session::open(&primary).unwrap().ask("INSERT INTO t VALUES (0)").unwrap_err();
    assert!(error.to_string().contains("25006"), "{error}");
    standby.wait_caught_up(&primary).unwrap();
    primary.set_read_only(false).unwrap();
    ask(&primary, "INSERT INTO t VALUES (0)");
    standby.wait_caught_up(&primary).unwrap();
    assert_eq!(ask(&standby, "SELECT count(*) FROM t"), ["23"]);

    // A session can see that the server is a standby: LISTEN is refused.
    let mut session = Session::open(&standby).unwrap();
    let error = session.ask("LISTEN a").unwrap_err().to_string();
    assert!(error.contains("25006"), "{error}");
}

#[test]
fn a_commit_waits_for_a_synchronous_standby_behind_a_proxy() {
    let primary = trusting()
        .auth(Auth::ScramSha256)
        .hba("host all all 127.0.0.1/32 trust")
        .superuser_password(r"it's \ a word")
        .setting("synchronous_commit", "on")
        .start()
        .unwrap();
    let proxy = Proxy::start(primary.port()).unwrap();
    let standby = primary.standby_through(&proxy).unwrap();
    ask(&primary, "CREATE TABLE t (n int)");
    standby.wait_caught_up(&primary).unwrap();
    primary.set("synchronous_standby_names", "*").unwrap();

    let delay = Duration::from_millis(60);
    proxy.handle().set(Direction::ToServer, Flow::Delay(delay));
    let insert = || {
        let begin = Instant::now();
        ask(&primary, "INSERT INTO t VALUES (1)");
        begin.elapsed()
    };
    // The checkpointer reads the setting by itself, and may be later than the postmaster.
    until("a commit that waits", || insert() >= delay);
    assert!(insert() >= delay);
    // A lost connection is made again, through the same proxy.
    proxy.handle().set(Direction::ToServer, Flow::Forward);
    assert!(proxy.handle().cut(Cut::Reset).unwrap() > 0);
    insert();
    standby.wait_caught_up(&primary).unwrap();
    let count = "SELECT count(*) FROM t";
    assert_eq!(ask(&standby, count), ask(&primary, count));
    assert!(proxy.handle().accepted() >= 2);
}

#[test]
fn two_servers_change_places_on_their_ports() {
    let one = trusting().start().unwrap();
    ask(&one, "CREATE TABLE t AS SELECT 1 AS n");
    let two = one.standby().unwrap();
    let ports = [one.port(), two.port()];
    let (mut primary, mut standby) = (&one, &two);
    for n in 2..=3 {
        standby.wait_caught_up(primary).unwrap();
        primary.kill_postmaster().unwrap();
        standby.promote().unwrap();
        primary.follow(standby).unwrap();
        (primary, standby) = (standby, primary);
        ask(primary, &format!("INSERT INTO t VALUES ({n})"));
        standby.wait_caught_up(primary).unwrap();
        assert_eq!(ask(standby, "SELECT count(*) FROM t"), [n.to_string()]);
        assert_eq!(ask(standby, "SELECT pg_is_in_recovery()"), ["t"]);
        assert_eq!(ask(primary, "SELECT pg_is_in_recovery()"), ["f"]);
    }
    assert_eq!(ports, [one.port(), two.port()]);
    // A standby can have a standby too.
    let third = standby.standby().unwrap();
    ask(primary, "INSERT INTO t VALUES (4)");
    standby.wait_caught_up(primary).unwrap();
    third.wait_caught_up(standby).unwrap();
    assert_eq!(ask(&third, "SELECT count(*) FROM t"), ["4"]);
    assert!(one.follow(&one).unwrap_err().to_string().contains("its own standby"));
}

#[test]
fn a_standby_that_cannot_catch_up_is_an_error_within_the_timeout() {
    let primary = trusting().timeout(Duration::from_secs(4)).start().unwrap();
    let standby = primary.standby().unwrap();
    standby.wait_caught_up(&primary).unwrap();
    ask(&standby, "SELECT pg_wal_replay_pause()");
    ask(&primary, "CREATE TABLE t ()");
    let error = standby.wait_caught_up(&primary).unwrap_err().to_string();
    assert!(error.contains("the standby did not reach 0/"), "{error}");
    ask(&standby, "SELECT pg_wal_replay_resume()");
    standby.wait_caught_up(&primary).unwrap();
    primary.stop(Mode::Fast).unwrap();
    let error = standby.wait_caught_up(&primary).unwrap_err().to_string();
    assert!(error.contains("does not answer"), "{error}");
}
