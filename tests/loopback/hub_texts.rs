//! Errors of a hub name the hub and its functions, although it shares its task with a listener.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use pgbell::testing::Server;
use pgbell::{Connection, Error, Hub, State};

use crate::support::{server, soon};

/// Returns the text of an error with its causes. It does not name what a listener has.
fn text(error: &Error) -> String {
    let text = format!("{error:#}");
    assert!(!text.contains("listener") && !text.contains("on_live"), "{text}");
    text
}

async fn hub(server: &Server) -> Hub {
    soon(Hub::connect(server.url())).await.unwrap()
}

#[tokio::test]
async fn calls_after_the_close_of_a_hub_return_that_the_hub_is_closed() {
    let server = server().await;
    let hub = hub(&server).await;
    let mut subscription = soon(hub.subscribe("a").into_future()).await.unwrap();
    let handle = hub.handle();
    soon(handle.close()).await;
    let errors = [
        soon(handle.subscribe("b").into_future()).await.unwrap_err(),
        soon(subscription.recv()).await.unwrap_err(),
        soon(handle.channels()).await.unwrap_err(),
        soon(handle.rotate()).await.unwrap_err(),
        soon(handle.notification_queue_usage()).await.unwrap_err(),
        soon(handle.drain(Duration::from_secs(1))).await.unwrap_err(),
        soon(handle.wait_state(State::Connected)).await.unwrap_err(),
    ];
    assert_eq!(errors.map(|error| text(&error)), [(); 7].map(|()| "closed: the hub is closed"));
}

#[tokio::test]
async fn calls_during_the_drain_of_a_hub_return_that_the_hub_is_draining_or_closed() {
    let server = server().await;
    let hub = hub(&server).await;
    let handle = hub.handle();
    let mut first = pin!(handle.drain(Duration::from_secs(5)));
    assert!(first.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let second = soon(handle.drain(Duration::from_secs(5))).await.unwrap_err();
    assert_eq!(text(&second), "closed: the hub is draining");
    let refused = soon(handle.subscribe("a").into_future()).await.unwrap_err();
    assert_eq!(text(&refused), "closed: the hub is draining");
    soon(first).await.unwrap();
    text(&soon(handle.rotate()).await.unwrap_err());
}

#[tokio::test]
async fn calls_after_the_loss_of_the_only_session_of_a_hub_return_that_the_hub_has_ended() {
    let server = server().await;
    let hub = soon(Hub::builder(server.url()).reconnect(false).connect()).await.unwrap();
    let handle = hub.handle();
    server.terminate(handle.process_id().unwrap());
    soon(handle.wait_state(State::Closed)).await.unwrap();
    for error in [
        soon(handle.subscribe("b").into_future()).await.unwrap_err(),
        soon(handle.rotate()).await.unwrap_err(),
        soon(handle.channels()).await.unwrap_err(),
    ] {
        assert!(text(&error).starts_with("closed: the hub has ended: server error: "), "{error:#}");
    }
}

#[tokio::test]
async fn the_errors_of_the_hook_of_a_hub_name_on_resync() {
    let server = server().await;
    let builder = || Hub::builder(server.url());
    let failing = |_: Connection, _| async { Err(Error::other("no table")) };
    let error = soon(builder().on_resync(failing).connect()).await.unwrap_err();
    assert_eq!(text(&error), "other: the on_resync hook failed: in code of the caller: no table");
    let panics = |_: Connection, _| async { panic!("a hook that panics") };
    let error = soon(builder().on_resync(panics).connect()).await.unwrap_err();
    assert_eq!(text(&error), "other: the on_resync hook panicked: a hook that panics");
    let slow = builder().on_resync(|_, _| std::future::pending());
    let slow = slow.on_resync_timeout(Duration::from_millis(10));
    let error = soon(slow.connect()).await.unwrap_err();
    assert_eq!(text(&error), "timeout: the on_resync hook was not done within 10ms");
    for wrong in [builder().on_resync_timeout(Duration::ZERO), builder().on_resync_failures_max(0)]
    {
        let error = soon(wrong.connect()).await.unwrap_err();
        let expected = "on_resync_timeout and on_resync_failures_max must be above zero";
        assert!(text(&error).contains(expected), "{error}");
    }
}

/// A waker that panics, as code of the user may.
#[derive(Default)]
struct Panicking(AtomicBool);

impl Wake for Panicking {
    fn wake(self: Arc<Self>) {
        assert!(self.0.swap(true, Ordering::SeqCst), "a waker that panics");
    }
}

#[tokio::test]
async fn a_panic_in_the_task_of_a_hub_is_reported_as_one_of_the_hub() {
    let server = server().await;
    let hub = hub(&server).await;
    let handle = hub.handle();
    let waker = Waker::from(Arc::new(Panicking::default()));
    let mut call = pin!(handle.channels());
    assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    soon(handle.wait_state(State::Closed)).await.unwrap();
    let error = soon(handle.rotate()).await.unwrap_err();
    let expected =
        "closed: the hub has ended: other: the task of the hub panicked: a waker that panics";
    assert_eq!(text(&error), expected);
}

#[test]
fn the_end_of_the_runtime_of_a_hub_names_the_hub() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().unwrap()
    };
    let (own, other) = (runtime(), runtime());
    let server = own.block_on(server());
    let url = server.url();
    let connecting = other.spawn(async move { Hub::connect(url).await.unwrap() });
    let hub = own.block_on(soon(connecting)).unwrap();
    let mut subscription = own.block_on(soon(hub.subscribe("a").into_future())).unwrap();
    other.shutdown_background();
    let error = own.block_on(soon(subscription.recv())).unwrap_err();
    assert_eq!(text(&error), "closed: the runtime of the hub has ended, or its task was dropped");
}
