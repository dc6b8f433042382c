//! Servers that take long, or that use much of the client's time.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use pgbell::testing::{Delivery, Script};
use pgbell::{Connection, Error, ErrorKind, Event, Listener};
use tokio::net::{TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

use super::attack::{message, runtime};
use super::client::{check_text, soon, url};
use super::scram::{answered, begun, challenge, request, signature, verifier};

/// A runtime with a paused clock, which jumps to the next deadline when no task can run.
fn paused_clock() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

fn within(address: SocketAddr, connect_timeout: &str) -> String {
    format!("{}&connect_timeout={connect_timeout}", url(address))
}

/// Both clients connect to a server of this script. Returns each outcome, and how long it took.
async fn refused(
    script: Script,
    delivery: Delivery,
    connect_timeout: &str,
) -> Vec<(Error, Duration)> {
    let mut found = Vec::new();
    for client in ["connection", "listener"] {
        let (address, task) = script.clone().serve(delivery).await.unwrap();
        let (url, begin) = (within(address, connect_timeout), Instant::now());
        let error = match client {
            "connection" => Connection::connect(&url).await.map(drop).unwrap_err(),
            _ => Listener::connect(&url).await.map(drop).unwrap_err(),
        };
        found.push((error, begin.elapsed()));
        task.await.unwrap().unwrap();
    }
    found
}

/// A session that receives a message every six seconds is slow, and not lost.
#[test]
fn f18_a_valid_stream_at_ten_bytes_a_second_works() {
    let notifications = 46;
    let stream = Script::A1.repeat(notifications);
    let slow = Delivery::ByteEvery(Duration::from_millis(100));
    assert!(stream.len() >= 590, "the stream must last a minute");
    paused_clock().block_on(async {
        let script = Script::listening().send(&stream).expect_hex("58 00000004").wait_for_eof();
        let (address, task) = script.clone().serve(slow).await.unwrap();
        let mut connection = Connection::connect(within(address, "60")).await.unwrap();
        connection.listen("a").await.unwrap();
        let begin = Instant::now();
        let mut received = 0;
        while received < notifications {
            received += connection.recv_batch().await.unwrap().len();
        }
        assert!(begin.elapsed() >= Duration::from_secs(58), "{:?}", begin.elapsed());
        connection.close().await;
        task.await.unwrap().unwrap();

        let (address, task) = script.serve(slow).await.unwrap();
        // The interval is longer than the test, because the script does not answer a heartbeat.
        let builder = Listener::builder(within(address, "60"));
        let builder = builder.heartbeat(Duration::from_secs(3_600), Duration::from_secs(8));
        let mut listener = builder.connect().await.unwrap();
        listener.listen("a").await.unwrap();
        for _ in 0..notifications {
            assert!(matches!(listener.recv().await.unwrap(), Event::Notification(_)));
        }
        listener.close().await;
        task.await.unwrap().unwrap();
    });
}

#[test]
fn t21_a_server_that_accepts_the_connection_and_sends_nothing_costs_the_connect_timeout() {
    paused_clock().block_on(async {
        let silent = Script::new().expect_startup().wait_for_eof();
        for (error, time) in refused(silent, Delivery::Whole, "3").await {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            assert!(error.is_transient());
            assert!((3.0..3.5).contains(&time.as_secs_f64()), "{time:?}");
        }
    });
}

/// The kernel lets further connections wait without an answer, like a network that drops packets.
#[cfg(target_os = "linux")]
#[test]
fn t21_a_server_that_accepts_no_connection_costs_the_connect_timeout() {
    runtime().block_on(async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let server = socket.listen(1).unwrap();
        let address = server.local_addr().unwrap();
        let mut callers = Vec::new();
        let limit = Duration::from_millis(200);
        while let Ok(caller) = tokio::time::timeout(limit, TcpStream::connect(address)).await {
            callers.push(caller.unwrap());
            assert!(callers.len() < 100, "the listen queue never becomes full");
        }
        let url = within(address, "0.3");
        let begin = Instant::now();
        for error in [
            soon("connect", Connection::connect(&url)).await.map(drop).unwrap_err(),
            soon("connect", Listener::connect(&url)).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
        assert!(begin.elapsed() >= Duration::from_millis(600));
    });
}

/// The only thread for file access is occupied, as by a network file system that hangs.
#[cfg(feature = "tls")]
#[test]
fn tls_files_that_cannot_be_read_cost_the_connect_timeout() {
    let (held, hold) = std::sync::mpsc::channel::<()>();
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async move {
        let hung = tokio::task::spawn_blocking(move || hold.recv().unwrap_err());
        let url = "postgres://bob@127.0.0.1:1/db?sslmode=require&connect_timeout=0.2";
        for error in [
            soon("connect", Connection::connect(url)).await.map(drop).unwrap_err(),
            soon("connect", Listener::connect(url)).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            // The listener may report the connect timeout instead, which has a timer of its own.
            let text = format!("{error:#}");
            assert!(text.contains("the files of TLS") || text.contains("200ms"), "{error}");
        }
        drop(held);
        hung.await.unwrap();
    });
}

#[test]
fn t22_a_server_that_drips_through_the_startup_costs_the_connect_timeout() {
    paused_clock().block_on(async {
        let slow = Delivery::ByteEvery(Duration::from_secs(5));
        for script in [
            Script::let_in().wait_for_eof(),
            // A server that authenticates the client at once, and never sends ReadyForQuery.
            Script::new()
                .expect_startup()
                .send(message(b'S', &[&b"a\0"[..], &[b'x'; 50], b"\0"].concat()))
                .wait_for_eof(),
        ] {
            // The default timeout.
            for (error, time) in refused(script, slow, "10").await {
                assert!(
                    matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Protocol),
                    "{error}"
                );
                assert!(time <= Duration::from_millis(10_500), "{time:?}");
            }
        }
    });
}

