//! Ends of a session: by `close`, by the server, by a handle, by a drop. Each is reported once and leaves no session.

use std::pin::pin;
use std::time::{Duration, Instant};

use pgbell::{Connection, Error, ErrorKind, Event, Listener, Live, State};
use tokio::task::JoinHandle;

use crate::support::{
    Server, expect_numbers, next, next_item, poll_once, run, send_numbers, until_gone,
    until_received, value,
};

async fn terminate(connection: &mut Connection, process_id: Option<i32>) {
    let sql = format!("SELECT pg_terminate_backend({})", process_id.unwrap());
    assert_eq!(value(connection, &sql).await, "t");
}

/// P8: first what was received, then the cause once, then the end.
#[test]
fn a_terminated_backend_is_reported_once_after_the_received_notifications() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener_of_one_session(&["ch"]).await;
        let handle = listener.handle();
        let mut other = server.connection().await;
        send_numbers(&mut other, "ch", 1, 3).await;
        until_received(&listener, 3).await;
        terminate(&mut other, listener.process_id()).await;
        handle.wait_state(State::Closed).await.unwrap();
        expect_numbers(&mut listener, 1, 3).await;
        let cause = listener.recv().await.unwrap_err();
        assert_eq!(cause.sqlstate(), Some("57P01"), "{cause}");
        assert_eq!(cause.kind(), ErrorKind::Server);
        assert!(cause.is_transient());
        for _ in 0..3 {
            assert_eq!(listener.recv().await.unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(listener.recv_batch().await.unwrap_err().kind(), ErrorKind::Closed);
            assert_eq!(listener.try_recv().unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(listener.state(), State::Closed);
        // A later call gets the cause too.
        for error in [
            handle.listen("ch").await.unwrap_err(),
            handle.unlisten_all().await.unwrap_err(),
            handle.simple_query("SELECT 1").await.unwrap_err(),
            handle.channels().await.unwrap_err(),
            handle.wait_state(State::Connected).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            assert!(format!("{error:#}").contains("57P01"), "{error}");
        }
        handle.close().await;
        listener.close().await;
    });
}

/// P8: a stream returns the cause and ends. A connection returns it at every call.
#[test]
fn streams_and_connections_end_with_the_cause_too() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener_of_one_session(&["ch"]).await;
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut other = server.connection().await;
        send_numbers(&mut other, "ch", 1, 1).await;
        until_received(&listener, 1).await;
        terminate(&mut other, listener.process_id()).await;
        terminate(&mut other, inline.process_id()).await;

        assert!(matches!(next_item(&mut listener).await, Some(Ok(Event::Notification(_)))));
        let cause = next_item(&mut listener).await.unwrap().unwrap_err();
        assert_eq!(cause.sqlstate(), Some("57P01"));
        assert!(next_item(&mut listener).await.is_none());
        assert!(next_item(&mut listener).await.is_none());

        assert_eq!(inline.recv_batch().await.unwrap().len(), 1);
        for _ in 0..2 {
            assert_eq!(inline.recv_batch().await.unwrap_err().sqlstate(), Some("57P01"));
        }
        assert!(inline.listen("ch").await.is_err());
    });
}

/// P8: a command is in doubt if the backend ends before the answer.
#[test]
fn a_query_in_flight_is_in_doubt() {
    let server = Server::start();
    run(async {
        let mut other = server.connection().await;
        other.simple_query("SELECT pg_advisory_lock(1)").await.unwrap();
        let listener = server.listener(&[]).await;
        let mut inline = server.connection().await;
        let pids = [listener.process_id(), inline.process_id()];
        let handle = listener.handle();
        let sql = "SELECT pg_advisory_lock(1)";
        let first = tokio::spawn(async move { handle.simple_query(sql).await });
        let second = tokio::spawn(async move { inline.simple_query(sql).await });
        for process_id in pids {
            crate::support::until_blocked(&mut other, process_id).await;
            terminate(&mut other, process_id).await;
        }
        for error in [first.await.unwrap().unwrap_err(), second.await.unwrap().unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
            assert!(format!("{error:#}").contains("57P01"), "{error}");
        }
    });
}

/// P11, R9: `close` ends the session at the server, sends Terminate, and takes a limited time.
#[test]
fn close_sends_terminate_and_leaves_no_session() {
    let server = Server::with(|builder| {
        builder.setting("log_min_messages", "debug1").setting("log_line_prefix", "%p ")
    });
    run(async {
        let mut watch = server.connection().await;
        let listener = server.listener(&["ch"]).await;
        let inline = server.connection().await;
        let notifier = server.notifier().await;
        notifier.notify("ch", "queued").await.unwrap();
        let dropped = server.connection().await;
        let pids = [listener.process_id(), inline.process_id(), notifier.process_id()];
        let dropped_id = dropped.process_id();
        let begin = Instant::now();
        listener.close().await;
        inline.close().await;
        notifier.close().await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        // The server logs clients that close the socket without Terminate, so a missing Terminate would be visible here.
        drop(dropped);
        until_gone(&mut watch, dropped_id).await;
        let complains = |pid: Option<i32>| {
            let begin = format!("{} ", pid.unwrap());
            let log = server.cluster.log();
            log.lines().any(|line| line.starts_with(&begin) && line.contains("unexpected EOF"))
        };
        assert!(complains(dropped_id));
        for pid in pids {
            until_gone(&mut watch, pid).await;
            assert!(!complains(pid), "{}", server.cluster.log());
        }
    });
}

