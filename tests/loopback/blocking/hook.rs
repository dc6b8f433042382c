//! Hooks and other functions of the user.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pgbell::blocking::{Connection, Listener, ListenerHandle, Notifier};
use pgbell::testing::{Answer, Auth, BackendConfig};
use pgbell::{Error, ErrorKind, Event, Live};

use super::{LONG, Scene, next, number};

#[test]
fn a_hook_reads_the_state_at_the_start_and_after_a_gap_before_anything_is_delivered() {
    let scene = Scene::new();
    scene.server.answer("SELECT id FROM orders", Answer::rows(["id"]).row(["1"]));
    let (sender, runs) = mpsc::channel();
    // Calls of other values can wait in a hook.
    let from_hook = Notifier::connect(scene.url()).unwrap();
    let mut listener = Listener::builder(scene.url())
        .channels(["a"])
        .on_live(move |mut connection, live| {
            let rows = connection.simple_query("SELECT id FROM orders")?;
            from_hook.notify("a", "1")?;
            connection.close();
            sender.send((rows[0].len(), matches!(live, Live::AfterGap(_)))).map_err(Error::other)
        })
        .connect()
        .unwrap();
    assert_eq!(runs.try_recv().unwrap(), (1, false));
    assert_eq!(number(next(&mut listener)), 1);
    scene.server.kill(listener.process_id().unwrap());
    assert!(matches!(next(&mut listener), Event::Gap(_)));
    assert_eq!(runs.try_recv().unwrap(), (1, true));
    assert_eq!(number(next(&mut listener)), 1);
}

#[test]
fn a_hook_that_panics_is_an_error_of_the_connect_with_its_message() {
    let scene = Scene::new();
    let builder = Listener::builder(scene.url());
    let failed = builder.on_live(|_, _| panic!("no table")).connect().unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Other);
    assert!(failed.to_string().contains("no table"), "{failed}");
}

/// It blocks in a query that is never answered. The call returns when the run is cancelled, and only then the next run begins.
#[test]
fn a_run_of_the_hook_that_is_cancelled_returns_from_its_call_and_the_next_one_follows() {
    let scene = Scene::new();
    let runs = Arc::new(AtomicU32::new(0));
    let begun = runs.clone();
    let (sender, errors) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = Mutex::new(released);
    let mut listener = Listener::builder(scene.url())
        .channels(["a"])
        .on_live_timeout(Duration::from_secs(1))
        .backoff(Duration::from_millis(1), Duration::from_millis(2))
        .on_live(move |mut connection, _| {
            let run = runs.fetch_add(1, Ordering::Relaxed);
            if run == 1 {
                connection.listen("never")?;
                let cancelled = connection.recv_batch().unwrap_err();
                let later = connection.simple_query("SELECT 1").unwrap_err();
                sender.send((cancelled, later)).map_err(Error::other)?;
                released.lock().unwrap().recv_timeout(LONG).map_err(Error::other)?;
            }
            Ok(())
        })
        .connect()
        .unwrap();
    scene.server.kill(listener.process_id().unwrap());
    let (cancelled, later) = errors.recv_timeout(LONG).unwrap();
    for error in [cancelled, later] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(error.to_string().contains("the run of the hook has ended"), "{error}");
    }
    // The second failure is that of a run that could not begin in its time.
    while listener.stats().hook_failures < 2 {
        thread::yield_now();
    }
    assert_eq!(begun.load(Ordering::Relaxed), 2, "two runs at once");
    release.send(()).unwrap();
    assert!(matches!(next(&mut listener), Event::Gap(_)));
    assert!(begun.load(Ordering::Relaxed) > 2);
}

/// Each hook waits for the other one. An earlier version ran them one after the other: a listener did not reconnect while the hook of another
/// one ran.
#[test]
fn the_hooks_of_two_listeners_of_one_builder_run_at_the_same_time() {
    let scene = Scene::new();
    let both = Arc::new(Barrier::new(2));
    let builder = Listener::builder(scene.url()).on_live_timeout(LONG / 4).on_live(move |_, _| {
        both.wait();
        Ok(())
    });
    let other = builder.clone();
    let connecting = thread::spawn(move || other.connect().map(Listener::close));
    builder.connect().unwrap().close();
    connecting.join().unwrap().unwrap();
    scene.until_no_session();
}

