//! `pgbell`: PostgreSQL LISTEN/NOTIFY from the command line.
//!
//! stdout is for data, stderr for everything else.

mod args;
mod connect;
mod console;
mod demo;
mod doctor;
mod exit;
mod json;
mod listen;
mod notify;
mod numbers;
mod outage;
mod outbox;
mod output;
mod pages;
mod palette;
mod progress;
mod record;
mod signals;
mod units;
mod waiting;

use std::process::ExitCode;

use args::Command;
use exit::{Exit, Failure};
use signals::Signals;

fn main() -> ExitCode {
    let command = match args::parse() {
        Ok(command) => command,
        Err(exit) => return exit.into(),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return Failure::new(Exit::Runtime, format!("cannot start: {error}")).report().into();
        }
    };
    let ended = runtime.block_on(run(command));
    // A read of stdin or a write to a stalled stdout may hang on a thread of its own: do not wait for it.
    runtime.shutdown_background();
    match ended {
        Ok(exit) => exit.into(),
        Err(failure) => failure.report().into(),
    }
}

async fn run(command: Command) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    match command {
        Command::Listen(listen) => listen::run(listen, &mut signals).await,
        Command::Notify(notify) => notify::run(notify, &mut signals).await,
        Command::Outbox(command) => outbox::run(command, &mut signals).await,
        Command::Doctor(doctor) => doctor::run(*doctor, &mut signals).await,
        Command::Demo(demo) => demo::run(demo, &mut signals).await,
        Command::Completions(completions) => pages::completions(completions).await,
        Command::Man(man) => pages::man(man).await,
    }
}
