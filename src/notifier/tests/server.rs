//! A simulated server: it takes bytes, and executes the transactions that are complete.

use std::collections::{HashSet, VecDeque};

/// The beginning of payloads that the server refuses.
pub(in crate::notifier) const INVALID: &str = "invalid";

/// A channel and a payload.
pub(in crate::notifier) type Pair = (String, String);

/// ParseComplete, BindComplete, RowDescription, DataRow, CommandComplete, ReadyForQuery.
const DONE: &[u8] =
    b"1\0\0\0\x042\0\0\0\x04T\0\0\0\x1a\0\x01c\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
    D\0\0\0\x0a\0\x01\0\0\0\0C\0\0\0\x0dSELECT 1\0Z\0\0\0\x05I";
const INVALID_ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C22P05\0Mno\0\0Z\0\0\0\x05I";
const FULL_ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C54000\0Mno\0\0Z\0\0\0\x05I";
const STANDBY_ERROR: &[u8] = b"E\0\0\0\x17SERROR\0C25006\0Mno\0\0Z\0\0\0\x05I";
const FATAL: &[u8] = b"E\0\0\0\x17SFATAL\0C57P01\0Mno\0\0";

/// How the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::notifier) enum Mood {
    Normal,
    /// Its notification queue is full.
    Full,
    /// It executes nothing.
    Silent,
    /// It has become a standby.
    Standby,
}

/// A transaction that was executed.
#[derive(Debug)]
pub(in crate::notifier) struct Executed {
    pub(in crate::notifier) session: u64,
    /// All pairs of the statement.
    pub(in crate::notifier) pairs: Vec<Pair>,
    pub(in crate::notifier) is_committed: bool,
}

impl Executed {
    /// Returns what listeners receive: equal pairs once.
    pub(in crate::notifier) fn delivered(&self) -> Vec<&Pair> {
        let mut seen = HashSet::new();
        let pairs = self.pairs.iter().filter(|_| self.is_committed);
        pairs.filter(|pair| seen.insert(*pair)).collect()
    }
}

/// One session of the server.
#[derive(Debug)]
pub(in crate::notifier) struct ServerSession {
    number: u64,
    input: Vec<u8>,
    /// Transactions that were received completely, and are not executed yet.
    received: VecDeque<Vec<Pair>>,
    /// The parameters of the last Bind.
    bound: Vec<Pair>,
    pub(in crate::notifier) output: VecDeque<u8>,
}

impl ServerSession {
    pub(in crate::notifier) fn new(number: u64) -> Self {
        Self {
            number,
            input: Vec::new(),
            received: VecDeque::new(),
            bound: Vec::new(),
            output: VecDeque::new(),
        }
    }

    /// Takes bytes of the client. Returns the pairs of all transactions that are complete now.
    pub(in crate::notifier) fn take(&mut self, bytes: &[u8]) -> Vec<Vec<Pair>> {
        self.input.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let Some(length) = self.input.get(1..5) {
            let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.input.len() <= length {
                break;
            }
            let frame: Vec<u8> = self.input.drain(..=length).collect();
            match frame[0] {
                b'B' => self.bound = pairs_of(&frame[5..]),
                b'S' => {
                    let pairs = std::mem::take(&mut self.bound);
                    complete.push(pairs.clone());
                    self.received.push_back(pairs);
                }
                _ => {}
            }
        }
        complete
    }

    pub(in crate::notifier) fn has_work(&self) -> bool {
        !self.received.is_empty()
    }

    /// Executes the next transaction.
    pub(in crate::notifier) fn execute(&mut self, mood: Mood) -> Option<Executed> {
        if mood == Mood::Silent {
            return None;
        }
        let pairs = self.received.pop_front()?;
        let is_invalid = pairs.iter().any(|(_, payload)| payload.starts_with(INVALID));
        let (answer, is_committed) = match mood {
            _ if is_invalid => (INVALID_ERROR, false),
            Mood::Full => (FULL_ERROR, false),
            Mood::Standby => (STANDBY_ERROR, false),
            _ => (DONE, true),
        };
        self.output.extend(answer);
        Some(Executed { session: self.number, pairs, is_committed })
    }

    /// Cancels what is executed.
    pub(in crate::notifier) fn cancel(&mut self) {
        self.received.pop_front();
    }

    pub(in crate::notifier) fn terminate(&mut self) {
        self.output.extend(FATAL);
    }
}

/// Returns the notifications of a Bind message.
fn pairs_of(body: &[u8]) -> Vec<Pair> {
    // The names of portal and statement are empty, and no formats follow: text for all.
    let mut at = 6;
    let mut value = || {
        let length = u32::from_be_bytes(body[at..at + 4].try_into().unwrap()) as usize;
        at += 4 + length;
        String::from_utf8(body[at - length..at].to_vec()).unwrap()
    };
    let (channels, payloads) = (value(), value());
    if channels.starts_with('{') {
        elements(&channels).into_iter().zip(elements(&payloads)).collect()
    } else {
        vec![(channels, payloads)]
    }
}

/// Returns the elements of an array literal: all are quoted, and have no quotes or backslashes inside.
fn elements(literal: &str) -> Vec<String> {
    literal.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}
