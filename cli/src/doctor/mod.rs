//! `pgbell doctor`: what is wrong with LISTEN and NOTIFY on a server, why, and what to do.
//!
//! It reads statistics, in transactions that are read-only, and runs no code of other roles: see [`client`] and [`owners`]. Unless `--no-probe` is
//! given, it sends some notifications on a private channel.

mod args;
mod checks;
mod client;
mod delivery_channel;
mod facts;
mod finding;
mod limits;
mod measure;
mod owners;
mod report;
mod sql;

use std::time::Duration;

use clap::ValueEnum as _;
use pgbell::{Config, Error};
use tokio::time::{Instant, timeout, timeout_at};

use self::args::Check;
pub(crate) use self::args::Doctor;
use self::checks::slru::Slru;
use self::client::Client;
use self::facts::Facts;
use self::finding::{Finding, Severity};
use self::report::Report;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Signals;

/// What an answer needs beside the time of a statement.
const MOMENT: Duration = Duration::from_millis(500);

type Findings = Result<Vec<Finding>, Error>;

pub(crate) async fn run(args: Doctor, signals: &mut Signals) -> Result<Exit, Failure> {
    let config = connect::config(args.server.url.as_deref()).map_err(Failure::unknown)?;
    let config = config.application_name("pgbell doctor");
    tokio::select! {
        exit = signals.recv() => Ok(exit),
        ended = examine(&args, &config) => ended,
    }
}

async fn examine(args: &Doctor, config: &Config) -> Result<Exit, Failure> {
    let (version, findings) = match Client::connect(config.clone(), args.timeout).await {
        Ok(client) => {
            let mut examination = Examination::new(args, config, client);
            let version = examination.run().await;
            (version, examination.findings)
        }
        Err(error) => (None, vec![unreachable(&error)]),
    };
    let place = connect::place(config);
    let report = Report { place, version, findings, is_verbose: args.verbose };
    output::print(&report.write(args.format)).await.map_err(Failure::unknown)?;
    Ok(Exit::Monitor(report.severity().code()))
}

fn unreachable(error: &Error) -> Finding {
    let failure = Failure::connecting(error);
    let summary = format!("cannot connect: {}", failure.message());
    let finding = Finding::new("connect", Severity::Critical, summary);
    match failure.hint() {
        Some(hint) => finding.cure(hint),
        None => finding,
    }
}

/// The checks of one call, in their order.
struct Examination<'a> {
    args: &'a Doctor,
    config: &'a Config,
    client: Option<Client>,
    /// The end of all checks.
    deadline: Instant,
    findings: Vec<Finding>,
}

impl<'a> Examination<'a> {
    fn new(args: &'a Doctor, config: &'a Config, client: Client) -> Self {
        let deadline = Instant::now() + args.deadline;
        Self { args, config, client: Some(client), deadline, findings: Vec::new() }
    }

    /// Makes all checks. Returns the version of the server.
    async fn run(&mut self) -> Option<String> {
        let (args, config) = (self.args, self.config);
        let client = self.client.as_mut()?;
        let facts = match timeout(args.timeout, Facts::read(client)).await {
            Ok(Ok(facts)) => facts,
            Ok(Err(error)) => {
                self.findings.push(unknown("server", &error.to_string()));
                return None;
            }
            Err(_) => {
                self.findings.push(unknown("server", &too_slow(args.timeout)));
                return None;
            }
        };
        let begin = timeout(args.timeout, Slru::read(client)).await;
        let begin = begin.ok().and_then(Result::ok).unwrap_or_default();
        let inputs = Inputs { args, config, facts: &facts, begin };
        for check in Check::value_variants().iter().filter(|check| args.makes(**check)) {
            self.make(*check, &inputs).await;
        }
        if let Some(client) = self.client.take() {
            client.close().await;
        }
        Some(facts.version_text.clone())
    }

