//! Runtimes that have made all their allocations.

use std::future::Future;
use std::sync::{Arc, Barrier};

use tokio::runtime::{Builder, Runtime};
use tokio::task::coop;

/// A runtime with this many worker threads, or with none.
pub(crate) fn runtime(workers: usize) -> Runtime {
    let mut builder = match workers {
        0 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.worker_threads(workers.max(1)).enable_all().build().unwrap()
}

/// Runs `work` on a worker, or here if there is none, after every thread of the runtime has made its allocations.
pub(crate) async fn on<T: Send + 'static>(
    workers: usize,
    work: impl Future<Output = T> + Send + 'static,
) -> T {
    if workers == 0 {
        use_up_budgets().await;
        return work.await;
    }
    // They all wait for each other, so each one runs on a thread of its own.
    let barrier = Arc::new(Barrier::new(workers));
    let tasks: Vec<_> = (0..workers)
        .map(|_| {
            let barrier = barrier.clone();
            tokio::spawn(async move {
                barrier.wait();
                use_up_budgets().await;
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    tokio::spawn(work).await.unwrap()
}

/// A thread allocates its list of tasks without budget when the first task has used up its budget.
async fn use_up_budgets() {
    for _ in 0..1_000 {
        coop::consume_budget().await;
    }
}
