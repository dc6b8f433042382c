//! Ends by itself. One task receives, and others listen, stop listening and read the statistics meanwhile.
//!
//! `cargo run --example split_tasks --features testing`
//!
//! The methods that receive need `&mut Listener`. Everything else is on a `ListenerHandle`, which can be cloned and sent to any task.

use std::error::Error;
use std::time::Duration;

use pgbell::testing::{BackendConfig, Server};
use pgbell::{ErrorKind, Event, Listener, ListenerHandle};

/// What a request of a client would do: it listens to a room, and leaves it again.
async fn visit(handle: ListenerHandle, room: &str, server: &Server) -> Result<(), Box<dyn Error>> {
    // Returns when the server has committed the LISTEN: what is sent from now on arrives.
    handle.listen(room).await?;
    server.notify(room, "hello")?;
    // Returns when the server has committed the UNLISTEN: what is sent from now on does not arrive.
    handle.unlisten(room).await?;
    server.notify(room, "is there anyone?")?;
    Ok(())
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Server::start(BackendConfig::new()).await?;
    let mut listener = Listener::connect(server.url()).await?;
    let handle = listener.handle();

    let receiver = tokio::spawn(async move {
        loop {
            match listener.recv().await {
                Ok(Event::Notification(n)) => println!("{}: {}", n.channel(), n.payload()),
                Ok(loss) => println!("some are missing: {loss}"),
                Err(error) if error.kind() == ErrorKind::Closed => return,
                Err(error) => return println!("{error:#}"),
            }
        }
    });

    let kitchen = visit(handle.clone(), "kitchen", &server);
    let hall = visit(handle.clone(), "hall", &server);
    tokio::try_join!(kitchen, hall)?;

    // What was sent before is delivered, and then the receiver ends.
    handle.drain(Duration::from_secs(10)).await?;
    receiver.await?;
    println!("{} received, {} delivered", handle.stats().received, handle.stats().delivered);
    server.stop().await;
    Ok(())
}
