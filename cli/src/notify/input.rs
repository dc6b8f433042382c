//! [`Input`]: the notifications that are in stdin or in a file.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use pgbell::proto::wire::limits::PAYLOAD_BYTES_MAX;
use pgbell::proto::wire::{check_channel, check_payload};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::numbers::grouped;

/// The largest number of notifications in one transaction.
const BATCH_MAX: usize = 1_000;

/// The longest record of `listen --format json`: the longest channel and payload, each byte of them an escape of six.
const RECORD_BYTES_MAX: usize = 64 * 1024;

/// How the input is divided into notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Null,
    Whole,
    JsonRecords,
}

/// The channel and what is put before each payload.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// `None`: the records have their channels.
    pub(super) channel: Option<String>,
    /// The topic and its separator, or nothing.
    pub(super) prefix: String,
    /// What is put between the topic of a record and its payload.
    pub(super) separator: char,
}

/// Notifications that are sent together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Batch {
    /// Channels and payloads.
    pub(super) pairs: Vec<(String, String)>,
    /// Whether no two of them are equal, so that they can share a transaction.
    pub(super) is_distinct: bool,
    /// Records of losses before and between them.
    pub(super) losses: u64,
}

pub(super) type Batches = mpsc::Sender<Result<Batch, Failure>>;

/// Reads the input, to the end or to the first part that cannot be sent, in batches of what is available. So a line of a
/// slow writer is sent at once, and lines of a fast writer are sent together.
pub(super) fn read(path: Option<&Path>, form: Form, address: &Address, batches: &Batches) {
    match path {
        None => read_from(io::stdin().lock(), form, address, batches),
        Some(path) => match File::open(path) {
            Ok(file) => read_from(file, form, address, batches),
            Err(error) => {
                let message = format!("cannot open {}: {error}", path.display());
                // An error means that the sender has ended.
                let _ = batches.blocking_send(Err(Failure::new(Exit::Usage, message)));
            }
        },
    }
}

fn read_from(input: impl Read, form: Form, address: &Address, batches: &Batches) {
    let mut input = Input {
        input: BufReader::with_capacity(64 * 1024, input),
        form,
        address,
        number: 0,
        hasher: RandomState::new(),
    };
    loop {
        let (batch, end) = input.batch();
        let has_some = !batch.pairs.is_empty() || batch.losses > 0;
        // An error means that the sender has ended.
        if has_some && batches.blocking_send(Ok(batch)).is_err() {
            return;
        }
        match end {
            Some(Ok(())) => return,
            Some(Err(failure)) => {
                let _ = batches.blocking_send(Err(failure));
                return;
            }
            None => {}
        }
    }
}

struct Input<'a, R> {
    input: BufReader<R>,
    form: Form,
    address: &'a Address,
    /// The number of the part that was read last, from 1.
    number: u64,
    hasher: RandomState,
}

/// One part of the input.
enum Part {
    Pair(String, String),
    /// The record of a loss.
    Loss,
    End,
}

