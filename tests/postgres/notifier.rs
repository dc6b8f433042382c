//! Publishing from many tasks over one connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use pgbell::{Error, ErrorKind, Notifier};
use pgbell_testkit::Signal;
use tokio::task::JoinHandle;

use crate::support::{
    Server, next, number, poll_once, run, until_blocked, until_gone, until_sql, up_to_end, value,
};

/// S7: many notifications are one statement, so one commit. Channels keep their case, all keep their order.
#[test]
fn notify_many_is_one_commit_in_order() {
    let server = Server::logging();
    run(async {
        let mut listener = server.listener(&["Orders", "orders", "sto\"ck"]).await;
        let notifier = server.notifier().await;
        let channels = ["Orders", "orders", "sto\"ck"];
        let pairs: Vec<(String, String)> = (0..10_000)
            .map(|i| (channels[i % 7 % 3].to_owned(), format!("{i} {{\"q\": \"\\\", NULL\"}} é")))
            .collect();
        let sent = notifier.notify_many(pairs.iter().map(|(c, p)| (c, p))).await.unwrap();
        assert_eq!(sent, 10_000);
        assert_eq!(notifier.notify_many(Vec::<(&str, &str)>::new()).await.unwrap(), 0);
        assert_eq!(server.statements_of(notifier.process_id()).len(), 1);
        for (channel, payload) in &pairs {
            let found = next(&mut listener).await;
            assert_eq!((found.channel(), found.payload()), (&**channel, &**payload));
        }
        let odd = ["", "NULL", "null", "{}", "a,b", " ", "\\", "\"", "\n", "\\\"", "{\"a\"}"];
        for payload in odd {
            notifier.notify_many([("orders", payload)]).await.unwrap();
            assert_eq!(next(&mut listener).await.payload(), payload);
        }
    });
}

/// S7: the documented query with bound parameters: several messages, one commit, mixed-case channels.
#[test]
fn notifications_from_values_with_parameters_are_one_commit() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["Chan0", "chan1", "CHAN2"]).await;
        let mut sender = server.connection().await;
        let sql = "SELECT pg_notify(chan, json_build_object('payload', payload)::text) \
                   FROM (VALUES ($1, $2), ($3, $4), ($5, $6)) notifies(chan, payload)";
        let values = ["Chan0", "a", "chan1", "b'\"", "CHAN2", ""].map(Some);
        assert_eq!(sender.query(sql, &values).await.unwrap().len(), 3);
        sender.notify("Chan0", "end").await.unwrap();
        let expect = [
            ("Chan0", r#"{"payload" : "a"}"#),
            ("chan1", r#"{"payload" : "b'\""}"#),
            ("CHAN2", r#"{"payload" : ""}"#),
        ];
        let expect = expect.map(|(channel, payload)| (channel.to_owned(), payload.to_owned()));
        assert_eq!(up_to_end(&mut listener).await, expect);
    });
}

/// Ten thousand from 16 tasks: all arrive, those of each task in order.
#[test]
fn sixteen_tasks_share_one_connection() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["ch"]).await;
        let notifier = server.notifier().await;
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let notifier = notifier.clone();
                tokio::spawn(async move {
                    for i in 0..625 {
                        notifier.notify("ch", format!("{task} {i}")).await.unwrap();
                    }
                })
            })
            .collect();
        let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
        for _ in 0..10_000 {
            let found = next(&mut listener).await;
            assert_eq!(Some(found.process_id()), notifier.process_id());
            let (task, i) = found.payload().split_once(' ').unwrap();
            let count = seen.entry(number(task.as_bytes())).or_default();
            assert_eq!(number(i.as_bytes()), *count);
            *count += 1;
        }
        assert!(seen.len() == 16 && seen.values().all(|count| *count == 625));
        for task in tasks {
            task.await.unwrap();
        }
        assert!(matches!(listener.try_recv(), Ok(None)));
    });
}

/// A refusal by the server is the error of that call alone. If one element of many is refused, all are.
/// The refused character does not exist in the encoding of the database.
#[test]
fn a_refused_notification_fails_alone() {
    let server = Server::with(|builder| builder.encoding("LATIN1"));
    run(async {
        let mut listener = server.listener(&["ché"]).await;
        let notifier = server.notifier().await;
        let many = [("ché", "never"), ("ché", "€")];
        let (first, second, third, fourth) = tokio::join!(
            notifier.notify("ché", "ü"),
            notifier.notify("ché", "€"),
            notifier.notify_many(many),
            notifier.notify("ché", "ÿ"),
        );
        first.unwrap();
        for error in [second.unwrap_err(), third.unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Server, "{error}");
            assert_eq!(error.sqlstate(), Some("22P05"), "{error}");
        }
        fourth.unwrap();
        notifier.notify("ché", "end").await.unwrap();
        let expect = ["ü", "ÿ"].map(|payload| ("ché".to_owned(), payload.to_owned()));
        assert_eq!(up_to_end(&mut listener).await, expect);
    });
}

