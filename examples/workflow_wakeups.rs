//! Ends by itself. The workers of a workflow engine, on a server inside the program: no PostgreSQL is needed.
//!
//! `cargo run --example workflow_wakeups --features testing,tracing`
//!
//! | Romancy | pgbell |
//! |---|---|
//! | `WithListenNotify(nil)`, `true`, `false` | `Listen::Automatic`, `Enabled`, `Disabled` |
//! | `WithNotifyFallbackInterval(30 * time.Second)` | `WakeTask::interval`, for each task |
//! | `WithNotifyReconnectDelay(60 * time.Second)` | `WakeupsBuilder::backoff(min, max)` |
//! | `WithMaxWorkflowsPerBatch(100)` | `WakeTask::batch_size` |
//! | the log lines "configured", "connection established", "connection lost, reconnecting" | the events of the feature `tracing` |
//! | fallback polling | the intervals, which go on while the session is lost |
//!
//! Four channels wake the workers of four tasks, each with its own interval and batch size. A notification only says that there is work: what is
//! to be done is in tables, which are vectors here. So a notification that is missing costs an interval, and no work.

use std::collections::VecDeque;
use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{Listen, Notifier, Wake, WakeTask, WakeWorker, Wakeups};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The rows of a table that are not done. In PostgreSQL: `SELECT … FOR UPDATE SKIP LOCKED LIMIT $1`.
#[derive(Clone, Default)]
struct Table(Arc<Mutex<VecDeque<String>>>);

impl Table {
    fn insert(&self, row: impl Into<String>) {
        self.0.lock().unwrap().push_back(row.into());
    }

    fn claim(&self, limit: usize) -> Vec<String> {
        let mut rows = self.0.lock().unwrap();
        let count = rows.len().min(limit);
        rows.drain(..count).collect()
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

type Handler = fn(&str) -> String;

/// The worker of one task: at every wake-up it claims a batch, and calls its handler for each row.
#[allow(clippy::print_stdout)]
async fn work(worker: WakeWorker, table: Table, handler: Handler) {
    while let Ok(wake) = worker.wake().await {
        if let Wake::Resync(gap) = &wake {
            println!("{}: read again: {gap}", worker.name());
        }
        let rows = table.claim(worker.batch_size());
        // Before the rows are handled: if there may be more, another worker is woken meanwhile.
        worker.found(rows.len());
        if !rows.is_empty() {
            println!("{}: batch of {}", worker.name(), rows.len());
        }
        for row in rows {
            println!("{}: {}", worker.name(), handler(&row));
        }
    }
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    // What is configured, established, lost and opened again, with errors and delays.
    #[cfg(feature = "tracing")]
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();

    let mut server = Server::start(BackendConfig::new()).await?;
    let wakeups = Wakeups::builder(server.url())
        .task(
            WakeTask::new("workflows")
                .channel("workflow_resumable")
                .interval(Duration::from_secs(1))
                .batch_size(3),
        )
        .task(WakeTask::new("timers").channel("timer_expired").interval(Duration::from_secs(1)))
        .task(WakeTask::new("messages").channel("channel_message").interval(Duration::from_secs(5)))
        .task(WakeTask::new("outbox").channel("outbox_pending"))
        .backoff(Duration::from_millis(10), Duration::from_secs(1))
        .listen(Listen::Automatic)
        .connect()
        .await?;
    println!("status: {}", wakeups.status());

    let tables: [Table; 4] = Default::default();
    let [workflows, timers, messages, outbox] = &tables;
    let handlers: [(&str, &Table, Handler); 4] = [
        ("workflows", workflows, |row| format!("{row} resumes")),
        ("timers", timers, |row| format!("{row} has expired")),
        ("messages", messages, |row| format!("{row} is delivered")),
        ("outbox", outbox, |row| format!("{row} is relayed")),
    ];
    let mut workers = Vec::new();
    for (name, table, handler) in handlers {
        let worker = wakeups.worker(name)?;
        workers.push(tokio::spawn(work(worker, table.clone(), handler)));
    }

    until(|| wakeups.stats().tasks.iter().all(|(_, task)| task.polls > 0)).await?;

    // With a notification each: several may be one wake-up, and a batch has at most three.
    let notifier = Notifier::connect(server.url()).await?;
    for number in 1..=7 {
        workflows.insert(format!("wf_{number}"));
    }
    notifier.notify("workflow_resumable", r#"{"instance_id": "wf_1"}"#).await?;
    messages.insert("message 42");
    notifier.notify("channel_message", r#"{"channel_name": "orders", "message_id": 42}"#).await?;
    outbox.insert("evt_123");
    notifier.notify("outbox_pending", r#"{"event_id": "evt_123"}"#).await?;
    until(|| tables.iter().all(Table::is_empty)).await?;

    // Without a notification: the interval finds it.
    timers.insert("timer:sleep_1");
    until(|| timers.is_empty()).await?;

    // While the server is down the intervals go on. When it is back, everything is read again.
    server.halt().await;
    until(|| !wakeups.status().is_listening()).await?;
    println!("status: {}", wakeups.status());
    timers.insert("timer:sleep_2");
    until(|| timers.is_empty()).await?;
    outbox.insert("evt_124");
    server.resume().await?;
    until(|| outbox.is_empty() && wakeups.status().is_listening()).await?;
    println!("status: {}", wakeups.status());

    until(|| wakeups.stats().tasks.iter().all(|(_, task)| task.resyncs > 0)).await?;
    let stats = wakeups.stats();
    wakeups.close().await;
    for worker in workers {
        worker.await?;
    }
    for (name, task) in &stats.tasks {
        println!("end: {name}: {} notifications, {} losses", task.notifications, task.resyncs);
    }
    server.stop().await;
    Ok(())
}

/// Waits for a condition.
async fn until(is_so: impl Fn() -> bool) -> Result<(), tokio::time::error::Elapsed> {
    tokio::time::timeout(TIMEOUT, async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
}
