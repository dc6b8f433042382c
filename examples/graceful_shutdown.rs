//! Ends by itself, on Unix. Handles everything that was committed before SIGTERM, and then ends.
//!
//! `cargo run --example graceful_shutdown --features testing`
//!
//! `drain` stops listening and waits until what was committed before is in the queue. The consumer receives in another task meanwhile,
//! until the queue is empty and `recv` returns an error of the kind `Closed`. Here the program sends SIGTERM to itself, in place of systemd or
//! Kubernetes.

#[cfg(unix)]
#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    use std::time::Duration;

    use pgbell::testing::{BackendConfig, Server};
    use pgbell::{ErrorKind, Event, Listener, Notifier};
    use tokio::signal::unix::{SignalKind, signal};

    // Before the first work: without a handler, SIGTERM ends the process at once.
    let mut sigterm = signal(SignalKind::terminate())?;
    let server = Server::start(BackendConfig::new()).await?;
    let mut listener = Listener::builder(server.url()).channels(["jobs"]).connect().await?;
    let handle = listener.handle();

    let mut worker = tokio::spawn(async move {
        let mut done = 0;
        loop {
            match listener.recv().await {
                Ok(Event::Notification(_)) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    done += 1;
                }
                Ok(loss) => println!("read the jobs again at the next start: {loss}"),
                Err(error) if error.kind() == ErrorKind::Closed => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    });

    let notifier = Notifier::connect(server.url()).await?;
    notifier.notify_many((1..=100).map(|job| ("jobs", job.to_string()))).await?;
    let pid = std::process::id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status()?;

    tokio::select! {
        _ = sigterm.recv() => println!("SIGTERM"),
        // The worker ends before only after an error.
        ended = &mut worker => return Err(ended?.err().map_or("the worker has ended".into(), Into::into)),
    }
    // Shorter than the time after which the process is killed: 30 s in Kubernetes, 90 s in systemd.
    handle.drain(Duration::from_secs(20)).await?;
    let done: u32 = worker.await??;
    let stats = handle.stats();
    println!("{done} jobs done, {} gaps, {} dropped", stats.gaps, stats.dropped);
    notifier.close().await;
    server.stop().await;
    Ok(())
}

#[cfg(not(unix))]
fn main() {}
