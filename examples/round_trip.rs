//! Ends by itself. Sends a thousand notifications in one transaction, and receives them.
//!
//! `DATABASE_URL=postgres://localhost/shop cargo run --example round_trip`

use pgbell::{Connection, Notifier};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), pgbell::Error> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let mut connection = Connection::connect(&url).await?;
    connection.listen("round_trip").await?;

    let notifier = Notifier::connect(&url).await?;
    let sent = notifier.notify_many((0..1_000).map(|n| ("round_trip", n.to_string()))).await?;

    let (mut received, mut bytes) = (0, 0);
    while received < sent {
        let batch = connection.recv_batch().await?;
        if let Some(loss) = batch.loss() {
            println!("lost: {loss}");
            break;
        }
        received += batch.len() as u64;
        bytes += batch.iter().map(|n| n.payload_bytes().len()).sum::<usize>();
    }
    println!("sent {sent}, received {received}, {bytes} bytes of payload");
    notifier.close().await;
    connection.close().await;
    Ok(())
}
