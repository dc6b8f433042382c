//! A service file on a file system that hangs, or is slow.

use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::super::{Place, Purpose, establish, establish_at, establish_until};
use super::*;
use crate::ErrorKind;

/// A network file system may hang: here the only thread that reads files does.
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
    let place = Place::tcp(server, "127.0.0.1:1".parse().unwrap());
    let patience = Duration::from_secs(20);
    with_a_file_system_that_hangs(async |_release| {
        let until = now() + Duration::from_millis(100);
        let results = tokio::join!(
            timeout(patience, establish(short.clone(), Purpose::Connect)),
            timeout(patience, establish_at(short, Purpose::Read, &place)),
            timeout(patience, establish_until(long, Purpose::Listen, until)),
        );
        for result in [results.0, results.1, results.2] {
            let error = result.expect("it waits for ever").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.to_string().contains("service file"), "{error}");
        }
    });
}

/// What the environment says is known before the file is read.
#[test]
fn the_time_for_a_service_file_is_that_of_the_environment() {
    let variables: Variables =
        [("PGCONNECT_TIMEOUT", "2"), ("PGSERVICE", "one"), ("PGUSER", "ann")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
    with_a_file_system_that_hangs(async |_release| {
        let begin = Instant::now();
        let patience = Duration::from_secs(9);
        let result = timeout(patience, resolve("", &variables)).await;
        let error = result.expect("it waits longer").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(begin.elapsed() >= Duration::from_secs(2), "{:?}", begin.elapsed());
    });
}

/// The time in which the service file was read is part of `connect_timeout`.
#[test]
fn the_time_of_an_attempt_begins_before_the_service_file_is_read() {
    let scratch = Scratch::new("slow");
    // It takes the connection, and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = mute.local_addr().unwrap().port();
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
        let attempt = establish(config.clone(), Purpose::Connect);
        let (result, ()) = tokio::join!(attempt, reading);
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(begin.elapsed() < Duration::from_millis(4_500), "{:?}", begin.elapsed());
    });
}
