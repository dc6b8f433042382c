//! The dispatcher, over a listener and over a hub.

mod ending;
mod handling;
mod losses;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbell::{
    Dispatcher, DispatcherStats, ErrorKind, Hub, Listener, ListenerHandle, Notification,
    RunningDispatcher, Stats,
};

use crate::support::{Server, run, until};

/// Where the notifications come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Listener,
    Hub,
}

const BOTH: [Over; 2] = [Over::Listener, Over::Hub];

/// A dispatcher that was started, its hub, and the process id of its session.
struct Started {
    running: RunningDispatcher,
    hub: Option<Hub>,
    listener: Option<ListenerHandle>,
    process_id: Option<i32>,
}

/// Starts a dispatcher that reconnects at once.
async fn start(server: &Server, over: Over, dispatcher: Dispatcher) -> Started {
    let (min, max) = (Duration::from_millis(10), Duration::from_millis(100));
    match over {
        Over::Listener => {
            let listener = Listener::builder(server.url()).backoff(min, max);
            let listener = listener.connect().await.unwrap();
            let (process_id, handle) = (listener.process_id(), listener.handle());
            let running = dispatcher.run(listener).await.unwrap();
            Started { running, hub: None, listener: Some(handle), process_id }
        }
        Over::Hub => {
            let hub = Hub::builder(server.url()).backoff(min, max).connect().await.unwrap();
            let process_id = hub.handle().process_id();
            let running = dispatcher.run_hub(&hub).await.unwrap();
            Started { running, hub: Some(hub), listener: None, process_id }
        }
    }
}

impl Started {
    /// Returns the statistics of the connection.
    fn connection(&self) -> Stats {
        match (&self.hub, &self.listener) {
            (Some(hub), _) => hub.stats().connection,
            (None, Some(listener)) => listener.stats(),
            (None, None) => Stats::default(),
        }
    }

    /// Waits until the statistics are as expected.
    async fn until(&self, what: &str, is_so: impl Fn(&DispatcherStats) -> bool) {
        until(what, || is_so(&self.running.stats())).await;
    }

    /// Waits until this number of notifications was handled, in all lanes.
    async fn handled(&self, count: u64) {
        self.until("notifications are handled", |stats| stats.handled >= count).await;
    }
}

/// What handlers have written.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn add(&self, line: impl Into<String>) {
        self.0.lock().unwrap().push(line.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// Returns a handler that writes the payload.
    fn payloads(&self) -> impl Fn(Notification) -> std::future::Ready<()> + Send + Sync + 'static {
        let log = self.clone();
        move |n| {
            log.add(n.payload());
            std::future::ready(())
        }
    }
}

#[test]
fn a_dispatcher_that_cannot_start_leaves_no_subscription() {
    let server = Server::start();
    run(async {
        let hub = Hub::connect(server.url()).await.unwrap();
        let nothing = |_: Notification| async {};
        for (dispatcher, kind) in [
            (Dispatcher::new(), ErrorKind::Misuse),
            (Dispatcher::new().on("a", nothing).on("a\0b", nothing), ErrorKind::Misuse),
            (Dispatcher::new().on("a", nothing).on_topic("b", "x:y", nothing), ErrorKind::Misuse),
            (Dispatcher::new().on("a", nothing).concurrency(0), ErrorKind::Config),
        ] {
            assert_eq!(dispatcher.run_hub(&hub).await.unwrap_err().kind(), kind);
            assert_eq!(hub.stats().subscriptions, 0);
        }
        until("no channel is left", || hub.stats().channels == 0).await;
        hub.close().await;
    });
}
