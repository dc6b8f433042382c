//! One side of a conversation, byte for byte.

mod computed;
mod delivery;
mod hex;
mod mismatch;
#[cfg(feature = "tokio")]
mod serve;
mod transcript;

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use self::computed::Computed;
use self::mismatch::Side;
use crate::proto::wire::{FirstPacket, Framer, StartupPacket};

pub use delivery::Delivery;
pub use mismatch::Mismatch;

/// The steps of one side of a conversation: the bytes that it expects and sends.
///
/// A script is made with a chain of calls, or parsed from a transcript. It plays the server; a
/// [`reversed`](Self::reversed) script plays the client.
///
/// It only knows where a message ends, so it can send what no PostgreSQL server would send.
///
/// ```
/// use pgbell::testing::Script;
///
/// // A server without authentication that accepts one LISTEN and sends a notification with a length of 3.
/// let script = Script::listening().send_hex("41 00000003").wait_for_eof();
/// # let _ = script;
/// ```
///
/// The text form is a transcript: `C>` and `S>` name the side that sends, bytes are hexadecimal, with blanks
/// anywhere, `#` begins a comment.
///
/// ```text
/// C> startup                # any StartupMessage
/// S> 52 00000008 00000000
/// S> 5a 00000005 49
/// C> 58 00000004
/// C> eof
/// ```
#[derive(Debug, Clone)]
pub struct Script {
    steps: VecDeque<ScriptStep>,
    /// The number of finished steps.
    done: usize,
    /// The bytes that each finished `Expect` step received, for computed steps.
    received: Vec<Bytes>,
    side: Side,
    /// The problem of an invalid step. The first [`step`](Self::step) returns it.
    fault: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum ScriptStep {
    Expect(Expected),
    Send(Bytes),
    Compute(Computed),
    Flood(Bytes),
    WaitForEof,
    Close,
    Reset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Bytes(Bytes),
    /// A whole message with this type byte and any content.
    Message(u8),
    /// A StartupMessage with any content.
    Startup,
}

/// The next action for the caller of a [`Script`].
///
/// ```
/// use bytes::BytesMut;
/// use pgbell::testing::{Output, Script};
///
/// let mut script = Script::new().expect(b"ping").send(b"pong").close();
/// let mut input = BytesMut::new();
/// assert_eq!(script.step(&mut input).unwrap(), Output::NeedMore);
/// input.extend_from_slice(b"ping");
/// assert_eq!(script.step(&mut input).unwrap(), Output::Send("pong".into()));
/// assert_eq!(script.step(&mut input).unwrap(), Output::Close);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Read more, then call again with all bytes that were not taken.
    NeedMore,
    /// Write this, then call again.
    Send(Bytes),
    /// Write this again and again until the other side takes nothing more, then call
    /// [`Script::handle_eof`].
    Flood(Bytes),
    /// Wait for the end of the stream, then call [`Script::handle_eof`].
    WaitForEof,
    /// Close the connection in order. The script has ended.
    Close,
    /// Break the connection, with RST where that is possible. The script has ended.
    Reset,
    /// The script has ended.
    Done,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// The answer of a server without authentication to a startup packet: AuthenticationOk,
    /// `client_encoding` UTF8, `server_version` 18.7, process id 7, ReadyForQuery.
    pub const PRELUDE: &[u8] = b"R\0\0\0\x08\0\0\0\0\
        S\0\0\0\x19client_encoding\0UTF8\0\
        S\0\0\0\x18server_version\x0018.7\0\
        K\0\0\0\x0c\0\0\0\x07\0\0\0\x01\
        Z\0\0\0\x05I";

