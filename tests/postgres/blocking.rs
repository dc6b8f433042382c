//! `pgbell::blocking` on a real server: threads without async.

use std::thread;
use std::time::{Duration, Instant};

use pgbell::blocking::{Connection, Listener, Notifier};
use pgbell::{ErrorKind, Event, Listening, Notification, Overflow, State};
use pgbell_testkit::Mode;

use crate::support::{Server, TEST_TIMEOUT, number};

fn listener(server: &Server, channels: &[&str]) -> Listener {
    let builder = Listener::builder(server.url()).channels(channels.iter().copied());
    builder.backoff(Duration::from_millis(1), Duration::from_millis(100)).connect().unwrap()
}

fn next(listener: &mut Listener) -> Event {
    listener.recv_timeout(TEST_TIMEOUT).unwrap().expect("nothing arrives")
}

fn notification(listener: &mut Listener) -> Notification {
    match next(listener) {
        Event::Notification(notification) => notification,
        loss => panic!("expected a notification, found {loss:?}"),
    }
}

/// Waits until a session is no longer in the server's list.
fn until_gone(connection: &mut Connection, process_id: Option<i32>) {
    let deadline = Instant::now() + TEST_TIMEOUT;
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1::int";
    let process_id = process_id.unwrap().to_string();
    while connection.query(sql, &[Some(&process_id)]).unwrap().get(0).unwrap().get(0) != Some("0") {
        assert!(Instant::now() < deadline, "the session {process_id} is still there");
    }
}

/// P3, P4, P10, without async.
#[test]
fn p3_p4_p10_a_thread_listens_receives_and_stops() {
    let server = Server::start();
    let mut listener = listener(&server, &[]);
    let notifier = Notifier::connect(server.url()).unwrap();
    let mut connection = Connection::connect(server.url()).unwrap();
    for i in 0..100 {
        let channel = format!("Ch \"{i}\"");
        assert_eq!(listener.listen(&channel).unwrap(), Listening::Active);
        connection.listen(&channel).unwrap();
        notifier.notify(&channel, i.to_string()).unwrap();
        let found = notification(&mut listener);
        assert_eq!((found.channel(), found.payload()), (&*channel, &*i.to_string()));
        assert_eq!(Some(found.process_id()), notifier.process_id());
        let batch = connection.recv_batch_timeout(TEST_TIMEOUT).unwrap().expect("nothing arrives");
        assert_eq!(batch.iter().next().unwrap().channel(), channel);
        listener.unlisten(&channel).unwrap();
        connection.unlisten(&channel).unwrap();
        notifier.notify(&channel, "later").unwrap();
    }
    connection.unlisten_all().unwrap();
    let rows = listener.simple_query("SELECT count(*) FROM pg_listening_channels()").unwrap();
    assert_eq!(rows[0].get(0).unwrap().get(0), Some("0"));
    assert!(listener.try_recv().unwrap().is_none());
}

/// D1: bound parameters, inside and outside of a transaction, from a thread without async.
#[test]
fn d1_notify_of_a_thread_in_a_transaction_is_delivered_on_commit_only() {
    let server = Server::start();
    let mut listener = listener(&server, &["ch"]);
    let mut sender = Connection::connect(server.url()).unwrap();
    let sql = "SELECT pg_notify($1, $2)";
    sender.simple_query("BEGIN").unwrap();
    sender.notify("ch", "rolled back").unwrap();
    sender.query(sql, &[Some("ch"), Some("rolled back too")]).unwrap();
    sender.simple_query("ROLLBACK").unwrap();
    sender.simple_query("BEGIN").unwrap();
    sender.notify("ch", "it's 1").unwrap();
    sender.query(sql, &[Some("ch"), Some("'; DROP TABLE x; --")]).unwrap();
    // What is committed meanwhile arrives first.
    Notifier::connect(server.url()).unwrap().notify("ch", "of another session").unwrap();
    assert_eq!(notification(&mut listener).payload(), "of another session");
    sender.simple_query("COMMIT").unwrap();
    sender.notify("ch", "end").unwrap();
    for expected in ["it's 1", "'; DROP TABLE x; --", "end"] {
        assert_eq!(notification(&mut listener).payload(), expected);
    }
}

/// P7, P9, without async: the sessions end, and later the server.
#[test]
fn p7_p9_a_thread_gets_a_gap_between_what_was_before_and_after_a_lost_session() {
    let server = Server::start();
    let mut listener = listener(&server, &["ch"]);
    let notifier = Notifier::connect(server.url()).unwrap();
    for round in 0..10 {
        notifier.notify("ch", format!("{round} before")).unwrap();
        assert_eq!(notification(&mut listener).payload(), format!("{round} before"));
        server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        let Event::Gap(gap) = next(&mut listener) else { panic!("no gap") };
        assert_eq!(gap.cause().sqlstate(), Some("57P01"));
        notifier.notify("ch", format!("{round} after")).unwrap();
        assert_eq!(notification(&mut listener).payload(), format!("{round} after"));
    }
    server.cluster.stop(Mode::Immediate).unwrap();
    listener.handle().wait_state(State::Reconnecting).unwrap();
    // The channel is remembered.
    assert_eq!(listener.listen("later").unwrap(), Listening::Pending);
    server.cluster.start_again().unwrap();
    assert!(matches!(next(&mut listener), Event::Gap(_)));
    Connection::connect(server.url()).unwrap().notify("later", "1").unwrap();
    assert_eq!(notification(&mut listener).payload(), "1");
    assert_eq!(listener.stats().gaps, 11);
}