    /// Makes one check. If it fails, that is a finding, and the others are made.
    async fn make(&mut self, check: Check, inputs: &Inputs<'_>) {
        let name = name(check);
        let Some(client) = self.client.as_mut() else {
            self.findings.push(unknown(name, "the session was lost"));
            return;
        };
        // The server cancels a statement a moment before.
        let limit = Instant::now() + self.args.timeout + MOMENT;
        match timeout_at(limit.min(self.deadline), inputs.examine(check, client)).await {
            Ok(Ok(found)) => self.findings.extend(found),
            Ok(Err(error)) => {
                self.findings.push(unknown(name, &error.to_string()));
                if error.db_error().is_none_or(pgbell::DbError::is_fatal) {
                    self.reconnect().await;
                }
            }
            Err(_) => {
                self.findings.push(unknown(name, &too_slow(self.args.timeout)));
                self.reconnect().await;
            }
        }
    }

    /// The answer to a statement that was given up would be that of the next one's place.
    async fn reconnect(&mut self) {
        self.client = None;
        let limit = (Instant::now() + self.args.timeout).min(self.deadline);
        let connecting = Client::connect(self.config.clone(), self.args.timeout);
        self.client = timeout_at(limit, connecting).await.ok().and_then(Result::ok);
    }
}

/// What the checks need.
struct Inputs<'a> {
    args: &'a Doctor,
    config: &'a Config,
    facts: &'a Facts,
    begin: Slru,
}

impl Inputs<'_> {
    async fn examine(&self, check: Check, client: &mut Client) -> Findings {
        let Self { args, config, facts, begin } = *self;
        let limits = &args.limits;
        match check {
            Check::Version => Ok(checks::version::check(facts)),
            Check::Server => checks::server::check(client, facts).await,
            Check::Pooler => checks::pooler::check(config, client, !args.no_probe).await,
            Check::Queue => checks::queue::check(client, facts, limits).await,
            Check::Readers => checks::readers::check(client, facts, args.watch).await,
            Check::CommitLock => checks::commit_lock::check(client, facts, limits).await,
            Check::Transactions => checks::transactions::check(client, facts, limits).await,
            Check::Triggers => checks::triggers::check(client).await,
            Check::Timeouts => checks::timeouts::check(config, client).await,
            Check::Certificate => Ok(checks::certificate::check(config, client, limits)),
            Check::Password => Ok(checks::password::check(config)),
            Check::Slots => checks::slots::check(client, facts, limits).await,
            Check::Outbox => checks::outbox::check(config, client, limits).await,
            Check::Pgmq => checks::pgmq::check(client, limits).await,
            Check::Delivery => checks::delivery::check(config, client, facts, limits).await,
            Check::Measure => measure::check(config, client, args.timeout).await,
            Check::Slru => Ok(Slru::read(client).await?.check(begin)),
        }
    }
}

fn name(check: Check) -> &'static str {
    match check {
        Check::Version => "version",
        Check::Server => "server",
        Check::Pooler => "pooler",
        Check::Queue => "queue",
        Check::Readers => "readers",
        Check::CommitLock => "commit-lock",
        Check::Transactions => "transactions",
        Check::Slru => "slru",
        Check::Triggers => "triggers",
        Check::Timeouts => "timeouts",
        Check::Certificate => "certificate",
        Check::Password => "password",
        Check::Slots => "slots",
        Check::Outbox => "outbox",
        Check::Pgmq => "pgmq",
        Check::Delivery => "delivery",
        Check::Measure => "measure",
    }
}

fn unknown(check: &'static str, why: &str) -> Finding {
    Finding::new(check, Severity::Unknown, format!("not known: {why}"))
}

/// Says that a role sees too little.
fn not_visible(check: &'static str) -> Finding {
    Finding::new(
        check,
        Severity::Unknown,
        "the sessions of other roles are not visible to this role",
    )
    .cure("GRANT pg_monitor TO the role of this program")
}

fn too_slow(limit: Duration) -> String {
    format!("it took longer than {} s", limit.as_secs_f64())
}

/// Names a session: `process 4711 (api of bob, 10.0.0.3)`.
fn session_of(pid: &str, user: &str, application: &str, address: &str) -> String {
    let application = if application.is_empty() { "a session" } else { application };
    format!("process {pid} ({application} of {user}, {address})")
}