    /// The answer of a server to the first query of a [`Connection`](crate::Connection), which asks for its state:
    /// process id 7, no standby, accepts writes, does not end idle sessions.
    pub const FACTS: &[u8] = b"T\0\0\0\x70\0\x04\
        pid\0\0\0\0\0\0\0\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0\
        in_recovery\0\0\0\0\0\0\0\0\0\0\x10\0\x01\xff\xff\xff\xff\0\0\
        read_only\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
        timeout\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0\
        D\0\0\0\x1c\0\x04\0\0\0\x017\0\0\0\x01f\0\0\0\x03off\0\0\0\x010\
        C\0\0\0\x0dSELECT 1\0\
        Z\0\0\0\x05I";

    /// The answer of a server to one LISTEN.
    pub const ACK: &[u8] = b"C\0\0\0\x0bLISTEN\0Z\0\0\0\x05I";

    /// A notification of process 1, channel `a`, payload `b`.
    pub const A1: &[u8] = b"A\0\0\0\x0c\0\0\0\x01a\0b\0";

    /// A server that does nothing.
    #[must_use]
    pub fn new() -> Self {
        let (steps, received) = (VecDeque::new(), Vec::new());
        Self { steps, done: 0, received, side: Side::Server, fault: None }
    }

    /// A server that lets any client log in. A bare session needs no more.
    #[must_use]
    pub fn let_in() -> Self {
        Self::new().expect_startup().send(Self::PRELUDE)
    }

    /// A server that lets any client log in and answers with its state: a [`Connection`](crate::Connection) and a
    /// [`Listener`](crate::Listener) ask that first.
    #[must_use]
    pub fn ready() -> Self {
        Self::let_in().expect_message(b'Q').send(Self::FACTS)
    }

    /// A server that lets any client log in and acknowledges one Query as a LISTEN.
    #[must_use]
    pub fn listening() -> Self {
        Self::ready().expect_message(b'Q').send(Self::ACK)
    }

    fn then(mut self, step: ScriptStep) -> Self {
        // A step that expects no bytes would wait without a limit.
        if step != ScriptStep::Expect(Expected::Bytes(Bytes::new())) {
            self.steps.push_back(step);
        }
        self
    }

    /// The other side must send exactly these bytes next.
    #[must_use]
    pub fn expect(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(ScriptStep::Expect(Expected::Bytes(Bytes::copy_from_slice(bytes.as_ref()))))
    }

    /// Like [`expect`](Self::expect), in hexadecimal digits with blanks anywhere.
    #[must_use]
    pub fn expect_hex(self, digits: &str) -> Self {
        self.with_hex(digits, |script, bytes| script.expect(bytes))
    }

    /// The other side must send a whole message with this type byte next.
    #[must_use]
    pub fn expect_message(self, tag: u8) -> Self {
        self.then(ScriptStep::Expect(Expected::Message(tag)))
    }

    /// The other side must send a StartupMessage next.
    #[must_use]
    pub fn expect_startup(self) -> Self {
        self.then(ScriptStep::Expect(Expected::Startup))
    }

    /// Sends these bytes.
    #[must_use]
    pub fn send(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(ScriptStep::Send(Bytes::copy_from_slice(bytes.as_ref())))
    }

    /// Like [`send`](Self::send), in hexadecimal digits with blanks anywhere. Invalid digits are
    /// reported when the script runs.
    #[must_use]
    pub fn send_hex(self, digits: &str) -> Self {
        self.with_hex(digits, |script, bytes| script.send(bytes))
    }

    /// Sends what `answer` returns. Its argument has one item for each earlier step that expected something: the
    /// bytes that arrived. The server's part of SCRAM, for example, depends on the client's nonce.
    ///
    /// ```
    /// use pgbell::testing::Script;
    ///
    /// // The text of the Query is returned as a notice.
    /// let script = Script::ready().expect_message(b'Q').send_with(|received| {
    ///     let query = received[1][5..].to_vec();
    ///     let length = (query.len() as u32 + 6).to_be_bytes();
    ///     [b"N", &length[..], b"M", &query, b"\0"].concat()
    /// });
    /// # let _ = script;
    /// ```
    #[must_use]
    pub fn send_with(self, answer: impl Fn(&[Bytes]) -> Vec<u8> + Send + Sync + 'static) -> Self {
        self.then(ScriptStep::Compute(Computed::new(answer)))
    }

