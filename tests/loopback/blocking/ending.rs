//! How a listener or a notifier of a thread ends.

use std::cell::RefCell;
use std::process::{self, Command};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use pgbell::blocking::{Connection, Listener, Notifier};
use pgbell::{Error, ErrorKind, Event, State};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};

use super::{LONG, Scene, next, number};
use crate::support;

/// Longer than a drop waits, and much shorter than the timeouts of the tests.
const SOON: Duration = Duration::from_secs(15);

/// Repeated, so that the receive waits in some of the rounds.
#[test]
fn closing_through_a_handle_ends_a_receive_that_waits() {
    let scene = Scene::new();
    for round in 0..20 {
        let mut listener = scene.listener(&["a"]);
        let handle = listener.handle();
        scene.notify("a", 0..1);
        let (began, begin) = mpsc::channel();
        let consumer = thread::spawn(move || {
            assert_eq!(number(next(&mut listener)), 0);
            began.send(()).unwrap();
            match round % 4 {
                0 => listener.recv().unwrap_err(),
                1 => listener.recv_timeout(LONG).unwrap_err(),
                2 => listener.recv_batch().unwrap_err(),
                _ => listener.recv_batch_timeout(LONG).unwrap_err(),
            }
        });
        begin.recv_timeout(LONG).unwrap();
        handle.close();
        assert_eq!(handle.state(), State::Closed);
        assert_eq!(consumer.join().unwrap().kind(), ErrorKind::Closed);
        assert_eq!(handle.listen("b").unwrap_err().kind(), ErrorKind::Closed);
    }
    scene.until_no_session();
}

#[test]
fn an_iterator_ends_after_a_close_and_stays_at_its_end() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    let handle = listener.handle();
    scene.notify("a", 0..3);
    while listener.stats().received < 3 {
        thread::yield_now();
    }
    handle.close();
    // What was queued before the close is delivered.
    let mut events = listener.iter();
    let found: Vec<_> = events.by_ref().map(|event| number(event.unwrap())).collect();
    assert_eq!(found, [0, 1, 2]);
    assert!(events.next().is_none());
    assert!(listener.into_iter().next().is_none());
}

#[test]
fn an_iterator_returns_the_cause_once_and_then_ends() {
    let scene = Scene::new();
    let builder = Listener::builder(scene.url()).channels(["a"]).reconnect(false);
    let listener = builder.connect().unwrap();
    scene.server.kill_all();
    let found: Vec<_> = listener.into_iter().collect();
    let [Err(cause)] = &found[..] else { panic!("{found:?}") };
    assert_eq!(cause.kind(), ErrorKind::Connect);
}

#[test]
fn a_drain_delivers_what_was_committed_before() {
    let scene = Scene::new();
    let listener = scene.listener(&["a"]);
    let handle = listener.handle();
    scene.notify("a", 0..100);
    handle.drain(LONG).unwrap();
    let found: Vec<_> = listener.into_iter().map(|event| number(event.unwrap())).collect();
    assert_eq!(found, (0..100).collect::<Vec<_>>());
}

/// The thread dies with a listener, a notifier and a connection in its hands.
#[test]
fn the_sessions_of_a_thread_that_panics_end() {
    let scene = Scene::new();
    let url = scene.url();
    let (mut listener, handle) = {
        let listener = scene.listener(&["a"]);
        let handle = listener.handle();
        (listener, handle)
    };
    scene.notify("a", 0..1);
    let owner = thread::spawn(move || {
        let _notifier = Notifier::connect(&*url).unwrap();
        let _connection = Connection::connect(&*url).unwrap();
        let event = next(&mut listener);
        panic!("with {event:?}");
    });
    assert!(owner.join().is_err());
    assert_eq!(handle.state(), State::Closed);
    scene.until_no_session();
}

thread_local! {
    static HELD: RefCell<Option<(Listener, Notifier, Connection)>> = const { RefCell::new(None) };
    static CALLS: RefCell<Option<CallInDrop>> = const { RefCell::new(None) };
}

/// In the drop of a thread-local value, tokio cannot be asked where it is.
#[test]
fn values_in_a_thread_local_end_with_their_thread() {
    let scene = Scene::new();
    let url = scene.url();
    let owner = thread::spawn(move || {
        // The last one that is used for the first time is dropped first: that of tokio.
        HELD.with(|_| ());
        let listener = Listener::builder(&*url).channels(["a"]).connect().unwrap();
        let notifier = Notifier::connect(&*url).unwrap();
        let connection = Connection::connect(&*url).unwrap();
        HELD.with(|held| *held.borrow_mut() = Some((listener, notifier, connection)));
    });
    owner.join().unwrap();
    scene.until_no_session();
}

