//! `pgbell notify`: one notification, or one for each part of stdin or of a file.

mod args;
mod input;
mod sender;

use std::time::{Duration, Instant};

use pgbell::proto::wire::{check_channel, check_payload};
use pgbell::{Config, Error, Notifier};
use tokio::sync::mpsc;
use tokio::time::sleep;

pub(crate) use self::args::Notify;
use self::input::{Address, Form};
use self::sender::Sender;
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::counted;
use crate::progress::Progress;
use crate::signals::Signals;
use crate::waiting::Waiting;

/// The number of batches that are read while one is being sent.
const BATCHES_AHEAD: usize = 2;

/// The number of repetitions that are sent together.
const REPEATED_TOGETHER: u64 = 1_000;

/// How long it tries again by default after a session was lost.
const RETRY: Duration = Duration::from_secs(60);

/// The delay between two attempts to connect at the start.
const CONNECT_DELAY: Duration = Duration::from_millis(500);

/// What is sent.
enum Work {
    Repeated { channel: String, payload: String, count: u64 },
    Input(Form, Address),
}

pub(crate) async fn run(args: Notify, signals: &mut Signals) -> Result<Exit, Failure> {
    let work = work(&args)?;
    let config = connect::config(args.server.url.as_deref())?;
    let notifier = tokio::select! {
        exit = signals.recv() => return Ok(exit),
        connected = connect(config, args.retry) => connected?,
    };
    let retry = args.retry.unwrap_or(RETRY);
    let mut sender = Sender::new(notifier, retry, args.resend_in_doubt, args.rate);
    let ended = tokio::select! {
        exit = signals.recv() => Ok(exit),
        sent = send(&args, work, &mut sender) => sent.map(|()| sender.exit()),
    };
    let is_complete = matches!(ended, Ok(Exit::Ok | Exit::InDoubt));
    if !is_complete {
        sender.give_up();
    }
    // What an error or a signal has left is of interest in any case.
    if args.verbose || sender.in_doubt > 0 || !is_complete && sender.sent > 0 {
        console::line(&sender.summary());
    }
    sender.close().await;
    ended
}

/// Checks the arguments.
fn work(args: &Notify) -> Result<Work, Failure> {
    let form = match args {
        Notify { null: true, .. } => Some(Form::Null),
        Notify { whole: true, .. } => Some(Form::Whole),
        Notify { json_records: true, .. } => Some(Form::JsonRecords),
        Notify { file: Some(_), .. } => Some(Form::Lines),
        Notify { payload: Some(payload), .. } if payload == "-" => Some(Form::Lines),
        _ => None,
    };
    let usage = |message: &str| Err(Failure::new(Exit::Usage, message));
    if args.repeat > 1 && form.is_some_and(|form| form != Form::Whole) {
        return usage("--repeat is for one payload, and there are many");
    }
    let separator = char::from(args.topic_separator);
    let prefix = match &args.topic {
        None => String::new(),
        Some(topic) if topic.is_empty() || topic.contains(separator) => {
            return usage(
                "a topic is not empty, and does not contain the character of --topic-separator",
            );
        }
        Some(topic) => format!("{topic}{separator}"),
    };
    if let Some(channel) = &args.channel {
        check_channel(channel).map_err(|error| refused(&error.into()))?;
    }
    let channel = args.channel.clone();
    if let Some(form) = form {
        return Ok(Work::Input(form, Address { channel, prefix, separator }));
    }
    let payload = format!("{prefix}{}", args.payload.as_deref().unwrap_or_default());
    check_payload(&payload).map_err(|error| refused(&error.into()))?;
    Ok(Work::Repeated { channel: channel.unwrap_or_default(), payload, count: args.repeat })
}

fn refused(why: &Error) -> Failure {
    Failure::running(why)
}

/// Connects, and tries again for this time.
async fn connect(config: Config, retry: Option<Duration>) -> Result<Notifier, Failure> {
    let (begin, waiting) = (Instant::now(), Waiting::default());
    loop {
        let error = match Notifier::connect(config.clone()).await {
            Ok(notifier) => return Ok(notifier),
            Err(error) => error,
        };
        let is_over = retry.is_none_or(|retry| begin.elapsed() + CONNECT_DELAY > retry);
        if is_over || !error.is_transient() {
            return Err(Failure::connecting(&error));
        }
        waiting.failed(&error);
        sleep(CONNECT_DELAY).await;
    }
}

async fn send(args: &Notify, work: Work, sender: &mut Sender) -> Result<(), Failure> {
    match work {
        Work::Repeated { channel, payload, count } => {
            repeat(sender, (channel, payload), count).await
        }
        Work::Input(form, address) => {
            let (batches, mut inbox) = mpsc::channel(BATCHES_AHEAD);
            let path = args.file.clone();
            // A read of stdin cannot be cancelled: it gets a thread, and the end of the program ends it.
            tokio::task::spawn_blocking(move || {
                input::read(path.as_deref(), form, &address, &batches);
            });
            let mut losses = 0;
            while let Some(batch) = inbox.recv().await {
                let batch = batch?;
                losses += batch.losses;
                match (form, &batch.pairs[..]) {
                    (Form::Whole, [pair]) => repeat(sender, pair.clone(), args.repeat).await?,
                    (_, pairs) => sender.send(pairs, batch.is_distinct).await?,
                }
            }
            if losses > 0 {
                let records = counted(losses, "record of a loss was", "records of losses were");
                console::line(&format!("pgbell: {records} left out"));
            }
            Ok(())
        }
    }
}

/// Sends a notification many times.
async fn repeat(sender: &mut Sender, pair: (String, String), count: u64) -> Result<(), Failure> {
    let together = usize::try_from(count.min(REPEATED_TOGETHER)).unwrap_or(1);
    let pairs = vec![pair; together];
    let mut progress = Progress::new(count);
    let mut left = count;
    while left > 0 {
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(pairs.len());
        sender.send(pairs.get(..now).unwrap_or(&pairs), false).await?;
        left -= now as u64;
        progress.set(count - left);
    }
    Ok(())
}
