//! `pgbell listen`: prints notifications on stdout, one record per line.

use std::future::{pending, ready};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use pgbell::{Batch, Listener, Loss, State};

use crate::args::{Format, Listen};
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{counted, grouped, seconds};
use crate::outage;
use crate::output::{LAST_WRITE_MAX, Output, Reader};
use crate::record;
use crate::signals::Signals;
use crate::waiting::Waiting;

/// The time of an attempt to connect after which a line says that it is running.
const SILENT_MAX: Duration = Duration::from_secs(1);

pub(crate) async fn run(args: Listen, signals: &mut Signals) -> Result<Exit, Failure> {
    let config = connect::config(args.server.url.as_deref())?;
    let place = connect::place(&config);
    let builder = Listener::builder(config).channels(args.channels.clone());
    let retry = args.retry_connect.unwrap_or_default();
    let waiting = Waiting::default();
    let builder = builder.reconnect(!args.no_reconnect).retry_first_connect(retry);
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
    let counted_out = matches!(ended, Ok(Exit::Ok));
    if !args.quiet && !counted_out {
        console::line(&session.summary());
    }
    let exit = ended?;
    if let Ok(Err(failure)) = written {
        return Err(failure);
    }
    listener.close().await;
    Ok(exit)
}

struct Session<'a> {
    args: &'a Listen,
    output: Output,
    since: Instant,
    received: u64,
    gaps: u64,
    lagged: u64,
    /// Whether losses are printed on stderr too. If stdout and stderr are the same terminal, the record is enough.
    reports_losses: bool,
}

/// What has happened next.
enum Step {
    Arrived,
    Idle,
    End(Exit),
    /// Stopped by a signal, with its exit code, or by the deadline.
    Stopped(Option<Exit>),
}

impl<'a> Session<'a> {
    fn new(args: &'a Listen) -> Self {
        Self {
            args,
            output: Output::new(),
            since: Instant::now(),
            received: 0,
            gaps: 0,
            lagged: 0,
            reports_losses: !console::shows_records() || args.format == Format::Json,
        }
    }

    /// Prints records until the end. Records that are not written yet stay in the output.
    async fn run(
        &mut self,
        listener: &mut Listener,
        signals: &mut Signals,
    ) -> Result<Exit, Failure> {
        let wait = self.args.wait;
        let deadline = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => pending().await,
            }
        };
        let outages = outage::report(listener.handle());
        tokio::pin!(deadline, outages);
        loop {
            let idle = !self.output.is_empty();
            let step = tokio::select! {
                biased;
                exit = signals.recv() => Step::Stopped(Some(exit)),
                () = &mut deadline => Step::Stopped(None),
                // Before the batch, so that these lines come before the gap.
                never = &mut outages => match never {},
                batch = listener.recv_batch_max(self.wanted()) => {
                    self.take(batch.map_err(|error| Failure::running(&error))?)
                }
                // Nothing more is available: write the output before waiting.
                () = ready(()), if idle => Step::Idle,
                () = self.output.reader_gone(), if !idle => Step::End(Exit::Ok),
            };
            match step {
                Step::End(exit) => return Ok(exit),
                Step::Stopped(signal) => return Ok(self.stopped(listener, signal).await),
                Step::Arrived if !self.output.is_full() => continue,
                Step::Arrived | Step::Idle => {}
            }
            let reader = tokio::select! {
                biased;
                exit = signals.recv() => return Ok(self.stopped(listener, Some(exit)).await),
                never = &mut outages => match never {},
                written = self.output.flush() => written?,
            };
            if reader == Reader::Gone {
                return Ok(Exit::Ok);
            }
        }
    }

    async fn stopped(&mut self, listener: &mut Listener, signal: Option<Exit>) -> Exit {
        if let Some(exit) = self.take_last_losses(listener).await {
            return exit;
        }
        signal.unwrap_or_else(|| self.exit_at_deadline())
    }

    /// Takes the gap that the end of the listener reports if the session is lost and not replaced. Returns the exit code if
    /// a last batch decides it.
    async fn take_last_losses(&mut self, listener: &mut Listener) -> Option<Exit> {
        if listener.state() != State::Reconnecting {
            return None;
        }
        let last = async {
            listener.handle().close().await;
            while let Ok(batch) = listener.recv_batch_max(self.wanted()).await {
                if let Step::End(exit) = self.take(batch) {
                    return Some(exit);
                }
            }
            None
        };
        tokio::time::timeout(LAST_WRITE_MAX, last).await.unwrap_or(None)
    }

    /// Returns the largest number of notifications of the next batch.
    fn wanted(&self) -> usize {
        let left = self.args.count.map(|count| count.saturating_sub(self.received));
        left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn exit_at_deadline(&self) -> Exit {
        if self.args.count.is_none() && self.received > 0 { Exit::Ok } else { Exit::Timeout }
    }

    fn take(&mut self, batch: Batch<'_>) -> Step {
        let format = self.args.format;
        if let Some(loss) = batch.loss() {
            self.count(loss);
            record::push_loss(loss, SystemTime::now(), format, self.output.buffer());
            if self.reports_losses {
                console::line(&format!("pgbell: {}", record::describe(loss)));
            }
            if self.args.fail_on_loss {
                return Step::End(Exit::Loss);
            }
        }
        record::push_batch(&batch, format, self.output.buffer());
        self.received = self.received.saturating_add(batch.len() as u64);
        match self.args.count {
            Some(count) if self.received >= count => Step::End(Exit::Ok),
            _ => Step::Arrived,
        }
    }

    fn count(&mut self, loss: &Loss) {
        match loss {
            Loss::Lagged(lagged) => self.lagged = self.lagged.saturating_add(lagged.count()),
            _ => self.gaps = self.gaps.saturating_add(1),
        }
    }

    fn summary(&self) -> String {
        format!(
            "received {} in {}, {}, {} lagged",
            grouped(self.received),
            seconds(self.since.elapsed()),
            counted(self.gaps, "gap", "gaps"),
            grouped(self.lagged)
        )
    }
}
