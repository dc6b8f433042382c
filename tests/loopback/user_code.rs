//! Code of the user that runs in a listener's tasks, and panics or blocks its thread.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use pgbell::testing::Server;
use pgbell::{
    Config, Connection, Error, ErrorKind, Event, Listener, ListenerBuilder, Notifier, State,
};

use crate::support::{next, server, soon};

const DELAY: Duration = Duration::from_millis(1);

/// A configuration whose provider is called with the number of the call, from 1.
fn asked<Fut>(server: &Server, provider: impl Fn(u64) -> Fut + Send + Sync + 'static) -> Config
where
    Fut: Future<Output = Result<String, Infallible>> + Send + 'static,
{
    let calls = AtomicU64::new(0);
    let config: Config = server.url().parse().unwrap();
    config.password_provider(move |_| provider(calls.fetch_add(1, Ordering::SeqCst) + 1))
}

fn builder(config: Config) -> ListenerBuilder {
    Listener::builder(config).channels(["a"]).backoff(DELAY, DELAY)
}

async fn send(server: &Server, payload: &str) {
    let mut sending = Connection::connect(server.url()).await.unwrap();
    sending.notify("a", payload).await.unwrap();
    sending.close().await;
}

async fn expect_payload(server: &Server, listener: &mut Listener, payload: &str) {
    send(server, payload).await;
    let event = soon(listener.recv()).await;
    let is_received = |n: &pgbell::Notification| n.payload_bytes() == payload.as_bytes();
    assert!(matches!(&event, Ok(Event::Notification(n)) if is_received(n)), "{event:?}");
}

async fn until(mut is_so: impl FnMut() -> bool) {
    soon(async {
        while !is_so() {
            tokio::time::sleep(DELAY).await;
        }
    })
    .await;
}

/// The ways in which a provider can panic.
#[derive(Clone, Copy, Debug)]
enum Panic {
    /// The provider panics before it returns a future, with a formatted text.
    InTheCall,
    /// The future panics, with a literal.
    InTheFuture,
    /// The panic has a value that is not a text.
    WithoutAText,
    /// The panic has a text that is too long.
    WithALongText,
}

impl Panic {
    const ALL: [Self; 4] =
        [Self::InTheCall, Self::InTheFuture, Self::WithoutAText, Self::WithALongText];

    fn words(self) -> &'static str {
        match self {
            Self::InTheCall => "panicked: the vault is closed (2)",
            Self::InTheFuture => "panicked: the vault has fallen",
            Self::WithoutAText => "panicked",
            Self::WithALongText => "panicked: éééé",
        }
    }

    /// A provider that panics at these calls.
    fn config(self, server: &Server, at: impl Fn(u64) -> bool + Send + Sync + 'static) -> Config {
        asked(server, move |call| {
            let how = Some(self).filter(|_| at(call));
            assert!(!matches!(how, Some(Self::InTheCall)), "the vault is closed ({call})");
            async move {
                match how {
                    Some(Self::InTheFuture) => panic!("the vault has fallen"),
                    Some(Self::WithoutAText) => std::panic::panic_any(404),
                    Some(Self::WithALongText) => panic!("{}", "é".repeat(1_000_000)),
                    _ => Ok("pl4nted".to_owned()),
                }
            }
        })
    }
}

#[tokio::test]
async fn a_password_provider_that_panics_on_a_reconnect_is_a_failed_attempt_with_its_message() {
    let server = server().await;
    for how in Panic::ALL {
        let config = how.config(&server, |call| call == 2);
        // Also if refused logins end the listener, which is not the default with a provider.
        let connect = builder(config).retry_refusals(false).connect();
        let mut listener = soon(connect).await.unwrap();
        server.terminate(listener.process_id().unwrap());
        let event = soon(listener.recv()).await;
        let Ok(Event::Gap(gap)) = event else { panic!("{how:?}: {event:?}") };
        assert_eq!((gap.sessions(), gap.attempts()), (1, 2), "{how:?}: {gap}");
        expect_payload(&server, &mut listener, "received").await;
        let error = listener.last_error().unwrap();
        assert_eq!(error.kind(), ErrorKind::Other, "{how:?}: {error}");
        assert!(!error.is_transient(), "{how:?}: {error}");
        let text = format!("{error:#}");
        assert!(text.contains(how.words()) && text.len() < 1_000, "{how:?}: {text}");
        assert_eq!(listener.stats().attempts_failed, 1);
        soon(listener.close()).await;
    }
}

