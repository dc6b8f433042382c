//! In a forked child, as far as a test without unsafe code can be one: the id of the process is another one. Each test runs in a process of its
//! own, because every thread of it counts as forked then.

use std::env;
use std::process::Command;
use std::thread;

use tokio::runtime::{Builder, Runtime};

use super::super::waiter::fork;
use super::{Connection, LONG, Listener, Notifier};
use crate::error::ErrorKind;
use crate::notification::Event;
use crate::testing::{BackendConfig, Server};

const IS_CHILD: &str = "PGBELL_FORK_TEST";

/// Runs the test of this name in a process of its own.
fn alone(name: &str, test: fn(&Server)) {
    if env::var_os(IS_CHILD).is_some() {
        let (server, _runtime) = server();
        return test(&server);
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args([&*format!("blocking::tests::fork::{name}"), "--exact"]).env(IS_CHILD, "1");
    let output = child.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}");
}

/// A server, and the runtime that drives it.
fn server() -> (Server, Runtime) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    (runtime.block_on(Server::start(BackendConfig::new())).unwrap(), runtime)
}

/// An earlier version refused every call of its hook.
#[test]
fn a_builder_of_the_parent_can_be_used_in_a_forked_child() {
    alone("a_builder_of_the_parent_can_be_used_in_a_forked_child", |server| {
        let builder = Listener::builder(server.url());
        let builder = builder.on_live(|mut connection, _| connection.notify("a", "1"));
        fork();
        builder.connect().unwrap().close();
        assert_eq!(server.count("a").committed, 1);
    });
}

/// An earlier version took the socket out of the epoll instance that the child shares with its parent.
#[test]
fn a_connection_that_a_forked_child_drops_or_closes_stays_open_in_the_parent() {
    alone("a_connection_that_a_forked_child_drops_or_closes_stays_open_in_the_parent", |server| {
        let dropped = Connection::connect(server.url()).unwrap();
        let closed = Connection::connect(server.url()).unwrap();
        let mut with_thread = Connection::connect(server.url()).unwrap();
        let runtime = Builder::new_current_thread().build().unwrap();
        runtime.block_on(async { with_thread.simple_query("SELECT 1") }).unwrap();
        fork();
        drop((dropped, with_thread));
        closed.close();
        // The server has handled all of that.
        Connection::connect(server.url()).unwrap().close();
        server.blocking_wait_until(LONG, |backend| backend.sessions().count() <= 3).unwrap();
        assert_eq!(server.clients(), 3);
    });
}

/// An earlier version returned nothing, forever.
#[test]
fn a_call_in_a_forked_child_that_cannot_wait_and_finds_nothing_is_misuse() {
    alone("a_call_in_a_forked_child_that_cannot_wait_and_finds_nothing_is_misuse", |server| {
        let mut listener = Listener::builder(server.url()).channels(["a"]).connect().unwrap();
        let notifier = Notifier::connect(server.url()).unwrap();
        notifier.notify("a", "1").unwrap();
        while listener.stats().received < 1 {
            thread::yield_now();
        }
        assert!(notifier.last_nudge_error().is_none());
        fork();
        notifier.nudge("a", "2");
        assert_eq!(notifier.stats().nudges, 0);
        assert_eq!(notifier.last_nudge_error().unwrap().kind(), ErrorKind::Misuse);
        // What was queued is returned first.
        assert!(matches!(listener.try_recv(), Ok(Some(Event::Notification(_)))));
        let refused = listener.try_recv().unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Misuse);
        assert!(refused.to_string().contains("forked"), "{refused}");
    });
}