/// Executes a query when it is dropped.
struct CallInDrop(Connection, mpsc::Sender<ErrorKind>);

impl Drop for CallInDrop {
    fn drop(&mut self) {
        let error = self.0.simple_query("SELECT 1").unwrap_err();
        let _ = self.1.send(error.kind());
    }
}

/// An earlier version panicked, which ends the process. In a runtime the connection has a thread of its own.
#[test]
fn a_call_in_the_drop_of_a_thread_local_value_is_refused() {
    let scene = Scene::new();
    for is_inside in [false, true] {
        let url = scene.url();
        let (sender, found) = mpsc::channel();
        let owner = thread::spawn(move || {
            CALLS.with(|_| ());
            let mut connection = Connection::connect(&*url).unwrap();
            if is_inside {
                let runtime = Builder::new_current_thread().build().unwrap();
                runtime.block_on(async { connection.listen("a").unwrap() });
            }
            CALLS.with(|calls| *calls.borrow_mut() = Some(CallInDrop(connection, sender)));
        });
        owner.join().unwrap();
        assert_eq!(found.recv_timeout(LONG).unwrap(), ErrorKind::Misuse);
        scene.until_no_session();
    }
}

#[test]
fn the_last_clone_of_a_notifier_ends_its_session() {
    let scene = Scene::new();
    let notifier = Notifier::connect(scene.url()).unwrap();
    let clones: Vec<_> = (0..8).map(|_| notifier.clone()).collect();
    drop(notifier);
    assert_eq!(scene.server.clients(), 1);
    for clone in clones {
        thread::spawn(move || clone.notify("a", "x").unwrap()).join().unwrap();
    }
    scene.until_no_session();
}

/// A server that accepts a client, and never ends its session.
fn never_ending(
    builder: impl FnOnce(String) -> Result<Listener, Error> + Send + 'static,
) -> (Runtime, Listener, TcpStream) {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (server, url) = runtime.block_on(support::listener());
    let connecting = thread::spawn(move || builder(url).unwrap());
    let socket = runtime.block_on(support::soon(support::let_listen(&server)));
    (runtime, connecting.join().unwrap(), socket)
}

