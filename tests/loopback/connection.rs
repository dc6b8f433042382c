use std::future::Future;
use std::pin::pin;
use std::task::{Context, Waker};

use pgbell::testing::Script;
use pgbell::{Connection, ErrorKind, Listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{expect_surplus, let_listen, listener, server, soon, surplus};

#[tokio::test]
async fn notifications_arrive_in_order_with_channel_payload_and_sender() {
    let server = server().await;
    let mut listening = Connection::connect(server.url()).await.unwrap();
    let mut sending = Connection::connect(server.url()).await.unwrap();
    listening.listen_all(["a", "B c"]).await.unwrap();
    sending.notify("a", "1").await.unwrap();
    sending.notify("B c", "").await.unwrap();
    sending.notify("nobody", "x").await.unwrap();
    sending.notify("a", "é€").await.unwrap();
    let mut seen = Vec::new();
    while seen.len() < 3 {
        for n in soon(listening.recv_batch()).await.unwrap() {
            assert_eq!(Some(n.process_id()), sending.process_id());
            seen.push((n.channel().to_owned(), n.payload().to_owned(), n.sequence()));
        }
    }
    let expected = [("a", "1", 0), ("B c", "", 1), ("a", "é€", 2)];
    assert_eq!(seen, expected.map(|(c, p, s)| (c.to_owned(), p.to_owned(), s)));
}

#[tokio::test]
async fn notifications_during_a_command_are_kept_in_order() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.listen("a").await.unwrap();
    for n in 0..50 {
        // Its own notification arrives before the answer.
        connection.notify("a", n.to_string()).await.unwrap();
    }
    let mut next = 0;
    while next < 50 {
        let batch = soon(connection.recv_batch()).await.unwrap();
        assert!(batch.loss().is_none());
        for n in batch {
            assert_eq!(n.payload(), next.to_string());
            assert_eq!(n.sequence(), next);
            next += 1;
        }
    }
}

/// More than the backlog of a connection holds, 8 MiB: the surplus is counted and reported at its position.
#[tokio::test]
async fn notifications_that_do_not_fit_during_commands_are_reported_as_lagged() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.listen("a").await.unwrap();
    let sent = surplus();
    for payload in &sent {
        connection.notify("a", payload).await.unwrap();
    }
    expect_surplus(&mut connection, &sent).await;
    connection.notify("a", "after").await.unwrap();
    let batch = soon(connection.recv_batch()).await.unwrap();
    assert!(batch.loss().is_none());
    assert_eq!(batch.iter().map(|n| n.payload_bytes().to_vec()).collect::<Vec<_>>(), [b"after"]);
}

#[tokio::test]
async fn a_dropped_command_future_leaves_the_connection_usable() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    for _ in 0..20 {
        let query = pin!(connection.simple_query("SELECT 1"));
        // Sent, and dropped before the answer.
        let _ = query.poll(&mut Context::from_waker(Waker::noop()));
    }
    let rows = connection.simple_query("SELECT pg_backend_pid()").await.unwrap();
    let process_id = connection.process_id().unwrap().to_string();
    assert_eq!(rows[0].get(0).unwrap().get(0), Some(process_id.as_str()));
}

#[tokio::test]
async fn refused_names_and_payloads_send_nothing() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    let long = "x".repeat(64);
    for name in ["", "a\0b", long.as_str()] {
        assert_eq!(connection.listen(name).await.unwrap_err().kind(), ErrorKind::Misuse);
        assert_eq!(connection.notify(name, "x").await.unwrap_err().kind(), ErrorKind::Misuse);
    }
    let none: [&str; 0] = [];
    assert_eq!(connection.listen_all(none).await.unwrap_err().kind(), ErrorKind::Misuse);
    let payload = "x".repeat(8_000);
    assert_eq!(connection.notify("a", &payload).await.unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(server.count("a").committed, 0);
}

#[tokio::test]
async fn the_end_of_the_session_is_an_error_now_and_later() {
    let server = server().await;
    let mut connection = Connection::connect(server.url()).await.unwrap();
    connection.listen("a").await.unwrap();
    server.terminate_all();
    let error = soon(connection.recv_batch()).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"), "{error}");
    assert!(error.is_transient());
    assert_eq!(soon(connection.recv_batch()).await.unwrap_err().sqlstate(), Some("57P01"));
    assert_eq!(connection.listen("b").await.unwrap_err().kind(), ErrorKind::Closed);
}

/// The end of the session was read with the notification before it: nothing more is written.
#[tokio::test]
async fn a_query_behind_the_end_of_the_session_is_not_in_doubt() {
    let (server, url) = listener().await;
    let (connection, mut socket) = tokio::join!(Connection::connect(&url), let_listen(&server));
    let mut connection = connection.unwrap();
    let fatal = b"E\0\0\0\x18SFATAL\0C57P01\0Mbye\0\0";
    socket.write_all(&[Script::A1, fatal].concat()).await.unwrap();
    assert_eq!(soon(connection.recv_batch()).await.unwrap().len(), 1);
    let error = soon(connection.simple_query("DELETE FROM t")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.is_transient() && format!("{error:#}").contains("57P01"), "{error}");
    assert!(format!("{error:#}").contains("it was not carried out"), "{error}");
}

/// A server executes a query only when it has received all of its bytes.
#[tokio::test]
async fn a_query_of_which_a_part_was_written_is_not_in_doubt() {
    let sql = format!("SELECT '{}'", "x".repeat(32 * 1024 * 1024));
    for is_listener in [false, true] {
        let (server, url) = listener().await;
        let client = async {
            if is_listener {
                let listener = Listener::connect(&url).await.unwrap();
                listener.simple_query(&*sql).await.unwrap_err()
            } else {
                let mut connection = Connection::connect(&url).await.unwrap();
                connection.simple_query(&sql).await.unwrap_err()
            }
        };
        let server = async {
            let mut socket = let_listen(&server).await;
            socket.read_exact(&mut vec![0; 100_000]).await.unwrap();
            // The kernel sends a reset, because bytes are unread.
            drop(socket);
        };
        let (error, ()) = soon(async { tokio::join!(client, server) }).await;
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
        assert!(format!("{error:#}").contains("it was not carried out"), "{error}");
    }
}

#[tokio::test]
async fn close_leaves_no_session() {
    let server = server().await;
    let connection = Connection::connect(server.url()).await.unwrap();
    assert_eq!(server.clients(), 1);
    soon(connection.close()).await;
    soon(async {
        while server.clients() > 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
