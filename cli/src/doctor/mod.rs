//! `pgbell doctor`: what is wrong with LISTEN and NOTIFY on a server, why, and what to do.
//!
//! It reads statistics, and writes no table. Unless `--no-probe` is given, it sends some notifications on a private channel.

mod args;
mod checks;
mod facts;
mod finding;
mod limits;
mod measure;
mod report;
mod sql;

use std::time::Duration;

use clap::ValueEnum as _;
use pgbell::{Config, Connection, Error};
use tokio::time::timeout;

use self::args::Check;
pub(crate) use self::args::Doctor;
use self::checks::slru::Slru;
use self::facts::Facts;
use self::finding::{Finding, Severity};
use self::report::Report;
use crate::connect;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Signals;

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
    let (version, findings) = match Connection::connect(config.clone()).await {
        Ok(session) => {
            let mut examination = Examination::new(args, config, session);
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
    session: Option<Connection>,
    findings: Vec<Finding>,
}

impl<'a> Examination<'a> {
    fn new(args: &'a Doctor, config: &'a Config, session: Connection) -> Self {
        Self { args, config, session: Some(session), findings: Vec::new() }
    }

    /// Makes all checks. Returns the version of the server.
    async fn run(&mut self) -> Option<String> {
        let (args, config) = (self.args, self.config);
        let session = self.session.as_mut()?;
        let facts = match timeout(args.timeout, Facts::read(session)).await {
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
        let begin = timeout(args.timeout, Slru::read(session)).await;
        let begin = begin.ok().and_then(Result::ok).unwrap_or_default();
        let inputs = Inputs { args, config, facts: &facts, begin };
        for check in Check::value_variants().iter().filter(|check| args.makes(**check)) {
            self.make(*check, &inputs).await;
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
        Some(facts.version_text.clone())
    }

    /// Makes one check. If it fails, that is a finding, and the others are made.
    async fn make(&mut self, check: Check, inputs: &Inputs<'_>) {
        let name = name(check);
        let Some(session) = self.session.as_mut() else {
            self.findings.push(unknown(name, "the session was lost"));
            return;
        };
        match timeout(self.args.timeout, inputs.examine(check, session)).await {
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
        self.session = None;
        let connecting = Connection::connect(self.config.clone());
        self.session = timeout(self.args.timeout, connecting).await.ok().and_then(Result::ok);
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
    async fn examine(&self, check: Check, session: &mut Connection) -> Findings {
        let Self { args, config, facts, begin } = *self;
        let limits = &args.limits;
        match check {
            Check::Version => Ok(checks::version::check(facts)),
            Check::Server => checks::server::check(session, facts).await,
            Check::Pooler => checks::pooler::check(config, session, !args.no_probe).await,
            Check::Queue => checks::queue::check(session, facts, limits).await,
            Check::Readers => checks::readers::check(session, facts, limits).await,
            Check::CommitLock => checks::commit_lock::check(session, facts, limits).await,
            Check::Transactions => checks::transactions::check(session, limits).await,
            Check::Triggers => checks::triggers::check(session).await,
            Check::Timeouts => checks::timeouts::check(config, session).await,
            Check::Slots => checks::slots::check(session, facts, limits).await,
            Check::Outbox => checks::outbox::check(config, session, limits).await,
            Check::Pgmq => checks::pgmq::check(session, limits).await,
            Check::Delivery => checks::delivery::check(config, session, facts, limits).await,
            Check::Measure => measure::check(config).await,
            Check::Slru => Ok(Slru::read(session).await?.check(begin)),
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

fn too_slow(limit: Duration) -> String {
    format!("it took longer than {} s", limit.as_secs_f64())
}

/// Names a session: `process 4711 (api of bob, 10.0.0.3)`.
fn session_of(pid: &str, user: &str, application: &str, address: &str) -> String {
    let application = if application.is_empty() { "a session" } else { application };
    format!("process {pid} ({application} of {user}, {address})")
}
