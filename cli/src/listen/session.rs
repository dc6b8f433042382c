//! [`Session`]: carries notifications from the listener to the output or to commands, until the end.

use std::future::{pending, ready};
use std::time::{Duration, SystemTime};

use pgbell::{Batch, Listener, State, TopicOf};
use tokio::time::{MissedTickBehavior, interval_at, sleep};

use super::args::{Listen, ListenFormat};
use super::exec::Commands;
use super::filter::all_match;
use super::printer::Printer;
use super::report::Report;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::outage;
use crate::output::{LAST_WRITE_MAX, Output, Reader};
use crate::record::{self, Item};
use crate::signals::Signals;

pub(super) struct Session<'a> {
    args: &'a Listen,
    pub(super) output: Output,
    printer: Printer,
    /// Instead of the output.
    commands: Option<Commands>,
    report: Report,
    topics: TopicOf,
    /// Stopped by a signal or the deadline: no command is started, and those that run have a bounded time.
    is_stopped: bool,
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
    pub(super) fn new(args: &'a Listen) -> Self {
        let printer = Printer::new(args);
        let is_record = printer.has_losses() && args.exec.is_none();
        let is_seen = is_record && console::shows_records() && args.format == ListenFormat::Text;
        Self {
            output: Output::new(),
            commands: Commands::new(args),
            report: Report::new(!args.filter.is_empty() || !args.topic.is_empty()),
            topics: TopicOf::Prefix(args.topic_separator),
            is_stopped: false,
            reports_losses: !is_seen,
            printer,
            args,
        }
    }

    /// Prints records until the end. Records that are not written yet stay in the output.
    pub(super) async fn run(
        &mut self,
        listener: &mut Listener,
        signals: &mut Signals,
    ) -> Result<Exit, Failure> {
        let ended = self.carry(listener, signals).await;
        let Some(commands) = &mut self.commands else { return ended };
        // Running commands may end. A signal and the deadline do not wait for them without a limit.
        let is_complete = ended.is_ok() && !self.is_stopped;
        if is_complete {
            tokio::select! {
                biased;
                exit = signals.recv() => {
                    commands.stop().await;
                    return Ok(exit);
                }
                finished = commands.finish() => finished?,
            }
        }
        commands.stop().await;
        ended
    }

    async fn carry(
        &mut self,
        listener: &mut Listener,
        signals: &mut Signals,
    ) -> Result<Exit, Failure> {
        let deadline = at_most(self.args.wait);
        let outages = outage::report(listener.handle());
        let mut stats = self.args.stats.map(|every| {
            let mut ticks = interval_at(tokio::time::Instant::now() + every, every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
            ticks
        });
        tokio::pin!(deadline, outages);
        loop {
            let has_output = !self.output.is_empty();
            let wanted = self.wanted();
            let step = tokio::select! {
                biased;
                exit = signals.recv() => Step::Stopped(Some(exit)),
                () = &mut deadline => Step::Stopped(None),
                // Before the batch, so that these lines come before the gap.
                never = &mut outages => match never {},
                ended = next_command(&mut self.commands) => { ended?; Step::Arrived }
                () = tick(&mut stats) => {
                    console::line(&self.report.line(listener));
                    Step::Arrived
                }
                batch = listener.recv_batch_max(wanted), if wanted > 0 => {
                    self.take(batch.map_err(|error| Failure::running(&error))?)
                }
                // Nothing more is available: write the output before waiting.
                () = ready(()), if has_output => Step::Idle,
                () = self.output.reader_gone(), if !has_output && self.commands.is_none() => Step::End(Exit::Ok),
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
        self.is_stopped = true;
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
            while self.wanted() > 0
                && let Ok(batch) = listener.recv_batch_max(self.wanted()).await
            {
                if let Step::End(exit) = self.take(batch) {
                    return Some(exit);
                }
            }
            None
        };
        tokio::time::timeout(LAST_WRITE_MAX, last).await.unwrap_or(None)
    }

    /// Returns the largest number of notifications of the next batch, zero if no command can be started.
    fn wanted(&self) -> usize {
        let left = self.args.count.map(|count| count.saturating_sub(self.report.chosen));
        let left = left.map_or(usize::MAX, |left| usize::try_from(left).unwrap_or(usize::MAX));
        match &self.commands {
            Some(commands) if !self.is_stopped => left.min(commands.free()),
            _ => left,
        }
    }

    fn exit_at_deadline(&self) -> Exit {
        let is_done = self.args.count.is_none() && self.report.chosen > 0;
        if is_done { Exit::Ok } else { Exit::Timeout }
    }

    fn take(&mut self, batch: Batch<'_>) -> Step {
        if let Some(loss) = batch.loss() {
            self.report.count(loss);
            if self.commands.is_none() {
                self.printer.push_loss(loss, self.output.buffer());
            }
            if self.reports_losses {
                console::line(&format!("pgbell: {}", record::describe(loss)));
            }
            if self.args.fail_on_loss {
                return Step::End(Exit::Loss);
            }
        }
        self.report.received = self.report.received.saturating_add(batch.len() as u64);
        if self.is_stopped && self.commands.is_some() {
            return Step::Arrived;
        }
        // All of a batch were received at the same moment.
        let Some(received_at) = batch.iter().next().map(|first| first.received_at()) else {
            return Step::Arrived;
        };
        let time = self.printer.time(received_at);
        for notification in &batch {
            let whole = Item::new(&notification);
            if let Some((topic, rest)) = self.chosen(whole.payload) {
                let item = Item { payload: rest, topic: topic.as_deref(), ..whole };
                self.put(&item, &time, received_at);
            }
        }
        match self.args.count {
            Some(count) if self.report.chosen >= count => Step::End(Exit::Ok),
            _ => Step::Arrived,
        }
    }

    /// Returns the topic, if one is wanted, and the payload without it. `None` if the notification is not wanted.
    fn chosen<'p>(&self, payload: &'p str) -> Option<(Option<std::borrow::Cow<'p, str>>, &'p str)> {
        let (topic, rest) = match self.args.topic.is_empty() {
            true => (None, payload),
            false => {
                let (topic, rest) = self.topics.split(payload)?;
                let is_wanted = self.args.topic.iter().any(|wanted| *wanted == topic);
                (is_wanted.then_some(topic).map(Some)?, rest)
            }
        };
        all_match(&self.args.filter, rest).then_some((topic, rest))
    }

    fn put(&mut self, item: &Item<'_>, time: &str, received_at: SystemTime) {
        self.report.chosen = self.report.chosen.saturating_add(1);
        match &mut self.commands {
            Some(commands) => commands.start(item, received_at),
            None => self.printer.push(item, time, self.output.buffer()),
        }
    }

    pub(super) fn summary(&self) -> String {
        match &self.commands {
            Some(commands) => {
                format!("{}; commands: {}", self.report.summary(), commands.summary())
            }
            None => self.report.summary(),
        }
    }
}

async fn at_most(time: Option<Duration>) {
    match time {
        Some(time) => sleep(time).await,
        None => pending().await,
    }
}

async fn next_command(commands: &mut Option<Commands>) -> Result<(), Failure> {
    match commands {
        Some(commands) => commands.next().await,
        None => pending().await,
    }
}

async fn tick(ticks: &mut Option<tokio::time::Interval>) {
    match ticks {
        Some(ticks) => drop(ticks.tick().await),
        None => pending().await,
    }
}
