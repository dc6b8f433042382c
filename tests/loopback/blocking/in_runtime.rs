//! Calls inside of a tokio runtime.

use std::process::Command;
use std::time::{Duration, Instant};

use pgbell::blocking::{Connection, Notifier};
use pgbell::{ErrorKind, Event, State};
use tokio::runtime::Builder;

use super::{LONG, Scene, next, number};

/// Everything in one poll of a task: no await, so its budget is never renewed.
fn use_all(scene: &Scene) {
    let mut listener = scene.listener(&["a"]);
    let notifier = Notifier::connect(scene.url()).unwrap();
    let mut connection = Connection::connect(scene.url()).unwrap();
    connection.listen("a").unwrap();
    for expected in 0..300 {
        notifier.notify("a", expected.to_string()).unwrap();
        assert_eq!(number(next(&mut listener)), expected);
        connection.simple_query("SELECT 1").unwrap();
        assert_eq!(connection.recv_batch().unwrap().len(), 1);
    }
    assert!(listener.recv_timeout(Duration::from_millis(2)).unwrap().is_none());
    assert!(connection.recv_batch_timeout(Duration::from_millis(2)).unwrap().is_none());
    let handle = listener.handle();
    scene.server.kill(listener.process_id().unwrap());
    assert!(matches!(listener.iter().next(), Some(Ok(Event::Gap(_)))));
    drop((notifier, connection));
    listener.close();
    assert_eq!(handle.state(), State::Closed);
}

#[test]
fn calls_in_a_task_neither_panic_nor_wait_for_its_runtime() {
    let scene = Scene::new();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use_all(&scene);
        tokio::task::yield_now().await;
        use_all(&scene);
    });
    let runtime = Builder::new_multi_thread().worker_threads(1).build().unwrap();
    runtime.block_on(async { use_all(&scene) });
    let inside = runtime.enter();
    use_all(&scene);
    drop(inside);
    scene.until_no_session();
}

#[test]
fn calls_work_in_spawn_blocking() {
    let scene = std::sync::Arc::new(Scene::new());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (one, two) = (scene.clone(), scene.clone());
        let listener = tokio::task::spawn_blocking(move || {
            use_all(&one);
            one.listener(&["b"])
        });
        let mut listener = listener.await.unwrap();
        let receiving = tokio::task::spawn_blocking(move || listener.recv());
        two.server.notify("b", "5").unwrap();
        let event = tokio::time::timeout(LONG, receiving).await.unwrap().unwrap().unwrap();
        assert_eq!(number(event), 5);
    });
    scene.until_no_session();
}

/// A connection of a thread gets a background thread of its own with the first call inside of a runtime.
#[test]
fn a_connection_can_be_used_by_a_thread_then_in_a_task_and_then_by_a_thread() {
    let scene = Scene::new();
    let mut connection = Connection::connect(scene.url()).unwrap();
    connection.listen("a").unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    for round in 0..3 {
        connection.simple_query("SELECT 1").unwrap();
        scene.notify("a", 0..2);
        runtime.block_on(async {
            let mut found = 0;
            while found < 2 {
                found += connection.recv_batch().unwrap().len();
            }
            connection.simple_query("SELECT 1").unwrap();
        });
        scene.notify("a", 0..1);
        assert_eq!(connection.recv_batch_timeout(LONG).unwrap().unwrap().len(), 1, "{round}");
    }
    runtime.block_on(async { connection.close() });
    scene.until_no_session();
}

/// In a task that runs on the only thread of the runtime, nothing else of that runtime happens meanwhile.
#[test]
fn a_timeout_in_a_task_does_not_need_the_timers_of_its_runtime() {
    let scene = Scene::new();
    let runtime = Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut listener = scene.listener(&["a"]);
        let begin = Instant::now();
        assert!(listener.recv_timeout(Duration::from_millis(20)).unwrap().is_none());
        assert!(begin.elapsed() >= Duration::from_millis(20));
    });
}

/// The name of the variable with which a test starts itself in a process of its own, in which no thread can be started.
const CHILD_URL: &str = "PGBELL_NO_THREAD_CHILD_URL";

/// An earlier version lost the connection with the thread.
#[test]
fn a_connection_for_which_no_thread_can_be_started_works_outside_of_the_runtime() {
    if let Ok(url) = std::env::var(CHILD_URL) {
        return use_without_a_thread(&url);
    }
    let scene = Scene::new();
    let name = "blocking::in_runtime::a_connection_for_which_no_thread_can_be_started_works_outside_of_the_runtime";
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args([name, "--exact", "--nocapture", "--test-threads=1"]);
    // The stack of every thread: more than there is address space. With a password no file is read, which takes a thread.
    child.env("RUST_MIN_STACK", (1_u64 << 60).to_string()).env("PGPASSWORD", "pencil");
    child.env(CHILD_URL, scene.url());
    let output = child.output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && printed.contains("1 passed"), "{output:?}");
    scene.until_no_session();
}

fn use_without_a_thread(url: &str) {
    assert!(std::thread::Builder::new().spawn(|| {}).is_err());
    let mut connection = Connection::connect(url).unwrap();
    connection.listen("a").unwrap();
    let runtime = Builder::new_current_thread().build().unwrap();
    for _ in 0..2 {
        let refused = runtime.block_on(async { connection.simple_query("SELECT 1") }).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Connect, "{refused}");
        connection.notify("a", "x").unwrap();
        assert_eq!(connection.recv_batch().unwrap().len(), 1);
    }
    connection.close();
}