/// The deadline of the command, 30 s: half an answer does not delay it. A listener has the same timeout for the first LISTEN of
/// a session.
#[test]
fn q8_silence_in_the_middle_of_an_answer_ends_at_the_deadline() {
    paused_clock().block_on(async {
        let half = Script::ready().expect_message(b'Q').send_hex("43 0000000b 4c495354454e00");
        for client in ["connection", "listener"] {
            let (address, task) = half.clone().wait_for_eof().serve(Delivery::Whole).await.unwrap();
            let begin;
            let errors = if client == "connection" {
                let mut connection = Connection::connect(&*url(address)).await.unwrap();
                begin = Instant::now();
                let listening = connection.listen("a").await.unwrap_err();
                [listening, connection.recv_batch().await.unwrap_err()]
            } else {
                let builder = Listener::builder(&*url(address)).reconnect(false);
                let mut listener = builder.connect().await.unwrap();
                begin = Instant::now();
                let listening = listener.listen("a").await.unwrap_err();
                [listening, listener.recv().await.unwrap_err()]
            };
            let took = begin.elapsed().as_secs_f64();
            assert!((30.0..31.0).contains(&took), "{client}: {took}");
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                assert!(
                    format!("{error:#}").contains("did not answer LISTEN within 30s"),
                    "{error}"
                );
            }
            task.await.unwrap().unwrap();
        }
    });
}

/// 100,000 iterations on one thread: after each step of 1,000 rounds all other tasks run, and so do sockets and timers, for
/// which `yield_now` waits. The time of a step is measured in `benches`; its number of rounds is tested in `auth::scram`.
#[test]
fn a7_other_tasks_run_after_every_step_of_the_longest_key_derivation() {
    let verifier = verifier(100_000);
    let signed = verifier.clone();
    let script = answered(&verifier)
        .send_with(move |received| {
            let last = request(12, &signature(&signed, received));
            [&last[..], Script::PRELUDE].concat()
        })
        .expect_message(b'Q')
        .send(Script::FACTS)
        .expect_hex("58 00000004")
        .wait_for_eof();
    runtime().block_on(async {
        for client in ["connection", "listener"] {
            let (address, task) = script.clone().serve(Delivery::Whole).await.unwrap();
            let turns = Arc::new(AtomicU32::new(0));
            let counter = Arc::clone(&turns);
            let others = tokio::spawn(async move {
                loop {
                    counter.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            });
            // A debug build on a busy machine needs this time for so many rounds.
            let url = within(address, "100");
            let login = async move {
                match client {
                    "connection" => Connection::connect(&url).await.unwrap().close().await,
                    _ => Listener::connect(&url).await.unwrap().close().await,
                }
            };
            soon("login", tokio::spawn(login)).await.unwrap();
            others.abort();
            let turns = turns.load(Ordering::Relaxed);
            assert!(turns >= 100, "{client}: {turns} turns");
            soon("script", task).await.unwrap().unwrap();
        }
    });
}

/// The configuration allows the count, and the timeout is too short for it.
#[test]
fn a7_a_key_derivation_that_takes_too_long_ends_with_the_connect_timeout() {
    runtime().block_on(async {
        let script = begun().send_with(challenge(|r| format!("r={r}x,s=c2FsdA==,i=2147483647")));
        let (address, task) = script.wait_for_eof().serve(Delivery::Whole).await.unwrap();
        let url = format!("{}&scram_iterations_max=2147483647", within(address, "0.5"));
        let connect = tokio::spawn(async move { Connection::connect(&url).await.map(drop) });
        let error = soon("the deadline", connect).await.unwrap().unwrap_err();
        check_text(&error);
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        let text = format!("{error:#}");
        assert!(text.contains("SCRAM iterations") && text.contains("connect_timeout"), "{text}");
        soon("script", task).await.unwrap().unwrap();
    });
}

/// This is as after a timeout: the next step is not computed, and the socket is closed.
#[test]
fn a7_a_login_that_is_dropped_while_it_computes_stops_at_once() {
    runtime().block_on(async {
        let script = begun().send_with(challenge(|r| format!("r={r}x,s=c2FsdA==,i=100000")));
        let (address, task) = script.wait_for_eof().serve(Delivery::Whole).await.unwrap();
        let url = url(address);
        {
            let mut login = pin!(Connection::connect(&url));
            // Far more turns than it takes to get to the derivation, and fewer than the derivation has.
            for _ in 0..40 {
                let mut context = Context::from_waker(Waker::noop());
                assert!(login.as_mut().poll(&mut context).is_pending());
                tokio::task::yield_now().await;
            }
        }
        soon("the end of the connection", task).await.unwrap().unwrap();
    });
    paused_clock().block_on(async {
        // The paused clock jumps as soon as no task can run: the timeout ends the attempt in the derivation or before it. After
        // it, the login has ended.
        let script = begun().send_with(challenge(|r| format!("r={r}x,s=c2FsdA==,i=100000")));
        for (error, _) in
            refused(script.expect_message(b'p').wait_for_eof(), Delivery::Whole, "1").await
        {
            check_text(&error);
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        }
    });
}
