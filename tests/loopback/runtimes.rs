//! A runtime that ends while a command is unanswered: the server may have executed it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use pgbell::{ErrorKind, Listener, Notifier};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};

use crate::support::{let_listen, listener, next, soon};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The server and the calls have one runtime; the client's task has another one, which ends.
struct Scene {
    own: Runtime,
    other: Runtime,
    server: TcpListener,
    url: String,
}

impl Scene {
    fn new() -> Self {
        let (own, other) = (runtime(), runtime());
        let (server, url) = own.block_on(listener());
        Self { own, other, server, url }
    }

    /// Connects in the runtime that ends.
    fn connect<T: Send + 'static>(
        &self,
        client: impl Future<Output = T> + Send + 'static,
    ) -> (T, TcpStream) {
        let connecting = self.other.spawn(client);
        let socket = self.own.block_on(soon(let_listen(&self.server)));
        (self.own.block_on(soon(connecting)).unwrap(), socket)
    }
}

#[test]
fn a_notify_is_in_doubt_when_the_runtime_of_the_notifier_ends_before_the_answer() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let (notifier, mut socket) =
        scene.connect(async move { Notifier::connect(url).await.unwrap() });
    let Scene { own, other, .. } = scene;
    let waiting = notifier.clone();
    let waiting = own.spawn(async move { waiting.notify("a", "x").await });
    own.block_on(soon(socket.read_u8())).unwrap();
    other.shutdown_background();
    let error = own.block_on(soon(waiting)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    assert!(format!("{error:#}").contains("runtime"), "{error}");
    // Later ones are not sent.
    let error = own.block_on(soon(notifier.notify("a", "x"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("the runtime of the notifier has ended"), "{error}");
    own.block_on(soon(notifier.close()));
}

#[test]
fn calls_that_wait_are_not_in_doubt_when_the_runtime_of_the_notifier_ends() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let connect = async move { Notifier::builder(url).queue_bytes(1).connect().await.unwrap() };
    let (notifier, mut socket) = scene.connect(connect);
    let Scene { own, other, .. } = scene;
    let first = notifier.clone();
    let first = own.spawn(async move { first.notify("a", "x").await });
    own.block_on(soon(socket.read_u8())).unwrap();
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let notifier = notifier.clone();
            own.spawn(async move { notifier.notify("a", "x").await })
        })
        .collect();
    own.block_on(async {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    });
    other.shutdown_background();
    let error = own.block_on(soon(first)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    for call in waiting {
        let error = own.block_on(soon(call)).unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(format!("{error:#}").contains("the runtime of the notifier has ended"), "{error}");
    }
}

/// Wakes a thread that waits for a future without any runtime.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        thread::park();
    }
}

#[test]
fn a_call_that_waits_for_room_outside_of_every_runtime_is_bounded_too() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let (notifier, _socket) = scene.connect(async move {
        let builder = Notifier::builder(url).queue_bytes(1);
        builder.answer_timeout(Duration::from_millis(300)).connect().await.unwrap()
    });
    let mut sent = pin!(notifier.notify("a", "x"));
    assert!(sent.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let waiting = block_on(notifier.notify("a", "y")).unwrap_err();
    assert!(matches!(waiting.kind(), ErrorKind::Timeout | ErrorKind::Closed), "{waiting}");
    assert_eq!(block_on(sent).unwrap_err().kind(), ErrorKind::InDoubt);
}

#[test]
fn a_query_is_in_doubt_when_the_runtime_of_the_listener_ends_before_the_answer() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let (listener, mut socket) =
        scene.connect(async move { Listener::connect(url).await.unwrap() });
    let Scene { own, other, .. } = scene;
    let handle = listener.handle();
    let listening = listener.handle();
    let query = own.spawn(async move { handle.simple_query("DELETE FROM t").await });
    own.block_on(soon(socket.read_u8())).unwrap();
    // A command behind the query has not been sent, and may be repeated.
    let listening = own.spawn(async move { listening.listen("a").await });
    other.shutdown_background();
    let error = own.block_on(soon(query)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InDoubt, "{error}");
    let error = own.block_on(soon(listening)).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let error = own.block_on(soon(listener.handle().simple_query("SELECT 1"))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

/// The kind of the cause is the one of a clean end. A stream must still end with an error.
#[test]
fn a_stream_ends_with_an_error_when_the_runtime_of_its_listener_ends() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let (mut listener, _socket) =
        scene.connect(async move { Listener::connect(url).await.unwrap() });
    let Scene { own, other, .. } = scene;
    other.shutdown_background();
    let item = own.block_on(next(&mut listener));
    let Some(Err(error)) = item else { panic!("{item:?}") };
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert!(format!("{error:#}").contains("the runtime of the listener has ended"), "{error}");
    // The error is returned once.
    for _ in 0..2 {
        let item = own.block_on(next(&mut listener));
        assert!(item.is_none(), "{item:?}");
    }
}

/// The runtime ends before the drain has delivered everything.
#[test]
fn a_runtime_that_ends_during_a_drain_is_the_cause_of_the_end() {
    let scene = Scene::new();
    let url = scene.url.clone();
    let (mut listener, mut socket) =
        scene.connect(async move { Listener::connect(url).await.unwrap() });
    let Scene { own, other, .. } = scene;
    let handle = listener.handle();
    let draining = own.spawn(async move { handle.drain(Duration::from_secs(30)).await });
    own.block_on(soon(socket.read_u8())).unwrap();
    other.shutdown_background();
    let drained = own.block_on(soon(draining)).unwrap().unwrap_err();
    let ended = own.block_on(soon(listener.recv())).unwrap_err();
    for error in [drained, ended] {
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        assert!(format!("{error:#}").contains("the runtime of the listener has ended"), "{error}");
        assert!(!format!("{error:#}").contains("before this was sent"), "{error}");
    }
}
