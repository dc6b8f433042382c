//! `pgbell demo`: starts a server, a listener and a writer, and checks that everything that was sent arrived.

mod receiver;
mod report;
mod server;
mod tally;
mod writer;

use std::io::{self, Write};
use std::time::Instant;

use pgbell::Listener;
use tokio::task::JoinSet;

use crate::args::{Demo, DemoServer};
use crate::console;
use crate::exit::{Exit, Failure};
use crate::json;
use crate::numbers::grouped;
use crate::palette::{Color, Palette};
use crate::record::push_visible;
use crate::signals::Signals;
use receiver::Receiver;
use report::Report;
use server::Server;
use writer::Writer;

/// The largest number of notifications that are sent one by one, each after the one before has arrived. They measure
/// the latency of a listener that is not busy.
const SINGLES_MAX: u64 = 1_000;

/// The number of notifications in one transaction, for the rate.
const BATCH: u64 = 500;

/// The width of the labels.
const LABEL: usize = 11;

pub(crate) async fn run(args: Demo, signals: &mut Signals) -> Result<Exit, Failure> {
    if !args.json {
        // A server takes some seconds to start.
        say(match (args.target.is_some() || args.url.is_some(), args.server) {
            (true, _) => "starting   connecting to the server of the URL",
            (false, DemoServer::Loopback) => "starting   the loopback backend",
            (false, _) => "starting   a temporary PostgreSQL server, which is removed at the end",
        });
    }
    // If the program ends while a server starts, the guard of the server removes it.
    let server = tokio::select! {
        exit = signals.recv() => return Ok(exit),
        server = Server::start(&args) => server?,
    };
    let ended = tokio::select! {
        biased;
        exit = signals.recv() => Ok(exit),
        ended = show(&args, &server) => ended,
    };
    server.stop().await;
    ended
}

/// What is sent, how, and on which channels.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Sequence numbers run from 1 to this.
    count: u64,
    /// The number of notifications at the beginning that are sent one by one.
    singles: u64,
    channel: String,
    /// The channel of the notification that marks the end.
    end: String,
    /// The instant from which the stamps in the payloads count, in nanoseconds.
    origin: Instant,
}

impl Plan {
    /// Makes a plan with channels of its own. `process_id` is that of the writer: it is unique among the sessions of a server.
    fn new(count: u64, process_id: i32) -> Self {
        Self {
            count,
            singles: count.div_ceil(5).min(SINGLES_MAX),
            channel: format!("pgbell_demo_{process_id}"),
            end: format!("pgbell_demo_{process_id}_end"),
            origin: Instant::now(),
        }
    }

    /// Returns the nanoseconds since the origin, on the monotonic clock.
    fn stamp(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

async fn show(args: &Demo, server: &Server) -> Result<Exit, Failure> {
    let config = server.config()?;
    let (writer, session) = Writer::connect(server).await?;
    let plan = Plan::new(args.count, session.process_id);
    let listener = Listener::builder(config).channels([&plan.channel, &plan.end]).connect();
    let listener = listener.await.map_err(|error| Failure::connecting(&error))?;
    let name = server.name(session.version.as_deref());
    if !args.json {
        say(&format!("server     {name}, {}", server.origin()));
        say(&format!("listening  to {}, sending {}", plan.channel, grouped(plan.count)));
    }

    let mut receiver = Receiver::new(listener, plan.clone(), !args.json)?;
    // Aborted when this is dropped.
    let mut writing = JoinSet::new();
    writing.spawn(writer.run(plan.clone(), receiver.watch()));
    let sent = receiver.run(&mut writing).await?;
    let received = receiver.close().await;
    let report = Report::new(name, session, &plan, &sent.count(server, &plan), &received);

    if args.json {
        print_json(&report)?;
    } else {
        report.lines().iter().for_each(|line| say(line));
        if report.is_good() {
            NEXT.iter().for_each(|line| say(line));
        }
    }
    if report.is_good() {
        return Ok(Exit::Ok);
    }
    console::line("pgbell: not everything that was sent arrived once and in order");
    Ok(Exit::Loss)
}

/// What can be tried after the demo.
const NEXT: [&str; 3] = [
    "try next   pgbell listen orders --url postgres://…, and in another terminal",
    "           pgbell notify orders '{\"id\":1}' --url postgres://…",
    "           pgbell listen --help: templates, filters, a command for each notification",
];

/// Prints a line of the demo, which begins with a label. Text of a server in it is escaped. A closed stdout is no error.
fn say(line: &str) {
    let palette = Palette::new(Color::Auto);
    let (label, rest) = line.split_at_checked(LABEL).unwrap_or((line, ""));
    let color = if label.starts_with("result") { palette.good } else { palette.faint };
    let mut text = Vec::with_capacity(line.len() + 1);
    text.extend_from_slice(color.as_bytes());
    push_visible(label, &mut text);
    text.extend_from_slice(palette.end.as_bytes());
    push_visible(rest, &mut text);
    text.push(b'\n');
    let _ = io::stdout().lock().write_all(&text);
}

fn print_json(report: &Report) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(Exit::Runtime, format!("cannot write to stdout: {error}"));
    let mut text = Vec::new();
    json::write(report, &mut text).map_err(|error| failed(error.into()))?;
    text.push(b'\n');
    match io::stdout().lock().write_all(&text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(failed(error)),
        _ => Ok(()),
    }
}
