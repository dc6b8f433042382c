//! `pgbell listen`: prints notifications on stdout, one record per line, or runs a command for each.

mod args;
mod exec;
mod filter;
mod indent;
mod printer;
mod report;
mod session;
mod template;

use std::io::{self, IsTerminal};
use std::pin::pin;
use std::time::Duration;

use pgbell::{Listener, ListenerBuilder};

pub(crate) use self::args::{Listen, separator};
use self::args::{ListenFormat, QueueSize};
use self::session::Session;
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::output::LAST_WRITE_MAX;
use crate::signals::Signals;
use crate::waiting::Waiting;

/// The time of an attempt to connect after which a line says that it is running.
const SILENT_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Listen, signals: &mut Signals) -> Result<Exit, Failure> {
    check_output(&args)?;
    let config = connect::config(args.server.url.as_deref())?;
    let place = connect::place(&config);
    let waiting = Waiting::default();
    let builder = settings(&args, Listener::builder(config));
    let builder = builder.on_first_connect_retry(move |error, _| waiting.failed(error));
    let mut connecting = pin!(builder.connect());
    let mut silence = pin!(tokio::time::sleep(SILENT_MAX));
    let mut is_waiting = false;
    let mut listener = loop {
        tokio::select! {
            exit = signals.recv() => return Ok(exit),
            connected = &mut connecting => {
                break connected.map_err(|error| Failure::connecting(&error))?;
            }
            () = &mut silence, if !is_waiting && !args.quiet => {
                is_waiting = true;
                console::line(&format!("connecting to {place}"));
            }
        }
    };
    if !args.quiet {
        console::line(&format!("listening to {} on {place}", args.channels.join(", ")));
    }
    let mut session = Session::new(&args);
    let ended = session.run(&mut listener, signals).await;
    // Before the summary, which counts what was written.
    let written = tokio::time::timeout(LAST_WRITE_MAX, session.output.flush()).await;
    if !args.quiet {
        console::line(&session.summary());
    }
    let exit = ended?;
    if let Ok(Err(failure)) = written {
        return Err(failure);
    }
    listener.close().await;
    Ok(exit)
}

fn settings(args: &Listen, mut builder: ListenerBuilder) -> ListenerBuilder {
    builder = builder.channels(&args.channels).reconnect(!args.no_reconnect);
    builder = builder.retry_first_connect(args.retry_first.unwrap_or_default());
    if let Some((min, max)) = args.backoff {
        builder = builder.backoff(min, max);
    }
    if let Some(overflow) = args.overflow {
        builder = builder.overflow(overflow);
    }
    match args.queue {
        Some(QueueSize::Notifications(number)) => builder.queue_capacity(number),
        Some(QueueSize::Bytes(number)) => builder.queue_bytes(number),
        None => builder,
    }
}

/// Refuses formats on a terminal in which a payload could control it.
fn check_output(args: &Listen) -> Result<(), Failure> {
    let is_raw = matches!(args.format, ListenFormat::Raw | ListenFormat::Nul);
    if !is_raw || args.exec.is_some() || !io::stdout().is_terminal() {
        return Ok(());
    }
    let message = "a payload could control the terminal in this format";
    let failure = Failure::new(Exit::Usage, message);
    Err(failure.with_hint("use --payload-only, or write the output to a file or a pipe"))
}