impl<R: Read> Input<'_, R> {
    /// Returns what is available, and the end of the input with its failure if there is one.
    fn batch(&mut self) -> (Batch, Option<Result<(), Failure>>) {
        let mut batch = Batch { pairs: Vec::new(), is_distinct: true, losses: 0 };
        let mut seen = HashSet::new();
        loop {
            match self.part() {
                Ok(Part::Pair(channel, payload)) => {
                    // Two with the same hash count as equal: that costs time, but loses none.
                    batch.is_distinct &= seen.insert(self.hasher.hash_one((&channel, &payload)));
                    batch.pairs.push((channel, payload));
                }
                Ok(Part::Loss) => batch.losses += 1,
                Ok(Part::End) => return (batch, Some(Ok(()))),
                Err(failure) => return (batch, Some(Err(failure))),
            }
            let is_available = self.input.buffer().contains(&self.separator());
            if batch.pairs.len() >= BATCH_MAX || !is_available {
                return (batch, None);
            }
        }
    }

    fn separator(&self) -> u8 {
        if self.form == Form::Null { 0 } else { b'\n' }
    }

    fn part(&mut self) -> Result<Part, Failure> {
        let is_whole = self.form == Form::Whole;
        if is_whole && self.number > 0 {
            return Ok(Part::End);
        }
        self.number += 1;
        let longest = match self.form {
            Form::JsonRecords => RECORD_BYTES_MAX,
            _ => PAYLOAD_BYTES_MAX,
        };
        // One byte more is the end, or too much.
        let limit = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        let separator = self.separator();
        let mut limited = (&mut self.input).take(limit);
        let read = match is_whole {
            true => limited.read_to_end(&mut bytes),
            false => limited.read_until(separator, &mut bytes),
        };
        let read =
            read.map_err(|error| self.failure(Exit::Runtime, &format!("cannot read: {error}")))?;
        if read == 0 && !is_whole {
            return Ok(Part::End);
        }
        if !is_whole && bytes.last() == Some(&separator) {
            bytes.pop();
        }
        if bytes.len() > longest {
            let limit = grouped(u64::try_from(longest).unwrap_or(u64::MAX));
            let what = if self.form == Form::JsonRecords { "record" } else { "payload" };
            return Err(self.failure(Exit::Usage, &format!("{what} is longer than {limit} bytes")));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            let message = format!("expected UTF-8, found something else at byte {at}");
            self.failure(Exit::Usage, &message)
        })?;
        let (channel, payload) = match self.form {
            Form::JsonRecords => match record(&text, self.address) {
                Ok(Some(pair)) => pair,
                Ok(None) => return Ok(Part::Loss),
                Err(why) => return Err(self.failure(Exit::Usage, &why)),
            },
            _ => (String::new(), text),
        };
        let channel = self.address.channel.clone().unwrap_or(channel);
        let payload = if self.address.prefix.is_empty() {
            payload
        } else {
            format!("{}{payload}", self.address.prefix)
        };
        let refused = |error: &dyn std::fmt::Display| self.failure(Exit::Usage, &error.to_string());
        check_channel(&channel).map_err(|error| refused(&error))?;
        check_payload(&payload).map_err(|error| refused(&error))?;
        Ok(Part::Pair(channel, payload))
    }

    /// A failure with the number of the part that was read last.
    fn failure(&self, exit: Exit, why: &str) -> Failure {
        let number = grouped(self.number);
        Failure::new(
            exit,
            match self.form {
                Form::Whole => why.to_owned(),
                Form::Lines | Form::JsonRecords => format!("line {number}: {why}"),
                Form::Null => format!("part {number}: {why}"),
            },
        )
    }
}