#[tokio::test]
async fn the_panic_of_a_password_provider_is_the_error_of_the_first_connect() {
    let server = server().await;
    for how in Panic::ALL {
        let config = how.config(&server, |_| true);
        let error = soon(builder(config.clone()).connect()).await.map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Other, "{how:?}: {error}");
        // These have no task: the panic is in the caller's task.
        let connecting = tokio::spawn(Connection::connect(config.clone()));
        assert!(soon(connecting).await.unwrap_err().is_panic(), "{how:?}");
        let connecting = tokio::spawn(Notifier::connect(config));
        assert!(soon(connecting).await.unwrap_err().is_panic(), "{how:?}");
    }
}

/// Blocks a thread until the end of the test.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<(u64, bool)>, Condvar)>);

impl Gate {
    fn block(&self) {
        let (state, opened) = &*self.0;
        let mut state = state.lock().unwrap();
        state.0 += 1;
        let _open = opened.wait_while(state, |(_, is_open)| !*is_open).unwrap();
    }

    fn calls(&self) -> u64 {
        self.0.0.lock().unwrap().0
    }
}

/// Opens a gate when it is dropped, so that a failing test ends.
struct OpenOnDrop(Gate);

impl Drop for OpenOnDrop {
    fn drop(&mut self) {
        let (state, opened) = &*self.0.0;
        state.lock().unwrap().1 = true;
        opened.notify_all();
    }
}

/// A provider that blocks its thread from its second call on.
fn blocked(server: &Server, gate: &Gate) -> Config {
    let gate = gate.clone();
    asked(server, move |call| {
        let gate = gate.clone();
        async move {
            if call > 1 {
                gate.block();
            }
            Ok("pl4nted".to_owned())
        }
    })
}

/// This is true on a runtime of one thread too.
#[tokio::test]
async fn a_password_provider_that_blocks_its_thread_delays_neither_delivery_nor_close() {
    let server = server().await;
    let gate = Gate::default();
    let opens = OpenOnDrop(gate.clone());
    let mut listener = soon(builder(blocked(&server, &gate)).connect()).await.unwrap();
    // The handover opens a new session. Its attempt calls the provider, which blocks its thread.
    soon(listener.handle().rotate()).await.unwrap();
    until(|| gate.calls() == 1).await;
    for payload in ["1", "2", "3"] {
        expect_payload(&server, &mut listener, payload).await;
    }
    let rows = soon(listener.simple_query("SELECT 'there'")).await.unwrap();
    assert_eq!(rows[0].get(0).unwrap().get(0), Some("there"));
    soon(listener.close()).await;
    drop(opens);
}

#[tokio::test]
async fn a_listener_that_reconnects_is_closed_while_its_provider_blocks_a_thread() {
    let server = server().await;
    let gate = Gate::default();
    let opens = OpenOnDrop(gate.clone());
    let listener = soon(builder(blocked(&server, &gate)).connect()).await.unwrap();
    server.terminate(listener.process_id().unwrap());
    until(|| gate.calls() == 1).await;
    assert_eq!(listener.state(), State::Reconnecting);
    soon(listener.close()).await;
    drop(opens);
}

/// If the provider were called again while it blocks a thread, each attempt would block another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn attempts_of_a_provider_that_blocks_its_thread_do_not_accumulate() {
    let server = server().await;
    let gate = Gate::default();
    let opens = OpenOnDrop(gate.clone());
    let config = blocked(&server, &gate).connect_timeout(Duration::from_secs(1));
    let mut listener = soon(builder(config).connect()).await.unwrap();
    server.terminate(listener.process_id().unwrap());
    until(|| listener.stats().attempts_failed >= 2).await;
    assert_eq!(gate.calls(), 1);
    let error = listener.last_error().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    drop(opens);
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Gap(_))));
    expect_payload(&server, &mut listener, "received").await;
    soon(listener.close()).await;
}