#[test]
fn a_hundred_thousand_of_one_transaction_arrive_in_a_thread_and_none_is_lost() {
    const COUNT: u64 = 100_000;
    let server = Server::start();
    let builder = Listener::builder(server.url()).channels(["ch"]);
    let builder = builder.overflow(Overflow::Block { max_stall: TEST_TIMEOUT });
    let mut listener = builder.connect().unwrap();
    let url = server.url();
    let sender = thread::spawn(move || {
        let mut sender = Connection::connect(url).unwrap();
        let sql = "SELECT count(pg_notify('ch', i::text)) FROM generate_series(0, $1::int) i";
        sender.query(sql, &[Some(&(COUNT - 1).to_string())]).unwrap();
    });
    let mut next = 0;
    for event in listener.iter().take(usize::try_from(COUNT).unwrap() / 2) {
        let Event::Notification(n) = event.unwrap() else { panic!("a loss") };
        assert_eq!(number(n.payload_bytes()), next);
        next += 1;
    }
    while next < COUNT {
        let batch = listener.recv_batch_timeout(TEST_TIMEOUT).unwrap().expect("nothing arrives");
        assert!(batch.loss().is_none());
        for n in batch {
            assert_eq!(number(n.payload_bytes()), next);
            next += 1;
        }
    }
    sender.join().unwrap();
    assert!(listener.try_recv().unwrap().is_none());
}

/// P11, D3, without async.
#[test]
fn p11_d3_close_drop_and_a_panic_leave_no_session_and_wake_the_receiver() {
    let server = Server::start();
    let mut observer = Connection::connect(server.url()).unwrap();

    let mut waiting = listener(&server, &["ch"]);
    let (handle, process_id) = (waiting.handle(), waiting.process_id());
    let consumer = thread::spawn(move || waiting.recv().unwrap_err().kind());
    handle.close();
    assert_eq!(consumer.join().unwrap(), ErrorKind::Closed);
    until_gone(&mut observer, process_id);

    let dropped = listener(&server, &["ch"]);
    let process_id = dropped.process_id();
    let begin = Instant::now();
    drop(dropped);
    assert!(begin.elapsed() < TEST_TIMEOUT / 4);
    until_gone(&mut observer, process_id);

    let mut held = listener(&server, &["ch"]);
    let process_id = held.process_id();
    observer.notify("ch", "1").unwrap();
    let owner = thread::spawn(move || panic!("with {:?}", next(&mut held)));
    assert!(owner.join().is_err());
    until_gone(&mut observer, process_id);

    let notifier = Notifier::connect(server.url()).unwrap();
    let process_id = notifier.process_id();
    notifier.notify("ch", "2").unwrap();
    notifier.close();
    until_gone(&mut observer, process_id);
}

#[test]
fn a_hook_of_a_thread_reads_the_state_before_the_first_notification() {
    let server = Server::start();
    let mut connection = Connection::connect(server.url()).unwrap();
    connection.simple_query("CREATE TABLE orders AS SELECT 1 AS id").unwrap();
    let mut listener = Listener::builder(server.url())
        .channels(["ch"])
        .backoff(Duration::from_millis(1), Duration::from_millis(100))
        .on_live(|mut connection, _| {
            let orders = connection.query("SELECT count(*) FROM orders", &[])?;
            let count = orders.get(0).and_then(|row| row.get(0)).unwrap_or_default();
            connection.notify("ch", format!("{count} orders"))?;
            connection.close();
            Ok(())
        })
        .connect()
        .unwrap();
    connection.notify("ch", "later").unwrap();
    assert_eq!(notification(&mut listener).payload(), "1 orders");
    assert_eq!(notification(&mut listener).payload(), "later");
    server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
    connection.simple_query("INSERT INTO orders VALUES (2)").unwrap();
    assert!(matches!(next(&mut listener), Event::Gap(_)));
    assert!(notification(&mut listener).payload().ends_with(" orders"));
}

/// In a task the calls block its thread, and the sessions end without a wait.
#[test]
fn calls_in_a_task_work_with_a_real_server() {
    let server = Server::start();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let process_id = runtime.block_on(async {
        let mut listener = listener(&server, &["ch"]);
        let notifier = Notifier::connect(server.url()).unwrap();
        for i in 0..300 {
            notifier.notify("ch", i.to_string()).unwrap();
            assert_eq!(number(notification(&mut listener).payload_bytes()), i);
        }
        let process_id = listener.process_id();
        let url = server.url();
        let blocking = tokio::task::spawn_blocking(move || {
            Connection::connect(url).unwrap().notify("ch", "from a blocking thread").unwrap();
        });
        blocking.await.unwrap();
        assert_eq!(notification(&mut listener).payload(), "from a blocking thread");
        process_id
    });
    until_gone(&mut Connection::connect(server.url()).unwrap(), process_id);
}