/// P11, D3: if a listener and its handles are dropped, its session ends.
#[test]
fn a_dropped_listener_leaves_no_session() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let listener = server.listener(&["ch"]).await;
        let handle = listener.handle();
        let process_id = listener.process_id();
        // Nothing arrives that would wake the task, and a handle still exists.
        let begin = Instant::now();
        drop(listener);
        handle.wait_state(State::Closed).await.unwrap();
        until_gone(&mut watch, process_id).await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert_eq!(handle.listen("ch").await.unwrap_err().kind(), ErrorKind::Closed);
        // A connect that is dropped before it completes leaves no session either.
        for _ in 0..20 {
            let mut connect = pin!(Listener::connect(server.url()));
            drop(poll_once(connect.as_mut()).await);
        }
        let sql = "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'client backend'";
        crate::support::until_sql(&mut watch, sql).await;
    });
}

/// D3: the scope of a listener or of a connection ends with the task that it is in.
#[test]
fn a_task_that_is_aborted_or_fails_while_it_listens_leaves_no_session() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let mut listener = server.listener(&["ch"]).await;
        let mut inline = server.connection().await;
        inline.listen("ch").await.unwrap();
        let mut failing = server.listener(&["ch"]).await;
        let pids = [listener.process_id(), inline.process_id(), failing.process_id()];
        let (first, second) = (arrived.clone(), arrived.clone());
        let tasks = [
            tokio::spawn(async move {
                loop {
                    first.send(listener.recv().await.is_ok()).unwrap();
                }
            }),
            tokio::spawn(async move {
                loop {
                    second.send(inline.recv_batch().await.is_ok()).unwrap();
                }
            }),
        ];
        let failing: JoinHandle<Result<(), Error>> = tokio::spawn(async move {
            arrived.send(failing.recv().await.is_ok()).unwrap();
            failing.listen("").await?;
            unreachable!("an empty name is refused");
        });
        watch.notify("ch", "1").await.unwrap();
        for _ in pids {
            assert!(arrivals.recv().await.unwrap());
        }
        assert_eq!(failing.await.unwrap().unwrap_err().kind(), ErrorKind::Misuse);
        for task in tasks {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        for pid in pids {
            until_gone(&mut watch, pid).await;
        }
    });
}

/// S6: a receive that waits returns when a handle closes the listener; a stream ends.
#[test]
fn closing_through_a_handle_ends_a_pending_receive() {
    let server = Server::start();
    run(async {
        let mut first = server.listener(&["ch"]).await;
        let mut second = server.listener(&["ch"]).await;
        let mut third = server.listener(&["ch"]).await;
        let handles = [first.handle(), second.handle(), third.handle()];
        let mut recv = pin!(first.recv());
        let mut batch = pin!(second.recv_batch());
        let mut item = pin!(next_item(&mut third));
        assert!(poll_once(recv.as_mut()).await.is_none());
        assert!(poll_once(batch.as_mut()).await.is_none());
        assert!(poll_once(item.as_mut()).await.is_none());
        for handle in &handles {
            handle.close().await;
            assert_eq!(handle.state(), State::Closed);
            // A second close is no error.
            handle.close().await;
        }
        assert_eq!(recv.await.unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(batch.await.unwrap_err().kind(), ErrorKind::Closed);
        assert!(item.await.is_none());
    });
}

/// A database without an encoding accepts payloads that are not UTF-8, and the server ends every session that
/// would receive one, because the client encoding is UTF-8. The error names the reason.
#[test]
fn a_payload_that_is_not_utf8_ends_the_sessions_of_an_sql_ascii_database() {
    let server = Server::with(|builder| builder.encoding("SQL_ASCII"));
    run(async {
        let mut listener = server.listener_of_one_session(&["a"]).await;
        let mut sender = server.connection().await;
        sender.notify("a", "pässt").await.unwrap();
        sender.simple_query("SELECT pg_notify('a', E'\\xff')").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "pässt");
        let error = listener.recv().await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("22021"), "{error}");
        assert!(error.hint().unwrap().contains("SQL_ASCII"), "{error}");
    });
}

/// When the task was dropped, an earlier version published the notifications that waited for the hook, without their gap.
#[test]
fn a_runtime_that_ends_during_the_hook_delivers_nothing_of_the_new_session_before_its_gap() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut listener = runtime
        .block_on(async {
            let builder = Listener::builder(server.url()).channels(["ch"]);
            let builder = builder.backoff(Duration::from_millis(1), Duration::from_millis(10));
            let builder = builder.on_live(|_, live| async move {
                match live {
                    Live::Start => Ok(()),
                    _ => std::future::pending().await,
                }
            });
            builder.connect().await
        })
        .unwrap();
    run(async {
        let mut other = server.connection().await;
        send_numbers(&mut other, "ch", 1, 3).await;
        until_received(&listener, 3).await;
        terminate(&mut other, listener.process_id()).await;
        listener.handle().wait_state(State::CatchingUp).await.unwrap();
        send_numbers(&mut other, "ch", 4, 5).await;
        until_received(&listener, 5).await;
        runtime.shutdown_background();
        listener.handle().wait_state(State::Closed).await.unwrap();

        expect_numbers(&mut listener, 1, 3).await;
        let event = listener.recv().await.unwrap();
        let Event::Gap(gap) = &event else { panic!("{event:?}") };
        assert_eq!((gap.sessions(), gap.epoch()), (1, 2));
        expect_numbers(&mut listener, 4, 5).await;
        let cause = listener.recv().await.unwrap_err();
        assert!(format!("{cause:#}").contains("runtime"), "{cause}");
        assert_eq!(listener.recv().await.unwrap_err().kind(), ErrorKind::Closed);
    });
}
