//! [`Schedule`]: one run, determined by a seed.

use pgbell::Connection;
use pgbell::durable::{Outbox, OutboxSettings, PayloadType, Start};

use super::cases::ScheduleCases;
use super::fault::{Fault, RunFailure};
use super::model::ModelLog;
use super::reader::{Context, ScheduledReader};
use super::writers::Writers;
use crate::dice::Dice;
use crate::support::value;

/// What a run does, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) seed: u64,
    pub(super) steps: u64,
    /// Compare positions too, and not only what is delivered.
    pub(super) checks_positions: bool,
}

pub(super) struct Schedule {
    plan: Plan,
    dice: Dice,
    outbox: Outbox,
    session: Connection,
    writers: Writers,
    readers: Vec<ScheduledReader>,
    log: ModelLog,
    cases: ScheduleCases,
    trace: Vec<String>,
}

impl Schedule {
    /// Creates a log. `name` is that of its schema.
    pub(super) async fn new(
        plan: Plan,
        url: &str,
        name: &str,
        mut session: Connection,
        connections: Vec<Connection>,
    ) -> Box<Self> {
        session.simple_query(&format!("CREATE SCHEMA {name}")).await.unwrap();
        let table = format!("{name}.outbox");
        let outbox = Outbox::new(url, &table).unwrap();
        let settings = OutboxSettings::new().payload(PayloadType::Text);
        outbox.init(&settings.partition_age(std::time::Duration::ZERO)).await.unwrap();
        Box::new(Self {
            plan,
            dice: Dice::new(plan.seed),
            outbox,
            session,
            writers: Writers::new(table, connections),
            readers: Vec::new(),
            log: ModelLog::default(),
            cases: ScheduleCases::default(),
            trace: Vec::new(),
        })
    }

    /// The session of the superuser, for the time before the run.
    pub(super) fn session(&mut self) -> &mut Connection {
        &mut self.session
    }

    /// Runs the schedule. The error has the last steps.
    pub(super) async fn run(&mut self) -> Result<ScheduleCases, RunFailure> {
        match self.steps().await {
            Ok(()) => Ok(self.cases),
            Err(failure) => {
                let last = self.trace[self.trace.len().saturating_sub(40)..].join("\n");
                let what = format!("{failure}\nseed {}\n…\n{last}", self.plan.seed);
                Err(RunFailure::new(failure.fault, what))
            }
        }
    }

    async fn steps(&mut self) -> Result<(), RunFailure> {
        self.open("first", Start::Beginning).await?;
        for step in 0..self.plan.steps {
            if step == self.plan.steps / 3 {
                self.open("second", Start::Now).await?;
            }
            let reader = self.dice.index(self.readers.len());
            let text = match self.dice.below(100) {
                0..60 => {
                    let Self { writers, dice, log, cases, .. } = self;
                    writers.step(dice, log, cases).await?
                }
                60..88 => {
                    let (reader, mut context) = self.reader(reader);
                    reader.read(&mut context, false).await?.unwrap_or_default()
                }
                88..92 => {
                    let (reader, mut context) = self.reader(reader);
                    reader.use_receipt(&mut context).await?
                }
                92..95 => {
                    let (reader, mut context) = self.reader(reader);
                    reader.reopen(&mut context).await?
                }
                95..98 => self.rotate().await?,
                _ => {
                    let (reader, mut context) = self.reader(reader);
                    reader.drain(&mut context).await?
                }
            };
            self.trace.push(text);
        }
        // What has committed must not wait for what has not.
        self.drain().await?;
        let Self { writers, dice, log, .. } = self;
        writers.end_all(dice, log).await?;
        self.trace.push("every transaction ends".to_owned());
        self.drain().await
    }

    async fn open(&mut self, name: &str, start: Start) -> Result<(), RunFailure> {
        self.readers.push(ScheduledReader::new(&self.outbox, name, start, &self.log).await?);
        self.trace.push(format!("{name} begins"));
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), RunFailure> {
        for index in 0..self.readers.len() {
            let (reader, mut context) = self.reader(index);
            let text = reader.drain(&mut context).await?;
            self.trace.push(text);
        }
        Ok(())
    }

    /// Truncates what every cursor has acknowledged. Nothing is lost, because there is no limit.
    async fn rotate(&mut self) -> Result<String, RunFailure> {
        let sql = format!("SELECT truncated || ' ' || lost FROM {}_rotate()", self.outbox.name());
        let found = value(&mut self.session, &sql).await;
        let (truncated, lost) = found.split_once(' ').expect("two numbers");
        if lost != "0" {
            return Err(RunFailure::new(Fault::Missed, format!("{lost} lost by a rotation")));
        }
        self.cases.truncated += truncated.parse::<u64>().expect("a number");
        Ok(format!("a rotation truncates {truncated} partitions"))
    }

    /// Returns a reader, and what it needs.
    fn reader(&mut self, index: usize) -> (&mut ScheduledReader, Context<'_>) {
        let Self { plan, dice, outbox, session, writers, readers, log, cases, .. } = self;
        let checks_positions = plan.checks_positions;
        let context = Context { outbox, session, writers, log, dice, cases, checks_positions };
        (&mut readers[index], context)
    }

    /// Ends what is left. Returns the connections.
    pub(super) async fn end(mut self: Box<Self>) -> (Connection, Vec<Connection>) {
        for reader in self.readers {
            reader.close().await;
        }
        if self.session.transaction_status() != pgbell::TransactionStatus::Idle {
            self.session.simple_query("ROLLBACK").await.unwrap();
        }
        (self.session, self.writers.into_connections().await)
    }
}
