//! Ends by itself. Tests of a program that listens, without PostgreSQL: a notification, a lost session, a server that refuses.
//!
//! `cargo run --example test_your_code --features testing`
//!
//! In a crate of yours the functions with `check` in their names are tests, with `#[tokio::test]` and
//! `pgbell = { …, features = ["testing"] }` in `[dev-dependencies]`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pgbell::testing::{Answer, Auth, BackendConfig, Server};
use pgbell::{ErrorKind, Event, Listener};

/// The longest wait of a test. It does not make a test that succeeds slower.
const TIMEOUT: Duration = Duration::from_secs(10);

// ---- the code under test ----

/// The price of one article, in cents.
#[derive(Clone, Default)]
struct Price(Arc<AtomicU32>);

/// Keeps the price up to date: from the table at the start and after every loss, and from notifications.
async fn follow(url: String, price: Price) -> Result<(), pgbell::Error> {
    let read = {
        let price = price.clone();
        move |mut connection: pgbell::Connection, _| {
            let price = price.clone();
            async move {
                let rows = connection.query("SELECT cents FROM prices WHERE id = $1", &[Some("7")]);
                let rows = rows.await?;
                let cents = rows.get(0).and_then(|row| row.get(0)).unwrap_or("0");
                price.0.store(cents.parse().map_err(pgbell::Error::other)?, Ordering::Release);
                connection.close().await;
                Ok(())
            }
        }
    };
    let backoff = (Duration::from_millis(1), Duration::from_millis(10));
    let listener = Listener::builder(url).channels(["prices"]).on_live(read);
    let mut listener = listener.backoff(backoff.0, backoff.1).connect().await?;
    loop {
        if let Event::Notification(cents) = listener.recv().await? {
            price
                .0
                .store(cents.payload().parse().map_err(pgbell::Error::other)?, Ordering::Release);
        }
    }
}

// ---- its tests ----

/// A server whose table has the price.
async fn server(cents: &str) -> std::io::Result<Server> {
    let server = Server::start(BackendConfig::new()).await?;
    set_table(&server, cents);
    Ok(server)
}

/// The statement is also prepared, with the same text: the answer serves for both.
fn set_table(server: &Server, cents: &str) {
    let answer = Answer::rows(["cents"]).types([23]).parameter_types([23]).row([cents]);
    server.answer("SELECT cents FROM prices WHERE id = $1", answer);
}

async fn until(price: &Price, cents: u32) -> Result<(), tokio::time::error::Elapsed> {
    let reached = async {
        while price.0.load(Ordering::Acquire) != cents {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(TIMEOUT, reached).await
}

async fn check_that_a_notification_changes_the_price() -> Result<(), Box<dyn Error>> {
    let (server, price) = (server("100").await?, Price::default());
    let program = tokio::spawn(follow(server.url(), price.clone()));
    server.wait_for_listener("prices", TIMEOUT).await?;
    until(&price, 100).await?;
    assert_eq!(server.notify("prices", "120")?, 1, "one session listens");
    until(&price, 120).await?;
    program.abort();
    Ok(())
}

async fn check_that_the_price_is_read_again_after_an_outage() -> Result<(), Box<dyn Error>> {
    let (mut server, price) = (server("100").await?, Price::default());
    let program = tokio::spawn(follow(server.url(), price.clone()));
    until(&price, 100).await?;
    server.halt().await;
    // Changed while no session listens: there is no notification.
    set_table(&server, "80");
    server.resume().await?;
    until(&price, 80).await?;
    program.abort();
    Ok(())
}

async fn check_that_a_refused_login_is_returned() -> Result<(), Box<dyn Error>> {
    let config = BackendConfig::new().auth(Auth::ScramSha256).user("shop", "pencil");
    let server = Server::start(config).await?;
    let url = format!("{}&user=shop&password=pl4nted", server.url());
    let error = follow(url, Price::default()).await.unwrap_err();
    assert_eq!((error.kind(), error.sqlstate()), (ErrorKind::Auth, Some("28P01")));
    Ok(())
}

async fn check_that_a_payload_that_is_no_number_is_an_error() -> Result<(), Box<dyn Error>> {
    let server = server("100").await?;
    let program = tokio::spawn(follow(server.url(), Price::default()));
    server.wait_for_listener("prices", TIMEOUT).await?;
    server.notify("prices", "much")?;
    let error = tokio::time::timeout(TIMEOUT, program).await??.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    Ok(())
}

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    check_that_a_notification_changes_the_price().await?;
    println!("ok: a notification changes the price");
    check_that_the_price_is_read_again_after_an_outage().await?;
    println!("ok: the price is read again after an outage");
    check_that_a_refused_login_is_returned().await?;
    println!("ok: a refused login is returned");
    check_that_a_payload_that_is_no_number_is_an_error().await?;
    println!("ok: a payload that is no number is an error");
    Ok(())
}
