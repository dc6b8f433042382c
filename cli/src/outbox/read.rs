//! `pgbell outbox read`: prints the records of a cursor on stdout, one per line.

use std::convert::Infallible;
use std::future::pending;
use std::time::{Duration, SystemTime};

use pgbell::durable::{Batch, Cursor, CursorHandle, CursorWait, Outbox};
use pgbell::{Error, ErrorKind};
use tokio::time::{sleep, timeout};

use super::args::Read;
use super::manage::{no_cursor, number, refused};
use super::record;
use crate::args::Format;
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::age;
use crate::output::{LAST_WRITE_MAX, Output, Reader};
use crate::signals::Signals;

/// The highest number of records that are received together.
const PAGE_RECORDS: u64 = 1_000;

/// The time between two extensions of the lease while the reader of the output is slow. The lease is 30 s.
const RENEW_INTERVAL: Duration = Duration::from_secs(10);

/// How often is looked whether the session was lost.
const OUTAGE_INTERVAL: Duration = Duration::from_secs(1);

/// The longest time for the end of the lease when the program ends.
const CLOSE_MAX: Duration = Duration::from_secs(2);

pub(super) async fn run(args: Read, signals: &mut Signals) -> Result<Exit, Failure> {
    let log = args.log.open()?;
    let mut deadline = std::pin::pin!(async {
        match args.wait {
            Some(wait) => sleep(wait).await,
            None => pending().await,
        }
    });
    let mut cursor = tokio::select! {
        exit = signals.recv() => return Ok(exit),
        () = &mut deadline => return Ok(Exit::Timeout),
        opened = open(&args, &log) => opened?,
    };
    let outages =
        Outages { handle: cursor.handle(), is_quiet: args.quiet, retries: 0, is_shown: false };
    let mut printer = Printer { args: &args, output: Output::new(), received: 0, outages };
    let ended = printer.run(&mut cursor, signals, deadline).await;
    // If it takes longer, the lease ends by itself.
    let _ = timeout(CLOSE_MAX, cursor.close()).await;
    ended
}

async fn open(args: &Read, log: &Outbox) -> Result<Cursor, Failure> {
    let found = log.status().await.map_err(refused)?;
    let cursor = found.cursors.iter().find(|cursor| cursor.name == args.cursor);
    if cursor.is_none() && args.from.is_none() {
        let hint = "--from creates it: beginning, now, a time, or a duration ago";
        let failure = Failure::new(Exit::Check, no_cursor(log.name(), &args.cursor));
        return Err(failure.with_hint(hint));
    }
    if let Some(left) = cursor.and_then(|cursor| cursor.lease_left)
        && !args.take_over
        && !args.quiet
    {
        let reader = cursor.and_then(|cursor| cursor.reader.as_deref()).unwrap_or("another reader");
        let (name, left) = (&args.cursor, age(left));
        console::line(&format!(
            "waiting for the cursor {name}: {reader} has it, with a lease of {left}"
        ));
    }
    let mut builder = log.cursor(&args.cursor).start(args.from.unwrap_or_default());
    builder = builder.reader(format!("pgbell outbox read, process {}", std::process::id()));
    if args.take_over {
        builder = builder.take_over();
    }
    if !args.quiet {
        let name = args.cursor.clone();
        builder = builder.on_wait(move |wait| {
            // The other reader has its own line, with its name.
            if wait != CursorWait::OtherReader {
                console::line(&format!("waiting for the cursor {name}: {wait}"));
            }
        });
    }
    let cursor = builder.open().await.map_err(refused)?;
    if args.follow && !args.quiet {
        let place = connect::place(&connect::config(args.log.server.url.as_deref())?);
        console::line(&format!("reading {} of {} on {place}", args.cursor, log.name()));
    }
    Ok(cursor)
}

struct Printer<'a> {
    args: &'a Read,
    output: Output,
    received: u64,
    outages: Outages,
}

/// Prints when calls of the server begin to fail, and when they succeed again.
struct Outages {
    handle: CursorHandle,
    is_quiet: bool,
    /// Those that were printed, or before the last look.
    retries: u64,
    /// An outage was printed, and not its end.
    is_shown: bool,
}

impl Outages {
    async fn show_always(&mut self) -> Infallible {
        loop {
            sleep(OUTAGE_INTERVAL).await;
            self.show();
        }
    }

    fn show(&mut self) {
        let (is_retrying, retries) = (self.handle.is_retrying(), self.handle.stats().retries);
        let line = match self.handle.last_error() {
            Some(error) if is_retrying && !self.is_shown => format!("tries again after: {error:#}"),
            _ if !is_retrying && self.is_shown => "the server answers again".to_owned(),
            Some(error) if retries > self.retries && !self.is_shown => {
                format!("the last call was made again, after: {error:#}")
            }
            _ => String::new(),
        };
        if !line.is_empty() && !self.is_quiet {
            console::line(&format!("pgbell: {line}"));
        }
        (self.is_shown, self.retries) = (is_retrying, retries);
    }
}