#[test]
fn a_drop_waits_a_second_at_most_for_a_server_that_does_not_end_the_session() {
    let connect = |url| Listener::builder(url).close_timeout(LONG).connect();
    let (_runtime, listener, _socket) = never_ending(connect);
    let begin = Instant::now();
    drop(listener);
    assert!((Duration::from_secs(1)..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

#[test]
fn a_close_waits_for_the_close_timeout() {
    let timeout = Duration::from_millis(1_500);
    let connect = move |url| Listener::builder(url).close_timeout(timeout).connect();
    let (_runtime, listener, _socket) = never_ending(connect);
    let begin = Instant::now();
    listener.close();
    assert!((timeout..SOON).contains(&begin.elapsed()), "{:?}", begin.elapsed());
}

/// The CancelRequest was sent by a task that ended with the runtime, so the process of the server waited on.
#[test]
fn the_command_of_a_silent_server_is_cancelled_before_a_notifier_has_ended() {
    for is_dropped in [false, true] {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (server, url) = runtime.block_on(support::listener());
        let connecting = thread::spawn(move || {
            let builder = Notifier::builder(url).answer_timeout(Duration::from_millis(300));
            builder.nudge_window(LONG).connect().unwrap()
        });
        let mut calls = runtime.block_on(support::soon(support::let_listen(&server)));
        // It ends long before that of the nudges.
        runtime.spawn(async move { calls.read_to_end(&mut Vec::new()).await });
        let notifier = connecting.join().unwrap();
        notifier.nudge("jobs", "1");
        let mut nudges = runtime.block_on(support::soon(support::let_nudge(&server)));
        while notifier.stats().nudges_committed < 1 {
            thread::yield_now();
        }
        // It is sent by the close, and never answered.
        notifier.nudge("jobs", "2");
        match is_dropped {
            false => notifier.close(),
            true => drop(notifier),
        }
        runtime.block_on(support::soon(support::expect_cancel(&server)));
        runtime.block_on(support::soon(support::read_up_to(&mut nudges, b'S')));
    }
}

/// The thread is blocked by a task of the application, as it could be by a recorder of log events. An earlier version waited forever.
#[test]
fn a_close_returns_although_the_application_blocks_the_background_thread() {
    let scene = Scene::new();
    let (start, started) = tokio::sync::oneshot::channel::<()>();
    let (blocking, blocked) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let task = Mutex::new(Some(async move {
        let _ = started.await;
        blocking.send(()).unwrap();
        let _ = released.recv();
    }));
    let listener = Listener::builder(scene.url())
        .close_timeout(Duration::from_millis(1))
        .on_live(move |_, _| {
            if let Some(task) = task.lock().unwrap().take() {
                tokio::runtime::Handle::current().spawn(task);
            }
            Ok(())
        })
        .connect()
        .unwrap();
    start.send(()).unwrap();
    blocked.recv_timeout(LONG).unwrap();
    let handle = listener.handle();
    let begin = Instant::now();
    handle.close();
    listener.close();
    assert!(begin.elapsed() < SOON, "{:?}", begin.elapsed());
    assert_ne!(handle.state(), State::Closed);
    drop(release);
    handle.wait_state(State::Closed).unwrap();
    scene.until_no_session();
}

#[test]
fn a_drop_in_a_task_does_not_wait() {
    let connect = |url| Listener::builder(url).close_timeout(LONG).connect();
    let (runtime, listener, _socket) = never_ending(connect);
    let handle = listener.handle();
    let took = runtime.block_on(async {
        let begin = Instant::now();
        drop(listener);
        begin.elapsed()
    });
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_ne!(handle.state(), State::Closed);
}

/// The name of the variable with which a test starts itself in a process of its own.
const CHILD_URL: &str = "PGBELL_BLOCKING_CHILD_URL";
const CHILD_WAY: &str = "PGBELL_BLOCKING_CHILD_WAY";

/// Not dropped when the process ends.
static STATIC: OnceLock<Mutex<(Listener, Notifier, Connection)>> = OnceLock::new();

/// `main` returns, or `exit` is called, while a static value has a listener, and another thread waits in one.
#[test]
fn a_process_that_ends_with_a_listener_neither_hangs_nor_crashes() {
    if let Ok(url) = std::env::var(CHILD_URL) {
        return end_with_values(&url);
    }
    let scene = Scene::new();
    for (way, code) in [("return", 0), ("exit", 7)] {
        let name =
            "blocking::ending::a_process_that_ends_with_a_listener_neither_hangs_nor_crashes";
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args([name, "--exact", "--nocapture"]);
        let output = child.env(CHILD_URL, scene.url()).env(CHILD_WAY, way).output().unwrap();
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.contains("sessions are open"), "{printed}");
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        scene.until_no_session();
    }
}

#[expect(clippy::print_stdout, reason = "for the parent")]
fn end_with_values(url: &str) {
    let listener = Listener::builder(url).channels(["a"]).connect().unwrap();
    let values = (listener, Notifier::connect(url).unwrap(), Connection::connect(url).unwrap());
    assert!(STATIC.set(Mutex::new(values)).is_ok());
    let mut waiting = Listener::builder(url).channels(["b"]).connect().unwrap();
    let (began, begin) = mpsc::channel();
    thread::spawn(move || {
        began.send(()).unwrap();
        waiting.recv()
    });
    begin.recv().unwrap();
    println!("sessions are open");
    if std::env::var(CHILD_WAY).unwrap() == "exit" {
        process::exit(7);
    }
}

#[test]
fn a_listener_that_could_not_connect_leaves_no_session() {
    let scene = Scene::new();
    let builder = Listener::builder(scene.url()).channels(["a"]);
    let failed = builder.on_live(|_, _| Err(Error::other("not ready"))).connect().unwrap_err();
    assert!(format!("{failed:#}").contains("not ready"), "{failed:#}");
    scene.until_no_session();
}

#[test]
fn statistics_and_the_last_error_can_be_read_after_the_end() {
    let scene = Scene::new();
    let listener = scene.listener(&["a"]);
    let handle = listener.handle();
    drop(listener);
    assert_eq!((handle.state(), handle.process_id()), (State::Closed, None));
    assert_eq!(handle.stats().sessions, 1);
    assert!(handle.last_error().is_none() && handle.last_error_at().is_none());
    assert_eq!(handle.simple_query("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(handle.rotate().unwrap_err().kind(), ErrorKind::Closed);
    assert!(handle.wait_state_timeout(State::Connected, LONG).is_err());
    // It returns at once.
    handle.close();
    assert_eq!(handle.drain(LONG).unwrap_err().kind(), ErrorKind::Closed);
}

/// The queue is full and blocks the reader: the receive that follows a close delivers what was read.
#[test]
fn a_receive_delivers_the_queue_after_a_close_and_then_closed() {
    let scene = Scene::new();
    let mut listener = scene.listener(&["a"]);
    scene.notify("a", 0..2);
    while listener.stats().received < 2 {
        thread::yield_now();
    }
    listener.handle().close();
    assert_eq!(number(listener.recv().unwrap()), 0);
    assert!(matches!(listener.recv(), Ok(Event::Notification(_))));
    assert_eq!(listener.recv().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(listener.recv_timeout(LONG).unwrap_err().kind(), ErrorKind::Closed);
}
