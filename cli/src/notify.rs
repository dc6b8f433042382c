//! `pgbell notify`: one notification, or one for each line of stdin.

use std::collections::HashSet;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use pgbell::proto::wire::limits::PAYLOAD_BYTES_MAX;
use pgbell::proto::wire::{check_channel, check_payload};
use pgbell::{Error, Notifier};
use tokio::sync::mpsc;

use crate::args::Notify;
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};
use crate::numbers::{grouped, per_second, rate, seconds};
use crate::signals::Signals;

/// The largest number of lines in one transaction.
const BATCH_LINES_MAX: usize = 1_000;

/// The number of batches that are read while one is being sent.
const BATCHES_AHEAD: usize = 2;

pub(crate) async fn run(args: Notify, signals: &mut Signals) -> Result<Exit, Failure> {
    check_channel(&args.channel).map_err(|error| refused(&error.into()))?;
    let lines = args.payload == "-";
    if !lines {
        check_payload(&args.payload).map_err(|error| refused(&error.into()))?;
    }
    let config = connect::config(args.server.url.as_deref())?;
    let notifier = tokio::select! {
        exit = signals.recv() => return Ok(exit),
        connected = Notifier::connect(config) => {
            connected.map_err(|error| Failure::connecting(&error))?
        }
    };
    let mut sender = Sender { notifier, channel: args.channel, sent: 0, since: Instant::now() };
    let ended = tokio::select! {
        exit = signals.recv() => Ok(exit),
        sent = async {
            if lines { sender.send_lines().await } else { sender.send_one(&args.payload).await }
        } => sent.map(|()| Exit::Ok),
    };
    if args.verbose {
        console::line(&sender.summary());
    }
    sender.notifier.close().await;
    ended
}

fn refused(why: &Error) -> Failure {
    Failure::running(why)
}

struct Sender {
    notifier: Notifier,
    channel: String,
    /// The number of committed notifications.
    sent: u64,
    since: Instant,
}

impl Sender {
    async fn send_one(&mut self, payload: &str) -> Result<(), Failure> {
        self.notifier
            .notify(&self.channel, payload)
            .await
            .map_err(|error| Failure::running(&error))?;
        self.sent = 1;
        Ok(())
    }

    async fn send_lines(&mut self) -> Result<(), Failure> {
        let (batches, mut inbox) = mpsc::channel(BATCHES_AHEAD);
        // A read of stdin cannot be cancelled: it gets a thread, and the end of the program ends it.
        tokio::task::spawn_blocking(move || read_lines(io::stdin().lock(), &batches));
        while let Some(batch) = inbox.recv().await {
            self.send(batch?).await?;
        }
        Ok(())
    }

    async fn send(&mut self, batch: Batch) -> Result<(), Failure> {
        if batch.distinct {
            let channel = self.channel.as_str();
            let pairs = batch.lines.iter().map(|line| (channel, line.as_str()));
            let sent = self.notifier.notify_many(pairs).await;
            self.sent += sent.map_err(|error| self.stopped(&error))?;
            return Ok(());
        }
        // The server delivers equal payloads of one transaction once: each one gets its own transaction.
        let waiting = batch.lines.iter().map(|line| self.notifier.notify(&self.channel, line));
        for sent in all(waiting.collect()).await {
            sent.map_err(|error| self.stopped(&error))?;
            self.sent += 1;
        }
        Ok(())
    }

    fn stopped(&self, error: &Error) -> Failure {
        let failure = Failure::running(error);
        if self.sent > 0 {
            console::line(&format!("pgbell: {} were sent before the error", grouped(self.sent)));
        }
        failure
    }

    fn summary(&self) -> String {
        let time = self.since.elapsed();
        let rate = rate(per_second(self.sent, time));
        format!("sent {} in {} ({rate})", grouped(self.sent), seconds(time))
    }
}