#[test]
fn the_connection_of_a_hook_cannot_be_used_after_its_run() {
    let scene = Scene::new();
    let kept: Arc<Mutex<Option<Connection>>> = Arc::default();
    let keep = kept.clone();
    let listener = Listener::builder(scene.url())
        .on_live(move |connection, _| {
            *keep.lock().unwrap() = Some(connection);
            Ok(())
        })
        .connect()
        .unwrap();
    let mut connection = kept.lock().unwrap().take().unwrap();
    assert_eq!(connection.simple_query("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
    listener.close();
    assert_eq!(connection.simple_query("SELECT 1").unwrap_err().kind(), ErrorKind::Closed);
    connection.close();
    scene.until_no_session();
}

/// A task on the runtime of the background thread: a call that waits there would stop the listener, or wait for itself.
#[test]
fn a_call_in_the_background_thread_is_refused_and_the_listener_goes_on() {
    let scene = Scene::new();
    let handles: Arc<Mutex<Vec<ListenerHandle>>> = Arc::default();
    let (known, url) = (handles.clone(), scene.url());
    let (sender, refusals) = mpsc::channel();
    let mut listener = Listener::builder(scene.url())
        .channels(["a"])
        .backoff(Duration::from_millis(1), LONG)
        .on_live(move |_, _| {
            let (known, url, sender) = (known.clone(), url.clone(), sender.clone());
            tokio::runtime::Handle::current().spawn(async move {
                for handle in known.lock().unwrap().iter() {
                    sender.send(handle.listen("b").unwrap_err()).unwrap();
                    sender.send(Connection::connect(&*url).unwrap_err()).unwrap();
                    sender.send(handle.channels().unwrap_err()).unwrap();
                }
            });
            Ok(())
        })
        .connect()
        .unwrap();
    handles.lock().unwrap().push(listener.handle());
    scene.server.kill_all();
    for _ in 0..3 {
        let refusal = refusals.recv_timeout(LONG).unwrap();
        assert_eq!(refusal.kind(), ErrorKind::Misuse, "{refusal}");
        assert!(refusal.hint().is_some());
    }
    assert!(matches!(next(&mut listener), Event::Gap(_)));
    let channels = listener.handle().channels().unwrap();
    assert_eq!(channels.into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
}

/// It is called in the thread that connects, where calls can wait.
#[test]
fn calls_can_wait_between_two_attempts_to_connect() {
    let scene = Scene::new();
    let notifier = Notifier::connect(scene.url()).unwrap();
    let caller = thread::current().id();
    let failed = Listener::builder("host=127.0.0.1 port=1 user=x")
        .retry_first_connect(Duration::from_millis(50))
        .backoff(Duration::from_millis(1), Duration::from_millis(10))
        .on_first_connect_retry(move |_, _| {
            assert_eq!(thread::current().id(), caller);
            notifier.notify("a", "x").unwrap();
        })
        .connect()
        .unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Connect);
    assert!(scene.server.count("a").committed > 0);
}

#[test]
fn calls_can_wait_in_a_password_provider() {
    let (scene, trusted) =
        (Scene::with(BackendConfig::new().auth(Auth::Md5).user("ann", "pencil")), Scene::new());
    let config: pgbell::Config = scene.url().parse().unwrap();
    let url = trusted.url();
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let config = config.password_provider(move |_| {
        let (url, counted) = (url.clone(), counted.clone());
        async move {
            let mut connection = Connection::connect(&*url)?;
            connection.simple_query("SELECT 1")?;
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Error>("pencil".to_owned())
        }
    });
    Connection::connect(config.clone()).unwrap().close();
    Listener::connect(config.clone()).unwrap().close();
    Notifier::connect(config).unwrap().close();
    assert_eq!(calls.load(Ordering::Relaxed), 3);
    scene.until_no_session();
}
