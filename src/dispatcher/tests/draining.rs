//! A drain over a hub, whose server does not answer its round trip as a server should.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, Semaphore};

use super::{Log, until};
use crate::dispatcher::control::Origin;
use crate::dispatcher::drain::drain;
use crate::dispatcher::phase::Phase;
use crate::dispatcher::{Dispatcher, RunningDispatcher, Stopped};
use crate::error::{Error, ErrorKind};
use crate::hub::{Hub, HubBuilder};
use crate::notification::Notification;
use crate::proto::supervisor::State;
use crate::testing::{BackendConfig, Delivery, Script, Server};

const LONG: Duration = Duration::from_secs(60);

/// A server that has sent a notification and received the query of the drain.
fn queried() -> Script {
    Script::listening().send(Script::A1).expect_message(b'Q')
}

/// Starts a dispatcher over a hub whose server plays this script.
async fn start(script: Script) -> (Hub, RunningDispatcher, Log) {
    let (address, _task) = script.serve(Delivery::Whole).await.unwrap();
    let url = format!("postgres://u@{address}/d?sslmode=disable");
    let (hub, log) = (Hub::connect(&*url).await.unwrap(), Log::default());
    let lines = log.clone();
    let dispatcher = Dispatcher::new().on("a", move |n: Notification| {
        let log = lines.clone();
        async move { log.add(n.payload()) }
    });
    let running = dispatcher.run_hub(&hub).await.unwrap();
    (hub, running, log)
}

/// What was received is handled in any case.
fn check(stopped: &Stopped, log: &Log, error: Option<ErrorKind>) {
    let found = stopped.error.as_ref().map(Error::kind);
    assert_eq!(found, error, "{stopped:?}");
    assert_eq!((stopped.unhandled, stopped.cancelled, stopped.blocked), (0, 0, 0));
    assert_eq!(log.lines(), ["b"]);
}

#[tokio::test]
async fn a_drain_whose_session_is_lost_before_the_answer_reports_that() {
    for script in [queried().close(), queried().reset()] {
        let (_hub, running, log) = start(script).await;
        let stopped = running.drain(LONG).await;
        check(&stopped, &log, Some(ErrorKind::InDoubt));
        let error = running.wait().await.unwrap_err();
        assert!(error.to_string().contains("the drain of the dispatcher"), "{error}");
    }
}

#[tokio::test]
async fn a_drain_of_a_hub_without_a_session_handles_what_is_queued_and_reports_that() {
    let mut server = Server::start(BackendConfig::new()).await.unwrap();
    let (hub, log, gate) =
        (Hub::connect(server.url()).await.unwrap(), Log::default(), Notify::new());
    let (lines, gate) = (log.clone(), Arc::new(gate));
    let opened = gate.clone();
    let dispatcher = Dispatcher::new().on("a", move |n: Notification| {
        let (log, gate) = (lines.clone(), opened.clone());
        async move {
            if n.payload() == "1" {
                gate.notified().await;
            }
            log.add(n.payload());
        }
    });
    let running = dispatcher.run_hub(&hub).await.unwrap();
    for payload in ["1", "2", "3"] {
        server.notify("a", payload).unwrap();
    }
    until("all have arrived", || hub.stats().connection.received == 3).await;
    server.halt().await;
    hub.handle().wait_state(State::Reconnecting).await.unwrap();
    running.handle().request_drain(LONG);
    gate.notify_one();
    let stopped = running.handle().stopped().await;
    assert_eq!(log.lines(), ["1", "2", "3"]);
    assert_eq!(stopped.unhandled, 0);
    let error = stopped.error.expect("what was committed may be missing");
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert!(error.to_string().contains("the hub is reconnecting"), "{error}");
}

#[tokio::test]
async fn a_drain_whose_query_the_server_refuses_is_complete() {
    let fields = b"SERROR\0VERROR\0C42883\0Mthere is no such function\0\0";
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let refusal = [b"E", &length[..], fields, b"Z\0\0\0\x05I"].concat();
    let (_hub, running, log) = start(queried().send(refusal).wait_for_eof()).await;
    check(&running.drain(LONG).await, &log, None);
}

#[tokio::test]
async fn a_drain_during_which_the_hub_is_closed_is_no_error() {
    let asked = Arc::new(Notify::new());
    let notify = asked.clone();
    let script = queried().send_with(move |_| {
        notify.notify_one();
        Vec::new()
    });
    let (hub, running, log) = start(script.expect_message(b'X').close()).await;
    running.handle().request_drain(LONG);
    asked.notified().await;
    hub.close().await;
    check(&running.handle().stopped().await, &log, None);
}

#[tokio::test]
async fn a_drain_that_a_silent_server_does_not_answer_ends_with_its_timeout_or_with_a_stop() {
    let short = Duration::from_millis(100);
    for is_stopped in [false, true] {
        let (_hub, running, log) = start(queried().wait_for_eof()).await;
        let begin = Instant::now();
        let stopped = if is_stopped {
            running.handle().request_drain(LONG);
            until("it has handled it", || running.stats().handled == 1).await;
            running.stop(LONG).await
        } else {
            running.drain(short).await
        };
        assert!(begin.elapsed() < LONG / 2);
        check(&stopped, &log, (!is_stopped).then_some(ErrorKind::Timeout));
    }
}

