//! Ends by itself. Threads without async, on a server inside the program: no PostgreSQL is needed.
//!
//! `cargo run --example blocking --features blocking,testing`
//!
//! One thread keeps the stock of a shop in memory: it reads all of it at the start and after every loss, and one article for each
//! notification. The main thread sells, and waits for news for a while at a time.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use pgbell::blocking::{Connection, Listener, Notifier};
use pgbell::testing::{Answer, BackendConfig, Server};
use pgbell::{Event, Live};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The table of the server inside the program.
type Table = Arc<Mutex<BTreeMap<String, String>>>;

/// In PostgreSQL these are queries of a table.
fn answer_from(table: Table) -> impl FnMut(&pgbell::testing::Query<'_>) -> Option<Answer> + Send {
    move |query| {
        let answer = Answer::rows(["article", "count"]);
        let table = table.lock().ok()?;
        match (query.sql(), query.parameters()) {
            ("SELECT article, count FROM stock", _) => Some(
                table
                    .iter()
                    .fold(answer, |answer, (article, count)| answer.row([&**article, count])),
            ),
            ("SELECT article, count FROM stock WHERE article = $1", [Some(article)]) => {
                Some(answer.row([article.as_str(), table.get(article)?.as_str()]))
            }
            (sql, _) if sql.starts_with("SELECT article, count FROM stock") => Some(answer),
            _ => None,
        }
    }
}

/// Prints each change, until the listener is closed.
#[allow(clippy::print_stdout)]
fn keep_stock(
    listener: Listener,
    url: &str,
    events: &mpsc::Sender<()>,
) -> Result<(), pgbell::Error> {
    let mut connection = Connection::connect(url)?;
    for event in listener {
        match event? {
            Event::Notification(n) => {
                let sql = "SELECT article, count FROM stock WHERE article = $1";
                let rows = connection.query(sql, &[Some(n.payload())])?;
                let count = rows.get(0).and_then(|row| row.get(1)).unwrap_or("none");
                println!("stock: {count} of {}", n.payload());
            }
            // The hook has read everything again.
            _loss => println!("stock: a loss"),
        }
        let _ = events.send(());
    }
    connection.close();
    println!("stock: closed");
    Ok(())
}

#[allow(clippy::print_stdout)]
fn main() -> Result<(), Box<dyn Error>> {
    // Only the server inside the program is asynchronous.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let server = runtime.block_on(Server::start(BackendConfig::new()))?;
    let table = Table::default();
    table.lock().unwrap().extend([("ink", "3"), ("pen", "9")].map(|(a, b)| (a.into(), b.into())));
    server.answer_with(answer_from(table.clone()));
    let url = server.url();

    // The hook runs before anything is delivered, and again before what follows a loss.
    let listener = Listener::builder(&*url)
        .channels(["stock"])
        .backoff(Duration::from_millis(10), Duration::from_secs(1))
        .on_live(|mut connection, live| {
            let rows = connection.simple_query("SELECT article, count FROM stock")?;
            let when = if let Live::AfterGap(_) = live { "after a gap" } else { "at the start" };
            println!("hook: {} articles {when}", rows[0].len());
            connection.close();
            Ok(())
        })
        .connect()?;
    let handle = listener.handle();
    let (events, handled) = mpsc::channel();
    let consumer = {
        let url = url.clone();
        thread::spawn(move || keep_stock(listener, &url, &events))
    };

    let notifier = Notifier::connect(&*url)?;
    table.lock().unwrap().insert("ink".into(), "2".into());
    notifier.notify("stock", "ink")?;
    handled.recv_timeout(TIMEOUT)?;

    // The session is lost: what may be missing is reported, and the hook reads it.
    table.lock().unwrap().insert("cup".into(), "1".into());
    server.kill(handle.process_id().ok_or("no session")?);
    handled.recv_timeout(TIMEOUT)?;
    table.lock().unwrap().insert("pen".into(), "8".into());
    notifier.notify("stock", "pen")?;
    handled.recv_timeout(TIMEOUT)?;

    // A thread that also does something else: it waits for a while at a time.
    let mut other = Listener::builder(&*url).channels(["news"]).connect()?;
    let idle = (0..3)
        .map(|_| other.recv_timeout(Duration::from_millis(5)))
        .collect::<Result<Vec<_>, _>>()?;
    println!(
        "news: nothing in {} of {} waits",
        idle.iter().filter(|one| one.is_none()).count(),
        idle.len()
    );

    // The consumer gets what is queued, and its loop ends.
    handle.close();
    consumer.join().map_err(|_| "the consumer panicked")??;
    println!("end: {} notifications, {} gap", handle.stats().received, handle.stats().gaps);
    // `other` and `notifier` are dropped: their sessions end.
    Ok(())
}
