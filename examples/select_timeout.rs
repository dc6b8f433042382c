//! Ends by itself. Collects batches that end at a deadline, also if notifications arrive all the time.
//!
//! `cargo run --example select_timeout --features testing`
//!
//! A new `timeout` around each `recv` starts again with each notification: under a steady flow it never passes. A deadline that is
//! set once is not moved by what arrives. Dropping the future of `recv` loses nothing, so it can be used in `select!`.

use std::error::Error;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{Event, Listener};
use tokio::time::Instant;

const BATCH_TIME: Duration = Duration::from_millis(100);

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let mut listener = Listener::builder(server.url()).channels(["clicks"]).connect().await?;

    // A notification every 10 ms, until the batches are printed.
    let sender = async {
        let mut clock = tokio::time::interval(BATCH_TIME / 10);
        loop {
            clock.tick().await;
            server.notify("clicks", "1")?;
        }
    };
    tokio::select! {
        sent = sender => sent,
        collected = collect(&mut listener) => collected,
    }?;
    listener.close().await;
    server.stop().await;
    Ok(())
}

/// Prints three batches.
#[allow(clippy::print_stdout)]
async fn collect(listener: &mut Listener) -> Result<(), pgbell::Error> {
    for number in 1..=3 {
        let begin = Instant::now();
        let deadline = tokio::time::sleep_until(begin + BATCH_TIME);
        tokio::pin!(deadline);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = &mut deadline => break,
                event = listener.recv() => match event? {
                    Event::Notification(click) => batch.push(click),
                    loss => println!("some are missing: {loss}"),
                },
            }
        }
        let waited = begin.elapsed();
        println!("batch {number}: {} clicks in {} ms", batch.len(), waited.as_millis());
    }
    Ok(())
}