/// Parses a record of `listen --format json`. Returns `None` for that of a loss.
fn record(text: &str, address: &Address) -> Result<Option<(String, String)>, String> {
    #[derive(Deserialize)]
    struct Record {
        event: Option<String>,
        channel: Option<String>,
        payload: Option<String>,
        topic: Option<String>,
    }
    let record: Record = serde_json::from_str(text)
        .map_err(|error| format!("expected a record of listen --format json: {error}"))?;
    match record {
        Record { event: Some(_), .. } => Ok(None),
        // `listen --topic` has taken the topic out of the payload.
        Record { channel: Some(channel), payload: Some(payload), topic: Some(topic), .. }
            if address.prefix.is_empty() =>
        {
            Ok(Some((channel, format!("{topic}{}{payload}", address.separator))))
        }
        Record { channel: Some(channel), payload: Some(payload), .. } => {
            Ok(Some((channel, payload)))
        }
        _ => Err("expected a record with a channel and a payload".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address() -> Address {
        Address { channel: Some("c".to_owned()), prefix: String::new(), separator: ':' }
    }

    /// Returns the payloads of each batch, whether they are distinct, and the failure at the end.
    fn read_as(
        form: Form,
        address: &Address,
        input: &[u8],
    ) -> (Vec<(Vec<String>, bool)>, Option<String>) {
        let (batches, mut inbox) = mpsc::channel(64);
        read_from(input, form, address, &batches);
        drop(batches);
        let (mut found, mut failure) = (Vec::new(), None);
        while let Some(batch) = inbox.blocking_recv() {
            match batch {
                Ok(batch) => {
                    let payloads = batch.pairs.into_iter().map(|(_, payload)| payload).collect();
                    found.push((payloads, batch.is_distinct));
                }
                Err(error) => failure = Some(error.message().to_owned()),
            }
        }
        (found, failure)
    }

    fn lines_of(input: &[u8]) -> (Vec<(Vec<String>, bool)>, Option<String>) {
        read_as(Form::Lines, &address(), input)
    }

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_line_is_a_payload() {
        assert_eq!(lines_of(b""), (vec![], None));
        assert_eq!(lines_of(b"a\n\nb\r\n"), (vec![(texts(&["a", "", "b\r"]), true)], None));
        assert_eq!(
            lines_of(b"a\nb"),
            (vec![(texts(&["a"]), true), (texts(&["b"]), true)], None),
            "the last line has no end"
        );
    }

    #[test]
    fn parts_that_end_with_nul_may_have_lines_and_the_whole_is_one() {
        assert_eq!(
            read_as(Form::Null, &address(), b"a\nb\0\0c\0"),
            (vec![(texts(&["a\nb", "", "c"]), true)], None)
        );
        assert_eq!(
            read_as(Form::Whole, &address(), b"a\nb\n"),
            (vec![(texts(&["a\nb\n"]), true)], None)
        );
        assert_eq!(read_as(Form::Whole, &address(), b""), (vec![(texts(&[""]), true)], None));
        let long = read_as(Form::Whole, &address(), &[b'x'; 8_000]);
        assert_eq!(long, (vec![], Some("payload is longer than 7,999 bytes".to_owned())));
    }

    #[test]
    fn records_have_their_channels_and_losses_are_counted() {
        let input = b"{\"channel\":\"a\",\"payload\":\"1\\u0000\".\n";
        let all = Address { channel: None, prefix: "t:".to_owned(), separator: ':' };
        let failure = read_as(Form::JsonRecords, &all, input).1.unwrap();
        assert!(
            failure.starts_with("line 1: expected a record of listen --format json: "),
            "{failure}"
        );
        let input = b"{\"event\":\"gap\",\"cause\":\"x\"}\n{\"channel\":\"a\",\"payload\":\"1\",\"epoch\":1}\n{\"channel\":\"\",\"payload\":\"\"}\n";
        let (batches, mut inbox) = mpsc::channel(64);
        read_from(&input[..], Form::JsonRecords, &all, &batches);
        let batch = inbox.blocking_recv().unwrap().unwrap();
        let pairs = vec![("a".to_owned(), "t:1".to_owned())];
        assert_eq!(batch, Batch { pairs, is_distinct: true, losses: 1 });
        let failure = inbox.blocking_recv().unwrap().unwrap_err();
        assert_eq!(failure.message(), "line 3: channel name is empty: 1 to 63 bytes");
        let failure = read_as(Form::JsonRecords, &all, b"{}\n").1;
        assert_eq!(
            failure.as_deref(),
            Some("line 1: expected a record with a channel and a payload")
        );
    }

    #[test]
    fn a_record_has_its_topic_again() {
        let record = b"{\"channel\":\"a\",\"payload\":\"1\",\"topic\":\"eu\"}\n";
        let (plain, other) = (address(), Address { prefix: "us:".to_owned(), ..address() });
        assert_eq!(read_as(Form::JsonRecords, &plain, record).0[0].0, ["eu:1"]);
        // Another topic replaces it.
        assert_eq!(read_as(Form::JsonRecords, &other, record).0[0].0, ["us:1"]);
    }

    #[test]
    fn equal_lines_do_not_share_a_transaction() {
        assert_eq!(lines_of(b"a\na\n"), (vec![(texts(&["a", "a"]), false)], None));
    }

    #[test]
    fn a_batch_ends_at_its_limit() {
        let input: String = (0..2_500).map(|number| format!("{number}\n")).collect();
        let (batches, failure) = lines_of(input.as_bytes());
        assert_eq!(failure, None);
        let sizes: Vec<_> = batches.iter().map(|(lines, _)| lines.len()).collect();
        assert_eq!(sizes, [1_000, 1_000, 500]);
        assert!(batches.iter().all(|(_, is_distinct)| *is_distinct));
    }

    #[test]
    fn a_line_that_cannot_be_sent_is_named_by_its_number() {
        let long = [&b"ok\n"[..], &[b'x'; 8_000], b"\n"].concat();
        let longest = [&[b'x'; 7_999][..], b"\n"].concat();
        let ok = vec![(texts(&["ok"]), true)];
        assert_eq!(
            lines_of(&long),
            (ok.clone(), Some("line 2: payload is longer than 7,999 bytes".to_owned()))
        );
        assert_eq!(lines_of(&longest).1, None);
        let with_topic = Address { prefix: "t:".to_owned(), ..address() };
        let failure = read_as(Form::Lines, &with_topic, &longest).1.unwrap();
        assert!(failure.starts_with("line 1: payload is 8001 bytes long"), "{failure}");
        assert_eq!(
            lines_of(b"ok\na\0\n"),
            (ok.clone(), Some("line 2: payload has a NUL at byte 1".to_owned()))
        );
        assert_eq!(
            lines_of(b"ok\n\xff\n"),
            (ok, Some("line 2: expected UTF-8, found something else at byte 0".to_owned()))
        );
    }
}
