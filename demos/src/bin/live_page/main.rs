//! A page that shows notifications in browsers, with one connection to the database for all of them.
//!
//! `cargo run -p pgbell-demos --bin live_page -- --demo`, or a connection string instead of `--demo`. Then, in SQL:
//! `SELECT pg_notify('live_page', 'lobby:hello')`
//!
//! It prints the address of the page, and ends with Ctrl-C or SIGTERM. There is no login, so it listens only on 127.0.0.1.

mod demo;
mod options;

use std::net::Ipv4Addr;
use std::process::ExitCode;

use pgbell::{Config, Hub};
use pgbell_demos::live_page::serve;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use self::demo::Demo;
use self::options::Options;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
#[allow(clippy::print_stderr)]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("live_page: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[allow(clippy::print_stdout)]
async fn run() -> Result<(), Failure> {
    let options = Options::parse(std::env::args().skip(1))?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    };

    let demo = if options.url.is_none() { Some(Demo::start().await?) } else { None };
    let url = options.url.or_else(|| demo.as_ref().map(Demo::url)).unwrap_or_default();
    // `pg_stat_activity` shows the name.
    let config = url.parse::<Config>()?.set("fallback_application_name", "live_page")?;
    let hub = Hub::connect(config).await?;
    let _writer = match demo {
        Some(demo) => Some(demo.write(hub.handle()).await?),
        None => None,
    };

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port)).await?;
    println!("http://{}/", listener.local_addr()?);
    serve(hub, listener, stop).await;
    println!("closed");
    Ok(())
}