    /// Sends these bytes again and again until the other side has closed.
    #[must_use]
    pub fn flood(self, bytes: impl AsRef<[u8]>) -> Self {
        self.then(ScriptStep::Flood(Bytes::copy_from_slice(bytes.as_ref())))
    }

    fn with_hex(mut self, digits: &str, add: impl FnOnce(Self, Vec<u8>) -> Self) -> Self {
        match hex::parse(digits) {
            Ok(bytes) => add(self, bytes),
            Err(problem) => {
                self.fault.get_or_insert(problem);
                self
            }
        }
    }

    /// The other side must close without sending anything more.
    #[must_use]
    pub fn wait_for_eof(self) -> Self {
        self.then(ScriptStep::WaitForEof)
    }

    /// Closes the connection.
    #[must_use]
    pub fn close(self) -> Self {
        self.then(ScriptStep::Close)
    }

    /// Breaks the connection.
    #[must_use]
    pub fn reset(self) -> Self {
        self.then(ScriptStep::Reset)
    }

    /// Returns the same conversation from the other side. A step that expects any message of a kind, or
    /// computes what it sends, cannot be reversed: the script reports it when it runs.
    #[must_use]
    pub fn reversed(mut self) -> Self {
        self.side = self.side.other();
        for step in &mut self.steps {
            *step = match std::mem::replace(step, ScriptStep::Close) {
                ScriptStep::Expect(Expected::Bytes(bytes)) => ScriptStep::Send(bytes),
                ScriptStep::Send(bytes) => ScriptStep::Expect(Expected::Bytes(bytes)),
                ScriptStep::WaitForEof => ScriptStep::Close,
                ScriptStep::Close | ScriptStep::Reset => ScriptStep::WaitForEof,
                unknown @ (ScriptStep::Expect(_)
                | ScriptStep::Compute(_)
                | ScriptStep::Flood(_)) => {
                    let problem = match &unknown {
                        ScriptStep::Expect(_) => "what the client sends is not written out",
                        _ => "what the server sends is not written out",
                    };
                    self.fault.get_or_insert(problem.to_owned());
                    unknown
                }
            };
        }
        self
    }

    /// Returns the same script up to its byte number `sent`. Then it closes, like a server that dies there.
    #[must_use]
    pub fn cut_after(mut self, sent: usize) -> Self {
        let mut left = sent;
        let steps = std::mem::take(&mut self.steps);
        for step in steps {
            match step {
                ScriptStep::Send(bytes) if bytes.len() >= left => {
                    return self.send(bytes.slice(..left)).close();
                }
                ScriptStep::Send(bytes) => {
                    left = left.saturating_sub(bytes.len());
                    self.steps.push_back(ScriptStep::Send(bytes));
                }
                step => self.steps.push_back(step),
            }
        }
        self
    }

    /// Returns how many bytes it sends in all: useful splits are below this number. Computed and flooded bytes
    /// are not counted.
    #[must_use]
    pub fn sent_bytes(&self) -> usize {
        let sent = self.steps.iter().map(|step| match step {
            ScriptStep::Send(bytes) => bytes.len(),
            _ => 0,
        });
        sent.sum()
    }

