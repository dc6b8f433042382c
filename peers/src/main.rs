//! Other drivers, measured together with pgbell in one run.
//!
//! ```text
//! peers --+-- replay                 one per load: the sender
//!         |   postgres               or a real one, through pgbell-testkit
//!         +-- child NAME             one per sample: prints "ready", receives, prints what it measured
//! ```
//!
//! The parent only starts processes, compares what was received with what was sent, and prints the results.

mod child;
mod client;
mod contestant;
mod copies;
mod cores;
mod delays;
mod digest;
mod heat;
mod latency;
mod log;
mod machine;
mod many;
mod matchup;
mod options;
mod outcome;
mod plan;
mod plot;
mod pq;
mod publishing;
#[path = "../../tests/queries/mod.rs"]
mod queries;
mod queue;
mod replay;
mod results;
mod server;
mod shape;
mod sleeper;
mod source;
mod spread;
mod stream;
mod table;
mod tally;
mod target;
mod tls;
mod usage;

use std::fs;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cores::Cores;
use crate::delays::DelayedPairs;
use crate::machine::Machine;
use crate::options::{CommandLine, Options, Part, Scenario};
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::results::{Ran, Results};
use crate::server::Server;
use crate::sleeper::SleeperRun;
use crate::table::Style;
use crate::target::Target;

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match line.part {
        None => run(&line.options),
        Some(part) => play(part).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("peers: {error:#}");
        ExitCode::FAILURE
    })
}

/// One of the processes of a run.
fn play(part: Part) -> Outcome<()> {
    match part {
        Part::Replay(replay) => replay::serve(&replay),
        Part::Child { contestant, job } => client::run(contestant, &job),
        Part::PingPong { contestant, job } => {
            tally::print_line(&client::ping_pong(contestant, &job)?)
        }
        Part::Delays { contestant, job } => tally::print_line(&client::delays(contestant, &job)?),
        Part::Many { role, job } => many::play(role, &job),
        Part::Publishing { role, job } => publishing::play(role, &job),
        Part::Log { role, job } => log::play(role, &job),
        Part::Queue { role, job } => queue::play(role, &job),
        Part::Sleeper { job } => tally::print_line(&client::sleep(&job)?),
    }
}

fn run(options: &Options) -> Outcome<ExitCode> {
    let allowed = cores::allowed()?;
    let mut machine = Machine::look(&allowed);
    let plan = Plan::new(options);
    for heat in &plan.heats {
        heat.shape.checked()?;
    }
    let mut server = Server::default();
    let mut heats = Vec::new();
    eprintln!("peers: {} heats, {} runs", plan.heats.len(), plan.runs());
    for heat in plan.heats {
        let samples = heat.run(&allowed, &mut server);
        let ran = Ran::new(heat, samples);
        eprintln!("peers: done: {}", ran.title());
        heats.push(ran);
    }
    let cores = Cores::new(&allowed, options.cores);
    let mut latency = Vec::new();
    if let Some(ping_pong_rounds) = plan.ping_pong {
        let mut players = plan.players.clone();
        players.retain(|player| options.admits(*player));
        latency = latency::run(&players, ping_pong_rounds, &cores, &mut server);
        eprintln!("peers: done: ping-pong");
    }
    let sleeper = plan.sleeper.map(|count| SleeperRun::run(count, &cores));
    let delays = plan.delays.map(|(rounds, count)| {
        DelayedPairs::run((rounds, count), |one| options.admits(one), &cores)
    });
    let many =
        plan.many.map_or_else(Vec::new, |(scenario, size)| many::run(scenario, size, &cores));
    let publishing = match plan.publishing {
        Some((scenario, size)) => publishing::run(scenario, size)?,
        None => Vec::new(),
    };
    let log = match plan.log {
        Some((size, steady)) => log::run(size, steady)?,
        None => Vec::new(),
    };
    let queue = match plan.queue {
        Some(size) => queue::run(size)?,
        None => Vec::new(),
    };
    let copies = copies::run(&plan.copies, |contestant| options.admits(contestant), &cores);
    machine.finish(server.version());
    let mut targets = Target::all(&heats, &latency, sleeper.as_ref());
    targets.extend(Target::of_copies(&copies));
    targets.extend(Target::of_many(&many));
    if options.scenario == Some(Scenario::Blocking) {
        targets = Target::of_blocking(&heats, &latency);
    }
    targets.extend(Target::of_publishing(&publishing));
    targets.extend(Target::of_log(&log));
    targets.extend(Target::of_queue(&queue));
    if options.scenario == Some(Scenario::Moderation) {
        targets = Target::of_moderation(&heats, &latency, delays.as_ref());
        if options.before.is_none() {
            eprintln!("peers: without --before the target against an older build is left out");
        }
    }
    let results = Results {
        machine,
        heats,
        latency,
        sleeper,
        delays,
        copies,
        many,
        publishing,
        log,
        queue,
        targets,
    };
    if let Some(dir) = &options.plot {
        plot::draw(&results.heats, dir)?;
    }
    let json = serde_json::to_string_pretty(&results)?;
    let markdown = table::show(&results, Style::Markdown);
    let text = table::show(&results, Style::Text);
    if let Some(dir) = &options.save {
        fs::create_dir_all(dir)?;
        for (name, content) in
            [("results.json", &json), ("results.md", &markdown), ("results.txt", &text)]
        {
            fs::write(dir.join(name), content)?;
        }
    }
    let shown = match (options.json, options.markdown) {
        (true, _) => json,
        (_, true) => markdown,
        _ => text,
    };
    writeln!(std::io::stdout(), "{}", shown.trim_end())?;
    Ok(if results.voids().is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
