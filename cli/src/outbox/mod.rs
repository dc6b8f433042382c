//! `pgbell outbox`: a log in a table.

mod args;
mod confirm;
mod manage;
mod read;
mod record;
mod start;
mod status;

pub(crate) use self::args::Outbox;
use crate::exit::{Exit, Failure};
use crate::signals::Signals;

pub(crate) async fn run(command: Outbox, signals: &mut Signals) -> Result<Exit, Failure> {
    match command {
        Outbox::Init(args) => until_signal(signals, manage::init(args)).await,
        Outbox::Check(args) => until_signal(signals, manage::check(args)).await,
        Outbox::Status(args) => until_signal(signals, status::run(args)).await,
        Outbox::Read(args) => read::run(args, signals).await,
        Outbox::Rotate(args) => until_signal(signals, manage::rotate(args)).await,
        Outbox::Rebase(args) => until_signal(signals, manage::rebase(args)).await,
        Outbox::DropCursor(args) => until_signal(signals, manage::drop_cursor(args)).await,
        Outbox::Drop(args) => until_signal(signals, manage::drop(args)).await,
    }
}

async fn until_signal(
    signals: &mut Signals,
    work: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    tokio::select! {
        exit = signals.recv() => Ok(exit),
        ended = work => ended,
    }
}
