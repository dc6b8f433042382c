//! The testkit behaves as documented on each server of the matrix.

mod common;

use std::time::{Duration, Instant};

use common::{Session, ask, own_role, trusting};
use pgbell_testkit::{Auth, Installation, MAJORS, Mode};

fn installation(major: u32) -> Installation {
    let matrix = Installation::matrix().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(matrix.iter().map(Installation::major).collect::<Vec<_>>(), MAJORS);
    matrix.into_iter().find(|one| one.major() == major).unwrap()
}

/// Up to version 14 a process of a killed server may wait ten seconds for a dead statistics collector.
#[test]
fn matrix_a_server_can_be_started_again_after_its_new_postmaster_was_killed() {
    for major in MAJORS {
        let cluster = trusting().installation(installation(major)).start().unwrap();
        for _ in 0..3 {
            let begin = Instant::now();
            cluster.kill_postmaster().unwrap();
            cluster.start_again().unwrap();
            assert!(begin.elapsed() < Duration::from_secs(9), "{major}: {:?}", begin.elapsed());
        }
    }
}

fn check(major: u32) {
    // AuthenticationOk, CleartextPassword, MD5Password, SASL.
    let expect = [(Auth::Trust, 0), (Auth::Password, 3), (Auth::Md5, 5), (Auth::ScramSha256, 10)];
    for (auth, code) in expect {
        let cluster = trusting().installation(installation(major)).auth(auth).start().unwrap();
        assert_eq!(Session::open(&cluster).unwrap().auth, code, "{auth:?}");
        if auth == Auth::Trust {
            own_role(&cluster);
        }
    }

    let primary = trusting()
        .installation(installation(major))
        .auth(Auth::ScramSha256)
        .hba("host all all 127.0.0.1/32 trust")
        .init_sql("CREATE ROLE bob LOGIN PASSWORD 'straße'")
        .start()
        .unwrap();
    assert_eq!(ask(&primary, "SHOW server_version"), [primary.version()]);
    let stored = "SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'";
    assert_eq!(ask(&primary, stored), ["2"]);
    for mode in [Mode::Fast, Mode::Immediate] {
        primary.stop(mode).unwrap();
        primary.start_again().unwrap();
    }
    primary.kill_postmaster().unwrap();
    primary.start_again().unwrap();

    ask(&primary, "CREATE TABLE t AS SELECT 1 AS n");
    let standby = primary.standby().unwrap();
    assert_eq!(ask(&standby, "SELECT pg_is_in_recovery()"), ["t"]);
    ask(&primary, "INSERT INTO t VALUES (2)");
    standby.wait_caught_up(&primary).unwrap();
    assert_eq!(ask(&standby, "SELECT count(*) FROM t"), ["2"]);
    primary.set_read_only(true).unwrap();
    assert_eq!(ask(&primary, "SHOW transaction_read_only"), ["on"]);
    standby.promote().unwrap();
    ask(&standby, "INSERT INTO t VALUES (3)");
}

#[test]
fn matrix_13() {
    check(13);
}

#[test]
fn matrix_14() {
    check(14);
}

#[test]
fn matrix_15() {
    check(15);
}

#[test]
fn matrix_16() {
    check(16);
}

#[test]
fn matrix_17() {
    check(17);
}

#[test]
fn matrix_18() {
    check(18);
}