#[tokio::test]
async fn what_arrives_after_the_round_trip_of_a_drain_is_not_handled() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let (hub, gate) = (Hub::connect(server.url()).await.unwrap(), Arc::new(Semaphore::new(0)));
    let opened = gate.clone();
    let dispatcher = Dispatcher::new().on("a", move |_: Notification| {
        let gate = opened.clone();
        async move { gate.acquire().await.unwrap().forget() }
    });
    let running = dispatcher.run_hub(&hub).await.unwrap();
    let send = |count: usize| {
        for _ in 0..count {
            server.notify("a", "1").unwrap();
        }
    };
    send(2);
    until("all have arrived", || hub.stats().connection.received == 2).await;
    let handle = running.handle();
    handle.request_drain(LONG);
    until("the server has answered", || handle.shared.phase() == Phase::Fenced).await;
    gate.add_permits(1);
    until("the second one runs", || running.stats().runs == 2).await;
    send(3);
    until("more have arrived", || hub.stats().connection.received == 5).await;
    gate.add_permits(4);
    let stopped = handle.stopped().await;
    assert_eq!((stopped.unhandled, running.stats().handled), (0, 2), "{stopped:?}");
}

#[tokio::test]
async fn a_drain_while_the_hub_drains_is_no_error() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let (hub, log) = (Hub::connect(server.url()).await.unwrap(), Log::default());
    let lines = log.clone();
    let dispatcher = Dispatcher::new().on("a", move |n: Notification| {
        let log = lines.clone();
        async move { log.add(n.payload()) }
    });
    let running = dispatcher.run_hub(&hub).await.unwrap();
    server.notify("a", "b").unwrap();
    let (drained, stopped) = tokio::join!(hub.drain(LONG), running.drain(LONG));
    drained.unwrap();
    check(&stopped, &log, None);
}

/// Returns a builder of a hub that reconnects at once.
fn builder(server: &Server) -> HubBuilder {
    let once = Duration::from_millis(1);
    Hub::builder(server.url()).backoff(once, once)
}

/// The last error of the hub is of the user. Its kind was taken for the end of the hub, and the drain took all of its time.
#[tokio::test]
async fn a_drain_after_a_hook_has_failed_with_an_error_of_the_kind_closed_reports_the_outage() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let is_first = AtomicBool::new(true);
    let hub = builder(&server).on_resync(move |_, _| {
        let is_first = is_first.swap(false, Ordering::Relaxed);
        let closed = || Err(Error::new(ErrorKind::Closed, "another listener is closed"));
        std::future::ready(if is_first { Ok(()) } else { closed() })
    });
    let hub = hub.connect().await.unwrap();
    let running = Dispatcher::new().on("a", |_: Notification| async {});
    let running = running.run_hub(&hub).await.unwrap();
    server.kill_all();
    until("the hook has failed", || hub.stats().connection.hook_failures > 0).await;
    let begin = Instant::now();
    let stopped = running.drain(LONG).await;
    assert!(begin.elapsed() < LONG / 2, "{stopped:?}");
    let error = stopped.error.expect("what was committed may be missing");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error:#}");
}

type Drain = Pin<Box<dyn Future<Output = Option<Error>> + Send>>;

/// A waker that polls a drain when it is woken, and stores the result.
#[derive(Default)]
struct PollsDrain {
    drain: Mutex<Option<Drain>>,
    result: Mutex<Option<Poll<Option<Error>>>>,
}

impl Wake for PollsDrain {
    fn wake(self: Arc<Self>) {
        let drain = self.drain.lock().unwrap().take();
        if let Some(mut drain) = drain {
            let polled = drain.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            *self.result.lock().unwrap() = Some(polled);
        }
    }
}

/// The state is published before what was held back is released. The waker of a task that waits for the state runs in between.
#[tokio::test]
async fn a_drain_is_not_complete_while_a_connected_hub_still_holds_notifications_back() {
    let server = Server::start(BackendConfig::new()).await.unwrap();
    let gate = Arc::new(Semaphore::new(1));
    let opened = gate.clone();
    let hub = builder(&server).on_resync(move |_, _| {
        let gate = opened.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok(())
        }
    });
    let hub = hub.connect().await.unwrap();
    let running = Dispatcher::new().on("a", |_: Notification| async {});
    let running = running.run_hub(&hub).await.unwrap();
    let (handle, shared) = (hub.handle(), running.handle().shared);
    let mut drain: Drain = Box::pin(drain(&Origin::Hub(hub.handle()), None, shared));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(drain.as_mut().poll(&mut cx).is_pending());
    // Queries are answered in their order: that of the drain is answered too.
    handle.notification_queue_usage().await.unwrap_err();
    server.kill_all();
    handle.wait_state(State::CatchingUp).await.unwrap();
    server.notify("a", "1").unwrap();
    until("it is held back", || hub.stats().connection.received == 1).await;

    let polls = Arc::new(PollsDrain::default());
    *polls.drain.lock().unwrap() = Some(drain);
    let mut connected = std::pin::pin!(handle.wait_state(State::Connected));
    let waker = Waker::from(polls.clone());
    assert!(connected.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    gate.add_permits(1);
    until("the hub is connected", || polls.result.lock().unwrap().is_some()).await;
    let result = polls.result.lock().unwrap().take();
    let Some(Poll::Ready(Some(error))) = result else { panic!("{result:?}") };
    assert!(error.to_string().contains("holds notifications back"), "{error}");
    running.stop(LONG).await;
}
