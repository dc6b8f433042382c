//! A service file on a file system that hangs or is slow.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::{ServerLocation, SessionPurpose, establish, establish_at, establish_until};
use super::*;
use crate::error::ErrorKind;

/// Runs a test in a runtime in which the only thread for blocking operations hangs, as with a network file system.
fn with_a_file_system_that_hangs<F: Future>(test: impl FnOnce(Sender<()>) -> F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    let (release, released) = channel::<()>();
    runtime.spawn_blocking(move || released.recv());
    runtime.block_on(test(release))
}

#[test]
fn a_service_file_that_is_not_read_in_time_ends_the_attempt() {
    let scratch = Scratch::new("hang");
    let file = scratch.file("services", "[one]\nhost=127.0.0.1\nport=1\n", 0o600);
    let config: Config = format!("service=one servicefile={file} user=ann").parse().unwrap();
    let short = config.clone().connect_timeout(Duration::from_millis(100));
    let long = config.connect_timeout(Duration::from_secs(600));
    let server = "host=127.0.0.1".parse::<Config>().unwrap().servers().unwrap().remove(0);
    let location = ServerLocation::tcp(server, "127.0.0.1:1".parse().unwrap());
    let limit = Duration::from_secs(20);
    with_a_file_system_that_hangs(async |_release| {
        let until = now() + Duration::from_millis(100);
        let results = tokio::join!(
            timeout(limit, establish(short.clone(), SessionPurpose::Connect)),
            timeout(limit, establish_at(short, SessionPurpose::Read, &location)),
            timeout(limit, establish_until(long, SessionPurpose::Listen, until)),
        );
        for result in [results.0, results.1, results.2] {
            let error = result.expect("the attempt has no timeout").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.to_string().contains("service file"), "{error}");
        }
    });
}

/// The environment is known before the file is read.
#[test]
fn the_timeout_of_a_service_file_is_that_of_the_environment() {
    let variables: Variables =
        [("PGCONNECT_TIMEOUT", "2"), ("PGSERVICE", "one"), ("PGUSER", "ann")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    with_a_file_system_that_hangs(async |_release| {
        let begin = Instant::now();
        let limit = Duration::from_secs(9);
        let result = timeout(limit, resolve("", &variables)).await;
        let error = result.expect("the timeout is longer").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    });
}

/// Reading the service file is part of `connect_timeout`.
#[test]
fn the_timeout_of_an_attempt_begins_before_the_service_file_is_read() {
    let scratch = Scratch::new("slow");
    // A server that accepts the connection, and never answers.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let text = format!("[one]\nhost=127.0.0.1\nport={port}\nsslmode=disable\n");
    let file = scratch.file("services", text, 0o600);
    let config: Config = format!("service=one servicefile={file} user=ann").parse().unwrap();
    let config = config.connect_timeout(Duration::from_secs(3));
    with_a_file_system_that_hangs(async |release: Sender<()>| {
        let begin = Instant::now();
        let reading = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            release.send(()).unwrap();
        };
        let attempt = establish(config.clone(), SessionPurpose::Connect);
        let (result, ()) = tokio::join!(attempt, reading);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(begin.elapsed() < Duration::from_millis(4_500), "{:?}", begin.elapsed());
    });
}