/// Runs futures concurrently. Each starts after the one before, so their commands are sent in this order.
async fn all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        let mut waiting = false;
        for (future, output) in futures.iter_mut().filter(|(_, output)| output.is_none()) {
            match Pin::new(future).poll(cx) {
                Poll::Ready(ready) => *output = Some(ready),
                Poll::Pending => waiting = true,
            }
        }
        if waiting { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

/// Lines that are sent together.
#[derive(Debug, PartialEq, Eq)]
struct Batch {
    lines: Vec<String>,
    /// Whether no two of them are equal, so that they can share a transaction.
    distinct: bool,
}

/// Reads lines, to the end or to the first one that cannot be sent, in batches of the lines that are available. So a
/// line of a slow writer is sent at once, and lines of a fast writer are sent together.
fn read_lines(input: impl Read, batches: &mpsc::Sender<Result<Batch, Failure>>) {
    let mut input = BufReader::with_capacity(64 * 1024, input);
    let hasher = RandomState::new();
    let mut number = 0_u64;
    loop {
        let mut batch = Batch { lines: Vec::new(), distinct: true };
        let mut seen = HashSet::new();
        let end = loop {
            number += 1;
            match read_line(&mut input, number) {
                Ok(Some(line)) => {
                    // Two lines with the same hash count as equal: that costs time, but loses no line.
                    batch.distinct &= seen.insert(hasher.hash_one(&line));
                    batch.lines.push(line);
                }
                Ok(None) => break Some(None),
                Err(failure) => break Some(Some(failure)),
            }
            if batch.lines.len() >= BATCH_LINES_MAX || !input.buffer().contains(&b'\n') {
                break None;
            }
        };
        // An error means that the sender has ended.
        if !batch.lines.is_empty() && batches.blocking_send(Ok(batch)).is_err() {
            return;
        }
        match end {
            None => {}
            Some(None) => return,
            Some(Some(failure)) => {
                let _ = batches.blocking_send(Err(failure));
                return;
            }
        }
    }
}

/// Reads the next line and checks it. Returns it without the line end. Never reads more than the longest payload.
fn read_line(input: &mut impl BufRead, number: u64) -> Result<Option<String>, Failure> {
    let at_line = |exit, why: &str| Failure::new(exit, format!("line {}: {why}", grouped(number)));
    // The longest payload and the line end.
    let longest = u64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let mut line = Vec::new();
    let read = input.take(longest).read_until(b'\n', &mut line);
    let read =
        read.map_err(|error| at_line(Exit::Runtime, &format!("cannot read stdin: {error}")))?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    }
    if line.len() > PAYLOAD_BYTES_MAX {
        let limit = grouped(u64::try_from(PAYLOAD_BYTES_MAX).unwrap_or(u64::MAX));
        return Err(at_line(Exit::Usage, &format!("payload is longer than {limit} bytes")));
    }
    let line = String::from_utf8(line).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        at_line(Exit::Usage, &format!("expected UTF-8, found something else at byte {at}"))
    })?;
    check_payload(&line).map_err(|error| at_line(Exit::Usage, &error.to_string()))?;
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of each batch, whether they are distinct, and the failure at the end.
    fn read(input: &[u8]) -> (Vec<(Vec<String>, bool)>, Option<String>) {
        let (batches, mut inbox) = mpsc::channel(64);
        read_lines(input, &batches);
        drop(batches);
        let (mut found, mut failure) = (Vec::new(), None);
        while let Some(batch) = inbox.blocking_recv() {
            match batch {
                Ok(batch) => found.push((batch.lines, batch.distinct)),
                Err(error) => failure = Some(error.message().to_owned()),
            }
        }
        (found, failure)
    }

    fn lines(lines: &[&str]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_line_is_a_payload() {
        assert_eq!(read(b""), (vec![], None));
        assert_eq!(read(b"a\n\nb\r\n"), (vec![(lines(&["a", "", "b\r"]), true)], None));
        assert_eq!(
            read(b"a\nb"),
            (vec![(lines(&["a"]), true), (lines(&["b"]), true)], None),
            "the last line has no end"
        );
    }

    #[test]
    fn equal_lines_do_not_share_a_transaction() {
        assert_eq!(read(b"a\na\n"), (vec![(lines(&["a", "a"]), false)], None));
    }

    #[test]
    fn a_batch_ends_at_its_limit() {
        let input: String = (0..2_500).map(|number| format!("{number}\n")).collect();
        let (batches, failure) = read(input.as_bytes());
        assert_eq!(failure, None);
        let sizes: Vec<_> = batches.iter().map(|(lines, _)| lines.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        assert!(batches.iter().all(|(_, distinct)| *distinct));
    }

    #[test]
    fn a_line_that_cannot_be_sent_is_named_by_its_number() {
        let long = [&b"ok\n"[..], &[b'x'; 8_000], b"\n"].concat();
        let longest = [&[b'x'; 7_999][..], b"\n"].concat();
        let ok = vec![(lines(&["ok"]), true)];
        assert_eq!(
            read(&long),
            (ok.clone(), Some("line 2: payload is longer than 7,999 bytes".to_owned()))
        );
        assert_eq!(read(&longest).1, None);
        assert_eq!(
            read(b"ok\na\0\n"),
            (ok.clone(), Some("line 2: payload has a NUL at byte 1".to_owned()))
        );
        assert_eq!(
            read(b"ok\n\xff\n"),
            (ok, Some("line 2: expected UTF-8, found something else at byte 0".to_owned()))
        );
    }
}