/// The same for the first attempts: each of them had a thread of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn first_attempts_of_a_provider_that_blocks_its_thread_do_not_accumulate() {
    let server = server().await;
    let gate = Gate::default();
    let opens = OpenOnDrop(gate.clone());
    let blocking = gate.clone();
    let config = asked(&server, move |_| {
        let gate = blocking.clone();
        async move {
            gate.block();
            Ok("pl4nted".to_owned())
        }
    });
    let attempts = Arc::new(AtomicU64::new(0));
    let counted = attempts.clone();
    let config = config.connect_timeout(Duration::from_secs(1));
    let connecting = builder(config)
        .retry_first_connect(Duration::from_secs(3))
        .on_first_connect_retry(move |_, _| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
    let error = soon(connecting.connect()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(attempts.load(Ordering::SeqCst) >= 2);
    assert_eq!(gate.calls(), 1);
    drop(opens);
}

/// An attempt ends with its listener, and its socket is closed.
#[tokio::test]
async fn an_attempt_that_waits_for_its_provider_ends_with_the_listener() {
    let server = server().await;
    let held = Arc::new(());
    let theirs = held.clone();
    let config = asked(&server, move |call| {
        let held = theirs.clone();
        async move {
            if call > 1 {
                std::future::pending::<()>().await;
            }
            drop(held);
            Ok("pl4nted".to_owned())
        }
    });
    let listener = soon(builder(config).connect()).await.unwrap();
    server.terminate(listener.process_id().unwrap());
    until(|| Arc::strong_count(&held) == 3).await;
    soon(listener.close()).await;
    // The configuration was dropped with the listener, and so was the attempt.
    until(|| Arc::strong_count(&held) == 1).await;
}

struct Panics;

impl Wake for Panics {
    fn wake(self: Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// Polls a future once. Its waker panics when it is called.
fn begin<T>(future: Pin<&mut impl Future<Output = T>>) {
    let waker = Waker::from(Arc::new(Panics));
    assert!(future.poll(&mut Context::from_waker(&waker)).is_pending());
}

/// The task of the notifier calls the wakers.
#[tokio::test]
async fn a_waker_that_panics_at_the_answer_of_its_call_does_not_end_the_notifier() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let mut first = pin!(notifier.notify("a", "1"));
    begin(first.as_mut());
    soon(notifier.notify("a", "2")).await.unwrap();
    soon(first).await.unwrap();
    soon(notifier.clone().close()).await;
    assert_eq!(server.count("a").committed, 2);
}

/// That task also calls the waker of a call that waits for room. In an earlier version its panic ended the notifier.
#[tokio::test]
async fn a_waker_that_panics_when_its_call_gets_room_does_not_end_the_notifier() {
    let server = server().await;
    let builder = Notifier::builder(server.url()).queue_bytes(1);
    let notifier = builder.connect().await.unwrap();
    let mut first = pin!(notifier.notify("a", "1"));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut waiting = pin!(notifier.notify("a", "2"));
    begin(waiting.as_mut());
    soon(first).await.unwrap();
    soon(waiting).await.unwrap();
    soon(notifier.notify("a", "3")).await.unwrap();
    assert_eq!(notifier.state(), State::Connected);
    soon(notifier.clone().close()).await;
    assert_eq!(server.count("a").committed, 3);
}

/// The task of the listener calls the wakers.
#[tokio::test]
async fn a_listener_whose_task_panics_returns_the_panic_and_not_that_it_was_closed() {
    let server = server().await;
    let mut listener = Listener::builder(server.url()).channels(["a"]).connect().await.unwrap();
    let handle = listener.handle();
    {
        let mut receiving = pin!(listener.recv());
        begin(receiving.as_mut());
        send(&server, "1").await;
        soon(handle.wait_state(State::Closed)).await.unwrap();
    }
    let error = loop {
        if let Err(error) = soon(listener.recv()).await {
            break error;
        }
    };
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    assert!(format!("{error:#}").contains("panicked: a waker that panics"), "{error}");
    // Later calls return the cause, as after every end.
    let error = soon(listener.recv()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(error.source().is_some(), "{error}");
    let error = soon(handle.listen("b")).await.unwrap_err();
    assert!(format!("{error:#}").contains("a waker that panics"), "{error}");
    soon(listener.close()).await;
}

/// The end of the task wakes the calls that it does not answer. Such a waker that panicked left the state `Connected`, and a
/// query that was not sent was in doubt.
#[test]
fn a_waker_of_channels_that_panics_when_the_runtime_ends_does_not_prevent_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(server());
    let listener = Listener::builder(server.url()).channels(["a"]);
    let listener = runtime.block_on(async { soon(listener.connect()).await.unwrap() });
    let handle = listener.handle();
    let mut channels = pin!(handle.channels());
    begin(channels.as_mut());
    let mut query = pin!(handle.simple_query("SELECT 1"));
    let mut context = Context::from_waker(Waker::noop());
    assert!(query.as_mut().poll(&mut context).is_pending());
    drop(server);
    drop(runtime);
    assert_eq!(handle.state(), State::Closed);
    let Poll::Ready(Err(error)) = query.as_mut().poll(&mut context) else { panic!("it waits") };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let Poll::Ready(Err(error)) = channels.as_mut().poll(&mut context) else { panic!("it waits") };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// A captured value is dropped with the last owner of its closure.
#[tokio::test]
async fn a_captured_value_whose_drop_panics_does_not_disturb_the_end() {
    struct Captured;
    impl Drop for Captured {
        fn drop(&mut self) {
            // Also at the end of a test that has failed.
            assert!(std::thread::panicking(), "a drop that panics");
        }
    }
    let server = server().await;
    let captured = Captured;
    let config = asked(&server, move |_| {
        let _ = &captured;
        async { Ok("pl4nted".to_owned()) }
    });
    let listener = soon(builder(config).connect()).await.unwrap();
    let handle = listener.handle();
    soon(listener.close()).await;
    assert_eq!(handle.state(), State::Closed);
    let error = soon(handle.listen("b")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// The hook panics before it returns a future.
#[tokio::test]
async fn a_hook_that_panics_in_its_call_runs_again() {
    let server = server().await;
    let runs = AtomicU64::new(0);
    let hook = move |connection: Connection, _| {
        let run = runs.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(run != 2, "a hook that panics");
        async move {
            connection.close().await;
            Ok(())
        }
    };
    let config: Config = server.url().parse().unwrap();
    let mut listener = soon(builder(config).on_live(hook).connect()).await.unwrap();
    until(|| listener.stats().hooks == 1).await;
    expect_payload(&server, &mut listener, "1").await;
    server.terminate(listener.process_id().unwrap());
    assert!(matches!(soon(listener.recv()).await, Ok(Event::Gap(_))));
    expect_payload(&server, &mut listener, "2").await;
    let stats = listener.stats();
    assert_eq!((stats.hooks, stats.hook_failures), (3, 1));
    let error: Error = listener.last_error().unwrap();
    assert!(format!("{error:#}").contains("panicked"), "{error}");
}

/// A hook that uses a closed notifier fails with the kind of a clean end.
#[tokio::test]
async fn a_stream_ends_with_the_error_of_a_hook_whatever_its_kind() {
    let server = server().await;
    let notifier = Notifier::connect(server.url()).await.unwrap();
    let used = notifier.clone();
    let hook = move |_, _| {
        let notifier = used.clone();
        async move { notifier.notify("b", "read").await }
    };
    let config: Config = server.url().parse().unwrap();
    let builder = builder(config).on_live(hook).on_live_failures_max(1);
    let mut listener = soon(builder.connect()).await.unwrap();
    soon(notifier.close()).await;
    server.terminate(listener.process_id().unwrap());
    let item = next(&mut listener).await;
    assert!(matches!(item, Some(Ok(Event::Gap(_)))), "{item:?}");
    let item = next(&mut listener).await;
    let Some(Err(error)) = item else { panic!("{item:?}") };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("the notifier"), "{error}");
    // The error is returned once.
    let item = next(&mut listener).await;
    assert!(item.is_none(), "{item:?}");
}

/// A close by the user, and a cause that another method has returned already.
#[tokio::test]
async fn a_stream_ends_without_an_error_if_there_is_none_to_return() {
    let server = server().await;
    let config: Config = server.url().parse().unwrap();
    let mut listener = soon(builder(config.clone()).connect()).await.unwrap();
    soon(listener.handle().close()).await;
    let item = next(&mut listener).await;
    assert!(item.is_none(), "{item:?}");

    let mut listener = soon(builder(config).reconnect(false).connect()).await.unwrap();
    server.terminate(listener.process_id().unwrap());
    soon(listener.recv()).await.unwrap_err();
    let item = next(&mut listener).await;
    assert!(item.is_none(), "{item:?}");
}

/// In an earlier version `connect` returned the error of the hook as if the connection of the listener had failed.
#[tokio::test]
async fn a_hook_that_fails_in_connect_is_named_in_its_error() {
    let server = server().await;
    let config = || server.url().parse::<Config>().unwrap();
    let failing = |_, _| async { Err(Error::other("no table")) };
    let error = soon(builder(config()).on_live(failing).connect()).await.unwrap_err();
    let expected = "other: the on_live hook failed: in code of the caller: no table";
    assert_eq!((error.kind(), format!("{error:#}").as_str()), (ErrorKind::Other, expected));
    let asking = |mut connection: Connection, _| async move {
        connection.simple_query("SELECT no_such_thing").await.map(drop)
    };
    let error = soon(builder(config()).on_live(asking).connect()).await.unwrap_err();
    let begin = "server error: the on_live hook failed: the server refused the query: ";
    assert!(error.to_string().starts_with(begin), "{error}");
    assert!(error.sqlstate().is_some(), "the error of the server is kept: {error}");
}

#[tokio::test]
async fn every_retry_of_the_first_connect_reports_its_cause() {
    let mut server = server().await;
    let config: Config = server.url().parse().unwrap();
    server.halt().await;
    let (errors, mut reasons) = tokio::sync::mpsc::unbounded_channel();
    let builder = builder(config).retry_first_connect(Duration::MAX);
    let builder = builder.on_first_connect_retry(move |error, delay| {
        assert!(error.is_transient() && delay >= DELAY, "{error}: {delay:?}");
        let _ = errors.send(error.clone());
    });
    let connecting = tokio::spawn(builder.connect());
    for _ in 0..3 {
        let error = soon(reasons.recv()).await.unwrap();
        assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    }
    server.resume().await.unwrap();
    soon(connecting).await.unwrap().unwrap();
}