/// P11: `close` waits for accepted notifications, and leaves no session. Dropping the last clone does the same.
#[test]
fn a_closed_or_dropped_notifier_leaves_no_session() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["ch"]).await;
        let closed = server.notifier().await;
        let other = closed.clone();
        let pending: Vec<_> = (0..100)
            .map(|i| {
                let closed = closed.clone();
                tokio::spawn(async move { closed.notify("ch", i.to_string()).await })
            })
            .collect();
        let mut accepted = 0;
        for (i, pending) in pending.into_iter().enumerate() {
            if i == 0 {
                closed.clone().close().await;
            }
            match pending.await.unwrap() {
                Ok(()) => accepted += 1,
                Err(error) => assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
            }
        }
        assert_eq!(other.notify("ch", "late").await.unwrap_err().kind(), ErrorKind::Closed);
        until_gone(&mut watch, closed.process_id()).await;

        let dropped = server.notifier().await;
        let process_id = dropped.process_id();
        let clone = dropped.clone();
        drop(dropped);
        clone.notify("ch", "end").await.unwrap();
        drop(clone);
        until_gone(&mut watch, process_id).await;
        // Exactly the calls that returned success were committed.
        assert_eq!(up_to_end(&mut listener).await.len(), accepted);
    });
}

/// A notification is in doubt if the session ends before its answer. Later ones are refused with the reason.
#[test]
fn a_terminated_notifier_reports_which_notifications_are_in_doubt() {
    // A commit that waits for a standby that does not exist holds the lock that every notifying commit needs.
    let server =
        Server::with(|builder| builder.setting("synchronous_standby_names", "absent_standby"));
    run(async {
        let mut watch = server.connection().await;
        let mut first = server.connection().await;
        first.simple_query("SET synchronous_commit = on").await.unwrap();
        let holder = first.process_id().unwrap();
        // Only a commit that has written something waits: a notification alone writes nothing.
        first.notify("ch", "unwritten").await.unwrap();
        let held = tokio::spawn(async move {
            first.simple_query("CREATE TABLE written (); NOTIFY ch, 'held'").await
        });
        let waits = format!(
            "SELECT wait_event IS NOT DISTINCT FROM 'SyncRep' FROM pg_stat_activity WHERE pid = {holder}"
        );
        until_sql(&mut watch, &waits).await;

        let notifier = Notifier::builder(server.url()).reconnect(false).await.unwrap();
        let process_id = notifier.process_id();
        let pending = notifier.clone();
        let pending = tokio::spawn(async move { pending.notify("ch", "in doubt").await });
        until_blocked(&mut watch, process_id).await;
        let terminate = format!("SELECT pg_terminate_backend({})", process_id.unwrap());
        assert_eq!(value(&mut watch, &terminate).await, "t");
        let error = pending.await.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
        assert!(format!("{error:#}").contains("57P01"), "{error}");
        let error = notifier.notify("ch", "late").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(format!("{error:#}").contains("57P01"), "{error}");

        let cancel = format!("SELECT pg_cancel_backend({holder})");
        assert_eq!(value(&mut watch, &cancel).await, "t");
        held.await.unwrap().unwrap();
    });
}

/// The notifier does not call functions of the user that come first in `search_path`.
#[test]
fn functions_of_the_same_name_in_the_search_path_are_not_called() {
    let server = Server::start();
    run(async {
        let mut listener = server.listener(&["a"]).await;
        let mut owner = server.connection().await;
        owner
            .simple_query(
                "CREATE SCHEMA shadow;
                 CREATE FUNCTION shadow.pg_notify(text, text) RETURNS text LANGUAGE sql AS 'SELECT $1';
                 CREATE FUNCTION shadow.unnest(text[], text[]) RETURNS TABLE (c text, p text)
                     LANGUAGE sql AS 'SELECT NULL, NULL';
                 ALTER ROLE postgres SET search_path = shadow, pg_catalog",
            )
            .await
            .unwrap();
        let notifier = server.notifier().await;
        notifier.notify("a", "1").await.unwrap();
        notifier.notify_many([("a", "2"), ("a", "3")]).await.unwrap();
        for payload in ["1", "2", "3"] {
            assert_eq!(next(&mut listener).await.payload(), payload);
        }
    });
}