/// How the write of a batch ended.
enum Written {
    All,
    /// All of it, and a signal has arrived.
    Stopped(Exit),
    /// Not all of it.
    Ended(Exit),
}

impl Printer<'_> {
    async fn run(
        &mut self,
        cursor: &mut Cursor,
        signals: &mut Signals,
        mut deadline: impl Future<Output = ()> + Unpin,
    ) -> Result<Exit, Failure> {
        loop {
            cursor.set_page_size(usize::try_from(self.wanted()).unwrap_or(usize::MAX));
            self.outages.show();
            let batch = tokio::select! {
                biased;
                exit = signals.recv() => return Ok(exit),
                () = &mut deadline => return Ok(self.exit_at_deadline()),
                () = self.output.reader_gone() => return Ok(Exit::Ok),
                never = self.outages.show_always() => match never {},
                batch = next(cursor, self.args.follow) => batch.map_err(refused)?,
            };
            let Some(batch) = batch else { return Ok(Exit::Ok) };
            if let Some(exit) = self.take(batch, signals).await? {
                return Ok(exit);
            }
        }
    }

    /// Returns the highest number of records of the next batch.
    fn wanted(&self) -> u64 {
        let left = self.args.count.map(|count| count.saturating_sub(self.received));
        match left {
            // The only batch.
            Some(left) if !self.args.ack => left,
            Some(left) => left.min(PAGE_RECORDS),
            None => PAGE_RECORDS,
        }
    }

    fn exit_at_deadline(&self) -> Exit {
        if self.args.count.is_none() && self.received > 0 { Exit::Ok } else { Exit::Timeout }
    }

    /// Writes a batch, and acknowledges it then. Returns the exit code, if the program ends.
    async fn take(
        &mut self,
        mut batch: Batch<'_>,
        signals: &mut Signals,
    ) -> Result<Option<Exit>, Failure> {
        let Read { format, ack, count, fail_on_loss, .. } = *self.args;
        if let Some(gap) = batch.gap() {
            record::push_gap(gap, SystemTime::now(), format, self.output.buffer());
            if !console::shows_records() || format == Format::Json {
                console::line(&format!("pgbell: {}", record::describe(gap)));
            }
            if fail_on_loss {
                let ended = self.write(&mut batch, signals).await?;
                return Ok(Some(match ended {
                    Written::All => Exit::Loss,
                    Written::Stopped(exit) | Written::Ended(exit) => exit,
                }));
            }
        }
        for record in batch.iter() {
            record::push(&record, format, self.output.buffer());
        }
        let is_full = number(batch.len()) >= self.wanted();
        self.received = self.received.saturating_add(number(batch.len()));
        let stopped = match self.write(&mut batch, signals).await? {
            Written::All => None,
            Written::Stopped(exit) => Some(exit),
            Written::Ended(exit) => return Ok(Some(exit)),
        };
        if !ack {
            if is_full && count.is_none() && !self.args.quiet {
                console::line("there may be more records: add --ack, or a larger --count");
            }
            return Ok(Some(stopped.unwrap_or(Exit::Ok)));
        }
        let acked = async {
            match stopped {
                Some(_) => timeout(CLOSE_MAX, batch.ack()).await.unwrap_or(Ok(())),
                None => batch.ack().await,
            }
        };
        tokio::select! {
            biased;
            acked = acked => acked.map_err(refused)?,
            never = self.outages.show_always() => match never {},
            // It may be acknowledged.
            exit = signals.recv() => return Ok(Some(exit)),
        }
        let is_last = count.is_some_and(|count| self.received >= count);
        Ok(stopped.or(is_last.then_some(Exit::Ok)))
    }

    /// Writes the output, and extends the lease if that takes long.
    async fn write(
        &mut self,
        batch: &mut Batch<'_>,
        signals: &mut Signals,
    ) -> Result<Written, Failure> {
        loop {
            tokio::select! {
                biased;
                written = self.output.flush() => return written.map(|reader| match reader {
                    Reader::There => Written::All,
                    Reader::Gone => Written::Ended(Exit::Ok),
                }),
                exit = signals.recv() => {
                    return match timeout(LAST_WRITE_MAX, self.output.flush()).await {
                        Ok(Ok(Reader::There)) => Ok(Written::Stopped(exit)),
                        Ok(Err(failure)) => Err(failure),
                        Ok(Ok(Reader::Gone)) | Err(_) => Ok(Written::Ended(exit)),
                    };
                }
                renewed = async { sleep(RENEW_INTERVAL).await; batch.renew().await } => match renewed {
                    Err(error) if error.kind() == ErrorKind::Fenced => return Err(refused(error)),
                    // If it cannot be renewed, the acknowledgement decides.
                    _ => {}
                },
            }
        }
    }
}

async fn next(cursor: &mut Cursor, waits: bool) -> Result<Option<Batch<'_>>, Error> {
    if waits { cursor.next().await.map(Some) } else { cursor.try_next().await }
}
