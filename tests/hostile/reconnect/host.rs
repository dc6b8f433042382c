//! A server on a Unix socket whose every byte a test decides. Written bytes arrive at once, so a paused clock that jumps when
//! no task can run shows every delay exactly.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use pgbell::{Event, Gap, Listener, ListenerBuilder, ListenerHandle, State};
use tokio::net::UnixListener;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;

use super::super::client::PASSWORD;
use super::peer::Peer;

/// The delays before attempts, unless a test sets others.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(20));

/// An interval so long that no heartbeat is sent.
pub(super) const QUIET: Duration = Duration::from_secs(3_600);

/// A runtime with one thread and a paused clock, which jumps to the next deadline when no task can run.
pub(super) fn paused_clock() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// The name of the socket that a client expects.
const SOCKET: &str = ".s.PGSQL.5432";

/// A log of what happened, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub(super) fn add(&self, what: impl Into<String>) {
        self.lock().push(what.into());
    }

    pub(super) fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap()
    }
}

/// The record of a host about its clients.
#[derive(Debug, Default)]
struct Visits {
    accepted: Vec<Instant>,
    /// The number of conversations that have ended.
    ended: usize,
}

/// The server of a test.
pub(super) struct Host {
    directory: PathBuf,
    visits: Arc<Mutex<Visits>>,
    task: JoinHandle<()>,
}

impl Host {
    /// Starts a host that calls `serve` for each client, with its number, from 1.
    pub(super) async fn start<F, Fut>(serve: F) -> Self
    where
        F: Fn(u32, Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pgbell-hostile-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let visits = Arc::new(Mutex::new(Visits::default()));
        let task = accept(&directory, visits.clone(), serve);
        Self { directory, visits, task }
    }

    /// As [`start`](Self::start), after [`stop`](Self::stop). The numbers of the clients continue.
    pub(super) fn start_again<F, Fut>(&mut self, serve: F)
    where
        F: Fn(u32, Peer) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        std::fs::remove_file(self.directory.join(SOCKET)).unwrap();
        self.task = accept(&self.directory, self.visits.clone(), serve);
    }

    pub(super) fn url(&self) -> String {
        format!("host={} user=alice password={PASSWORD} dbname=db", self.directory.display())
    }

    /// A builder of a listener to channel `a` that reconnects soon, and sends no heartbeat.
    pub(super) fn builder(&self) -> ListenerBuilder {
        let builder = Listener::builder(&*self.url()).channels(["a"]);
        builder.backoff(BACKOFF.0, BACKOFF.1).heartbeat(QUIET, QUIET)
    }

    /// The times at which the clients connected.
    pub(super) fn accepted(&self) -> Vec<Instant> {
        self.visits.lock().unwrap().accepted.clone()
    }

    /// The number of clients.
    pub(super) fn clients(&self) -> usize {
        let visits = self.visits.lock().unwrap();
        visits.accepted.len() - visits.ended
    }

    /// The times between two successive clients.
    pub(super) fn pauses(&self) -> Vec<Duration> {
        self.accepted().windows(2).map(|two| two[1] - two[0]).collect()
    }

    /// Stops the server: connections are refused from now on.
    pub(super) async fn stop(&mut self) {
        assert!(!self.task.is_finished(), "a conversation failed");
        self.task.abort();
        let _ = (&mut self.task).await;
        let mut visits = self.visits.lock().unwrap();
        visits.ended = visits.accepted.len();
    }

    /// Checks, after the listener was closed, that every socket is closed and no task is left.
    pub(super) async fn ends(mut self) {
        soon("the end of every conversation", async {
            while self.clients() > 0 && !self.task.is_finished() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
        self.stop().await;
        soon("the end of every task", async {
            while Handle::current().metrics().num_alive_tasks() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await;
    }
}

fn accept<F, Fut>(directory: &Path, visits: Arc<Mutex<Visits>>, serve: F) -> JoinHandle<()>
where
    F: Fn(u32, Peer) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let socket = UnixListener::bind(directory.join(SOCKET)).unwrap();
    tokio::spawn(async move {
        let mut serving = JoinSet::new();
        loop {
            tokio::select! {
                accepted = socket.accept() => {
                    let (stream, _) = accepted.unwrap();
                    let number = {
                        let mut visits = visits.lock().unwrap();
                        visits.accepted.push(Instant::now());
                        u32::try_from(visits.accepted.len()).unwrap()
                    };
                    serving.spawn(serve(number, Peer::new(stream)));
                }
                Some(ended) = serving.join_next() => {
                    // A failure in a conversation must fail the test.
                    ended.unwrap();
                    visits.lock().unwrap().ended += 1;
                }
            }
        }
    })
}

impl Drop for Host {
    fn drop(&mut self) {
        self.task.abort();
        // The directory may be removed already.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// The longest time for one step, in the time of the paused clock: longer than every deadline of the crate.
const STEP_TIMEOUT: Duration = Duration::from_secs(1_000);

/// Awaits a future and panics on a timeout.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(STEP_TIMEOUT, future).await {
        Ok(value) => value,
        Err(_) => panic!("timed out: {what}"),
    }
}

/// Returns the payload of the next event, which must be a notification.
pub(super) async fn payload(listener: &mut Listener) -> String {
    match soon("a notification", listener.recv()).await.unwrap() {
        Event::Notification(n) => n.payload().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// Returns the next event, which must be a gap.
pub(super) async fn gap(listener: &mut Listener) -> Gap {
    match soon("a gap", listener.recv()).await.unwrap() {
        Event::Gap(gap) => gap,
        other => panic!("{other:?}"),
    }
}

/// Closes the listener, within the second that the documentation promises.
pub(super) async fn close(listener: Listener) {
    let begin = Instant::now();
    soon("the end", listener.close()).await;
    // The clock rounds up.
    assert!(begin.elapsed() <= Duration::from_millis(1_005), "{:?}", begin.elapsed());
}

/// Logs the states from the next loss until the listener is connected again.
pub(super) fn watch(handle: ListenerHandle, log: Log) -> JoinHandle<()> {
    tokio::spawn(async move {
        log.add(format!("{:?}", handle.state()));
        for state in [State::Reconnecting, State::Connected] {
            handle.wait_state(state).await.unwrap();
            log.add(format!("{state:?}"));
        }
    })
}