    /// Takes the bytes that the next step expects from the front of `input`, and returns what to do.
    ///
    /// # Errors
    /// The other side sent something else, or a step is invalid.
    pub fn step(&mut self, input: &mut BytesMut) -> Result<Output, Mismatch> {
        if let Some(fault) = &self.fault {
            return Err(Mismatch::fault(self.done, fault));
        }
        loop {
            let Some(step) = self.steps.front() else { return Ok(Output::Done) };
            let output = match step {
                ScriptStep::Expect(expected) => match self.take(expected, input)? {
                    0 => return Ok(Output::NeedMore),
                    bytes => {
                        let taken = input.split_to(bytes.min(input.len()));
                        self.received.push(taken.freeze());
                        self.finish_step();
                        continue;
                    }
                },
                ScriptStep::Compute(computed) => Output::Send(computed.answer(&self.received)),
                // This step ends when the other side closes.
                ScriptStep::Flood(bytes) => return Ok(Output::Flood(bytes.clone())),
                ScriptStep::WaitForEof if input.is_empty() => return Ok(Output::WaitForEof),
                ScriptStep::WaitForEof => return Err(self.mismatch("end of stream", input)),
                ScriptStep::Send(bytes) => Output::Send(bytes.clone()),
                ScriptStep::Close => Output::Close,
                ScriptStep::Reset => Output::Reset,
            };
            self.finish_step();
            return Ok(output);
        }
    }

    /// Handles the end of the stream; `input` contains the bytes that were not taken. Returns what to do.
    ///
    /// # Errors
    /// The script expects something else.
    pub fn handle_eof(&mut self, input: &[u8]) -> Result<Output, Mismatch> {
        match self.steps.front() {
            Some(ScriptStep::WaitForEof) if input.is_empty() => {
                self.finish_step();
                Ok(if self.steps.is_empty() { Output::Done } else { Output::Close })
            }
            Some(ScriptStep::Expect(expected)) => {
                let found = mismatch::end_after(input, self.side);
                Err(Mismatch::new(self.done, expected.to_text(self.side), found))
            }
            Some(ScriptStep::WaitForEof) => Err(self.mismatch("end of stream", input)),
            Some(
                ScriptStep::Send(_)
                | ScriptStep::Compute(_)
                | ScriptStep::Flood(_)
                | ScriptStep::Close
                | ScriptStep::Reset,
            )
            | None => Ok(Output::Close),
        }
    }

    fn finish_step(&mut self) {
        self.steps.pop_front();
        self.done = self.done.saturating_add(1);
    }

    /// Returns how many bytes of `input` match the expectation; 0 if more bytes must arrive first.
    fn take(&self, expected: &Expected, input: &[u8]) -> Result<usize, Mismatch> {
        let wrong = || self.mismatch(&expected.to_text(self.side), input);
        match expected {
            Expected::Bytes(bytes) if input.starts_with(bytes) => Ok(bytes.len()),
            Expected::Bytes(bytes) if bytes.starts_with(input) => Ok(0),
            Expected::Bytes(_) => Err(wrong()),
            // A wrong message is reported when it is complete, in whatever pieces it arrives.
            Expected::Message(tag) => match self.side.other_framer().next(input) {
                Ok(None) => Ok(0),
                Ok(Some(frame)) if input.first() == Some(tag) => Ok(frame.wire_len()),
                Ok(Some(_)) | Err(_) => Err(wrong()),
            },
            Expected::Startup => {
                let Some(packet) = FirstPacket::next(input).map_err(|_| wrong())? else {
                    return Ok(0);
                };
                match StartupPacket::decode(packet) {
                    Ok(StartupPacket::Startup { .. }) => Ok(packet.wire_len()),
                    _ => Err(wrong()),
                }
            }
        }
    }

    #[cold]
    fn mismatch(&self, expected: &str, found: &[u8]) -> Mismatch {
        let found = mismatch::describe(found, self.side.other());
        Mismatch::new(self.done, expected.to_owned(), found)
    }
}

impl Side {
    fn other_framer(self) -> Framer {
        match self {
            Self::Server => Framer::frontend(),
            Self::Client => Framer::established(),
        }
    }
}

impl Expected {
    fn to_text(&self, side: Side) -> String {
        match self {
            Self::Bytes(bytes) => mismatch::describe(bytes, side.other()),
            Self::Message(tag) => mismatch::message_name(*tag, side.other()),
            Self::Startup => "any StartupMessage".to_owned(),
        }
    }
}
