//! Listens to the channels named on the command line, until it is stopped.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example listen -- orders stock`

use pgbell::{Event, Listener};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), pgbell::Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let channels: Vec<String> = std::env::args().skip(1).collect();
    let mut listener = Listener::connect(url).await?;
    listener.listen_all(channels).await?;
    loop {
        match listener.recv().await? {
            Event::Notification(n) => {
                println!("{} #{} {}", n.channel(), n.process_id(), n.payload().escape_debug());
            }
            // A program that keeps state from notifications reads it again here.
            loss => println!("~ {loss}"),
        }
    }
}
