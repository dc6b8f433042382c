//! Methods of the testing server that a test calls directly.

use std::io::ErrorKind::{Other, TimedOut};
use std::time::Duration;

use pgbell::testing::{Answer, BackendConfig, Server};
use pgbell::{Connection, ErrorKind, Event, Listener};
use tokio::net::TcpStream;

/// Long enough for everything that must happen.
const LONG: Duration = Duration::from_secs(60);

async fn server() -> Server {
    Server::start(BackendConfig::new()).await.unwrap()
}

#[tokio::test]
async fn a_test_notifies_and_gets_the_number_of_listening_sessions() {
    let server = server().await;
    assert_eq!(server.notify("a", "too early").unwrap(), 0);
    let mut connection = Connection::connect(&*server.url()).await.unwrap();
    connection.listen("a").await.unwrap();
    assert_eq!(server.notify("a", "1").unwrap(), 1);
    let batch = connection.recv_batch().await.unwrap();
    let received: Vec<_> = batch.iter().map(|one| one.payload().to_owned()).collect();
    assert_eq!(received, ["1"]);
    for (channel, payload) in [("", ""), ("a\0", ""), ("a", "\0"), (&*"x".repeat(64), "")] {
        let error = server.notify(channel, payload).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{channel:?}");
    }
}

#[tokio::test]
async fn a_test_waits_until_a_session_listens() {
    let server = server().await;
    let mut connection = Connection::connect(&*server.url()).await.unwrap();
    connection.listen("stock").await.unwrap();
    let error = server.wait_for_listener("orders", Duration::ZERO).await.unwrap_err();
    assert_eq!(error.kind(), TimedOut);
    let text = "no session listens to \"orders\" within 0ns; session 1000 listens to [\"stock\"]";
    assert_eq!(format!("{error:#}"), text);
    let (waited, listened) =
        tokio::join!(server.wait_for_listener("orders", LONG), connection.listen("orders"));
    waited.unwrap();
    listened.unwrap();
    let gone = server.wait_until(LONG, |backend| backend.sessions().count() == 0);
    let closing = async move {
        drop(connection);
    };
    let (waited, ()) = tokio::join!(gone, closing);
    waited.unwrap();
}

#[test]
fn a_thread_waits_until_a_session_listens() {
    let runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
    let server = runtime.block_on(server());
    let url = server.url();
    let task = runtime.spawn(async move {
        let mut connection = Connection::connect(&*url).await.unwrap();
        connection.listen("orders").await.unwrap();
        connection.recv_batch().await.unwrap().len()
    });
    server.blocking_wait_for_listener("orders", LONG).unwrap();
    server.notify("orders", "1").unwrap();
    assert_eq!(runtime.block_on(task).unwrap(), 1);
    server.blocking_wait_until(LONG, |backend| backend.sessions().count() == 0).unwrap();
    let error = server.blocking_wait_for_listener("orders", Duration::ZERO).unwrap_err();
    assert_eq!(error.kind(), TimedOut);
    // In a runtime of one thread the call would block the server that it waits for.
    let alone = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let error = alone.block_on(async { server.blocking_wait_for_listener("orders", LONG) });
    assert_eq!(error.unwrap_err().kind(), Other);
}

#[tokio::test]
async fn a_killed_session_ends_without_a_message() {
    let server = server().await;
    let mut connections = Vec::new();
    for _ in 0..3 {
        connections.push(Connection::connect(&*server.url()).await.unwrap());
    }
    server.kill(connections[1].process_id().unwrap());
    let error = connections[1].recv_batch().await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Connect, None));
    connections[0].notify("a", "").await.unwrap();
    server.kill_all();
    for index in [0, 2] {
        let error = connections[index].recv_batch().await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Connect, None));
    }
}

#[tokio::test]
async fn a_restarted_server_keeps_its_port_and_its_answers_and_no_session() {
    let mut server = server().await;
    server.answer("SELECT a", Answer::rows(["a"]).row(["1"]));
    let url = server.url();
    let mut old = Connection::connect(&*url).await.unwrap();
    old.listen("a").await.unwrap();
    // A client that does not read, and one that has sent nothing.
    let _idle = TcpStream::connect(server.address()).await.unwrap();
    for _ in 0..3 {
        server.halt().await;
        server.halt().await;
        assert_eq!(server.clients(), 0);
        let error = Connection::connect(&*url).await.unwrap_err();
        assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Connect, None));
        server.resume().await.unwrap();
        server.resume().await.unwrap();
        let mut new = Connection::connect(&*url).await.unwrap();
        assert_eq!(new.simple_query("SELECT a").await.unwrap()[0].len(), 1);
        assert_eq!(server.notify("a", "").unwrap(), 0);
    }
    let error = old.recv_batch().await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("57P01"));
    server.halt().await;
    server.stop().await;
    assert_eq!(tokio::runtime::Handle::current().metrics().num_alive_tasks(), 0);
}

/// Otherwise a test would take the session before an outage for the one after it.
#[tokio::test]
async fn a_session_that_was_ended_no_longer_listens() {
    for end in [Server::terminate_all, Server::kill_all] {
        let server = server().await;
        let mut connection = Connection::connect(&*server.url()).await.unwrap();
        connection.listen("a").await.unwrap();
        end(&server);
        // No task has run since: the session is still connected.
        assert_eq!(server.clients(), 1);
        assert_eq!(server.notify("a", "").unwrap(), 0);
        let waited = server.wait_for_listener("a", Duration::ZERO).await;
        assert_eq!(waited.unwrap_err().kind(), TimedOut);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn the_unix_socket_is_removed_and_created_with_the_server() {
    let directory = std::env::temp_dir().join(format!("pgbell-restart-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let files = || std::fs::read_dir(&directory).unwrap().count();
    let mut server = Server::start_in(BackendConfig::new(), &directory).await.unwrap();
    server.halt().await;
    assert_eq!(files(), 0);
    server.resume().await.unwrap();
    let config = format!("host={} port={} user=alice", directory.to_str().unwrap(), server.port());
    Connection::connect(&*config).await.unwrap();
    drop(server);
    assert_eq!(files(), 0);
    std::fs::remove_dir(&directory).unwrap();
}

#[tokio::test]
async fn a_listener_reconnects_to_a_server_that_was_halted() {
    let mut server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    server.halt().await;
    server.resume().await.unwrap();
    server.wait_for_listener("a", LONG).await.unwrap();
    server.notify("a", "back").unwrap();
    assert!(matches!(listener.recv().await.unwrap(), Event::Gap(_)));
    let Event::Notification(one) = listener.recv().await.unwrap() else { panic!("a notification") };
    assert_eq!(one.payload(), "back");
}

/// The lock of the backend is not poisoned.
#[tokio::test]
async fn a_function_that_panics_ends_only_the_session_that_called_it() {
    let server = server().await;
    let mut other = Connection::connect(&*server.url()).await.unwrap();
    server.answer_with(|query| {
        assert_ne!(query.sql(), "SELECT panic");
        None
    });
    let mut connection = Connection::connect(&*server.url()).await.unwrap();
    let error = connection.simple_query("SELECT panic").await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::InDoubt, None));
    other.simple_query("SELECT 1").await.unwrap();
}