/// The time limit for an answer of a stopped server process.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Asserts the documented time limit, with a margin for a busy machine.
fn assert_bounded(begin: Instant, bound: Duration) {
    let took = begin.elapsed();
    assert!(took <= bound + Duration::from_secs(2), "{took:?}");
}

/// Sends transactions to a stopped server process: 256 are in flight, the others wait.
async fn to_a_stopped_process(
    server: &Server,
    count: usize,
) -> (Notifier, Vec<JoinHandle<Result<(), Error>>>) {
    let builder = Notifier::builder(server.url()).answer_timeout(ANSWER_TIMEOUT);
    let notifier = builder.reconnect(false).connect().await.unwrap();
    notifier.notify("ch", "received").await.unwrap();
    server.cluster.signal_backend(notifier.process_id().unwrap(), Signal::Stop).unwrap();
    let mut waiting = Vec::new();
    for i in 0..count {
        let notifier = notifier.clone();
        let mut call =
            Box::pin(async move { notifier.notify_many([("ch", i.to_string())]).await.map(drop) });
        // Each call has begun.
        assert!(poll_once(call.as_mut()).await.is_none());
        waiting.push(tokio::spawn(call));
    }
    (notifier, waiting)
}

#[test]
fn a_call_to_a_stopped_server_process_times_out_and_is_in_doubt_if_it_was_written() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let (notifier, waiting) = to_a_stopped_process(&server, 2_000).await;
        let begin = Instant::now();
        let mut errors = vec![notifier.notify("ch", "plain").await.unwrap_err()];
        assert_bounded(begin, ANSWER_TIMEOUT);
        for call in waiting {
            errors.push(call.await.unwrap().unwrap_err());
        }
        assert_bounded(begin, ANSWER_TIMEOUT);
        let mut in_doubt = 0;
        for error in errors {
            match error.kind() {
                ErrorKind::InDoubt => in_doubt += 1,
                ErrorKind::Closed | ErrorKind::Timeout => {}
                _ => panic!("{error}"),
            }
        }
        assert_eq!(in_doubt, 256);
        let process_id = notifier.process_id();
        server.cluster.signal_backend(process_id.unwrap(), Signal::Cont).unwrap();
        until_gone(&mut watch, process_id).await;
    });
}

#[test]
fn a_notifier_of_a_stopped_server_process_can_be_closed_with_two_thousand_waiting_calls() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let (notifier, waiting) = to_a_stopped_process(&server, 2_000).await;
        let process_id = notifier.process_id();
        let begin = Instant::now();
        notifier.close().await;
        assert_bounded(begin, ANSWER_TIMEOUT + Duration::from_secs(1));
        for call in waiting {
            let kind = call.await.unwrap().unwrap_err().kind();
            assert!(matches!(kind, ErrorKind::InDoubt | ErrorKind::Closed), "{kind:?}");
        }
        assert_bounded(begin, ANSWER_TIMEOUT + Duration::from_secs(1));
        server.cluster.signal_backend(process_id.unwrap(), Signal::Cont).unwrap();
        until_gone(&mut watch, process_id).await;
    });
}

/// The task ends, and closes the socket.
#[test]
fn a_dropped_notifier_of_a_stopped_server_process_closes_its_socket() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let (notifier, waiting) = to_a_stopped_process(&server, 2_000).await;
        let process_id = notifier.process_id();
        let begin = Instant::now();
        let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
        waiting.iter().for_each(JoinHandle::abort);
        drop((notifier, waiting));
        assert!(tasks() > 0, "the task has ended with answers due");
        crate::support::until("the task ends", || tasks() == 0).await;
        assert_bounded(begin, ANSWER_TIMEOUT + Duration::from_secs(1));
        server.cluster.signal_backend(process_id.unwrap(), Signal::Cont).unwrap();
        until_gone(&mut watch, process_id).await;
    });
}

/// E10: the same if the timeout is set for the role.
#[test]
fn a_notifier_is_not_ended_by_the_idle_session_timeout_of_its_role() {
    let server = Server::start();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["ch"]).await;
        let sql = "ALTER ROLE postgres SET idle_session_timeout = '300ms'";
        watch.simple_query(sql).await.unwrap();
        let notifier = server.notifier().await;
        // A session without the setting has ended: the timeout has passed.
        let mut idle = server.connection().await;
        assert_eq!(idle.recv_batch().await.unwrap_err().sqlstate(), Some("57P05"));
        notifier.notify("ch", "still here").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "still here");
    });
}
