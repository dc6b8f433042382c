//! A server of which a test says every byte, on a Unix socket: what is written there has arrived, so a clock that
//! stands still and jumps when nobody has anything to do shows every delay as it is.

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

/// Delays before attempts, unless a test has its own.
pub(super) const BACKOFF: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(20));

/// So long that no proof is asked for.
pub(super) const QUIET: Duration = Duration::from_secs(3_600);

/// One thread, and a clock that jumps to the next deadline when there is nothing to do.
pub(super) fn timeless() -> Runtime {
    Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Where a client looks for it.
const SOCKET: &str = ".s.PGSQL.5432";

/// What has happened, in its order.
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

/// What a host knows of its clients.
#[derive(Debug, Default)]
struct Visits {
    accepted: Vec<Instant>,
    /// How many conversations are over.
    ended: usize,
}

/// The server.
pub(super) struct Host {
    directory: PathBuf,
    visits: Arc<Mutex<Visits>>,
    task: JoinHandle<()>,
}

impl Host {
    /// Each client is given to `serve`, with its number, from 1.
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

    /// As [`start`](Self::start), where one was stopped. Its clients are numbered on.
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

    /// A listener to channel `a` that comes back soon, and asks for no proof.
    pub(super) fn builder(&self) -> ListenerBuilder {
        let builder = Listener::builder(&*self.url()).channels(["a"]);
        builder.backoff(BACKOFF.0, BACKOFF.1).heartbeat(QUIET, QUIET)
    }

    /// When each client came.
    pub(super) fn accepted(&self) -> Vec<Instant> {
        self.visits.lock().unwrap().accepted.clone()
    }

    /// How many clients there are.
    pub(super) fn clients(&self) -> usize {
        let visits = self.visits.lock().unwrap();
        visits.accepted.len() - visits.ended
    }

    /// Times from one client to the next.
    pub(super) fn pauses(&self) -> Vec<Duration> {
        self.accepted().windows(2).map(|two| two[1] - two[0]).collect()
    }

    /// Nobody answers any more: whoever calls is refused.
    pub(super) async fn stop(&mut self) {
        assert!(!self.task.is_finished(), "a conversation went wrong");
        self.task.abort();
        let _ = (&mut self.task).await;
        let mut visits = self.visits.lock().unwrap();
        visits.ended = visits.accepted.len();
    }

    /// After the listener was closed: every socket was closed by its owner, and no task is left.
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
                    // What went wrong there must not go unnoticed.
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
        // If it is gone already, so much the better.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Longest that anything here may take, of the clock's time, which may jump: beyond every deadline there is.
const PATIENCE: Duration = Duration::from_secs(1_000);

/// Fails instead of hanging.
pub(super) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come"),
    }
}

/// The payload of the next event, which must be a notification.
pub(super) async fn payload(listener: &mut Listener) -> String {
    match soon("a notification", listener.recv()).await.unwrap() {
        Event::Notification(n) => n.payload().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// The next event, which must be a gap.
pub(super) async fn gap(listener: &mut Listener) -> Gap {
    match soon("a gap", listener.recv()).await.unwrap() {
        Event::Gap(gap) => gap,
        other => panic!("{other:?}"),
    }
}

/// Closes it, within the second that the documentation says.
pub(super) async fn close(listener: Listener) {
    let begin = Instant::now();
    soon("the end", listener.close()).await;
    // The clock rounds up.
    assert!(begin.elapsed() <= Duration::from_millis(1_005), "{:?}", begin.elapsed());
}

/// Logs the states from the next loss to the return.
pub(super) fn watch(handle: ListenerHandle, log: Log) -> JoinHandle<()> {
    tokio::spawn(async move {
        log.add(format!("{:?}", handle.state()));
        for state in [State::Reconnecting, State::Connected] {
            handle.wait_state(state).await.unwrap();
            log.add(format!("{state:?}"));
        }
    })
}
