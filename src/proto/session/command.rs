//! Commands in flight, and the parts of their answers that have arrived.

use std::time::{Duration, Instant};

use super::rows::Rows;
use super::violation::Violation;
use crate::config::RESULT_LIMIT_BYTES_DEFAULT;
use crate::error::{Error, ErrorKind};
use crate::proto::wire::{BackendMessage, DbError, Diagnostic, LongMessage, TransactionStatus};

/// The time that is allowed for one comparison of two names, in nanoseconds: ten times what a server needs.
const COMPARISON_NANOSECONDS: u64 = 20;

/// The number of comparisons for which no time is added.
const COMPARISONS_FREE: u64 = 10_000_000;

/// The longest time that is added for comparisons, so that a half-open connection is noticed.
const QUIET_TIME_MAX: Duration = Duration::from_secs(300);

/// The highest number of messages in the answer to one statement, except its rows: four, and some that poolers may add.
const MESSAGES_BESIDE_ROWS: usize = 8;

/// The SQLSTATE of the notice that an identifier was cut.
const NAME_TOO_LONG: &str = "42622";

/// The number of a command of one session. A later command has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(super) u64);

/// The default limit of the result of one command in bytes: 64 MiB.
///
/// pgbell is a listener, not a query driver: a larger result is refused, and the session goes on.
pub const RESULT_BYTES_MAX: usize = RESULT_LIMIT_BYTES_DEFAULT;

/// The kind of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CommandKind {
    /// SQL in a Query message.
    Simple,
    /// One statement with bound parameters.
    Bound,
    /// A statement of our own that returns no rows, and that may be carried out twice.
    Utility(&'static str),
    /// LISTEN for these channels, in one Query.
    Listen(Vec<String>),
    /// UNLISTEN for these channels, in one Query.
    Unlisten(Vec<String>),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// UNLISTEN for names that the server cuts or may cut, then LISTEN for the channels that this may end.
    Undo { names: Vec<String>, kept: Vec<String> },
}

impl CommandKind {
    /// Returns the name of the command for error messages.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Simple => "a query",
            Self::Bound => "a query with parameters",
            Self::Utility(sql) => sql,
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) | Self::UnlistenAll | Self::Undo { .. } => "UNLISTEN",
        }
    }

    /// Returns the number of `UNLISTEN` completions in the answer, and of `LISTEN` completions after them.
    fn completions(&self) -> Option<(usize, usize)> {
        match self {
            Self::Simple | Self::Bound | Self::Utility(_) => None,
            Self::Listen(channels) => Some((0, channels.len())),
            Self::Unlisten(channels) => Some((channels.len(), 0)),
            Self::UnlistenAll => Some((1, 0)),
            Self::Undo { names, kept } => Some((names.len(), kept.len())),
        }
    }

    /// Returns the time that is added to the timeout of this command, in a session that listens to `known` channels.
    /// The server compares the name of each LISTEN and UNLISTEN with all of them, and sends nothing meanwhile.
    pub(super) fn quiet_time(&self, known: usize) -> Duration {
        let (Self::Listen(channels) | Self::Unlisten(channels)) = self else {
            return Duration::ZERO;
        };
        let names = channels.len() as u64;
        let compared = names.saturating_mul(names.saturating_add(known as u64));
        let time = compared.saturating_sub(COMPARISONS_FREE).saturating_mul(COMPARISON_NANOSECONDS);
        Duration::from_nanos(time).min(QUIET_TIME_MAX)
    }

    /// Returns the channels of a LISTEN or UNLISTEN.
    pub(super) fn into_channels(self) -> Vec<String> {
        match self {
            Self::Listen(channels) | Self::Unlisten(channels) => channels,
            Self::Undo { names, .. } => names,
            Self::Simple | Self::Bound | Self::Utility(_) | Self::UnlistenAll => Vec::new(),
        }
    }

    /// Returns true for SQL of the user.
    fn is_query(&self) -> bool {
        matches!(self, Self::Simple | Self::Bound)
    }

    /// Returns true if the command may be carried out twice. Then it is never in doubt, and its answer has a deadline.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.is_query()
    }
}

/// A command in flight, with the part of its answer that has arrived.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CommandId,
    pub(super) kind: CommandKind,
    /// The number of bytes queued up to the end of its last message before the Sync. With that message the server carries
    /// it out: a COMMIT takes effect without the Sync.
    end: u64,
    /// The deadline of the answer. It is set when the command is the oldest one.
    pub(super) deadline: Option<Instant>,
    rows: Option<Rows>,
    results: Vec<Rows>,
    completed: usize,
    size: usize,
    /// The largest answer, in bytes.
    size_max: usize,
    /// The number of messages that the answer may still have.
    messages_left: Option<usize>,
    copying_out: bool,
    /// True after CopyFail was sent: the server may only send its error.
    copy_refused: bool,
    /// True if no transaction may be open after the answer.
    must_commit: bool,
    refusal: Option<Error>,
    /// The notice that the server has cut a name of a LISTEN.
    cut: Option<DbError>,
}

/// The answer to a command: a result for each statement.
pub type Answer = Result<Vec<Rows>, Error>;

/// The action that the session must take after a message of an answer.
pub(super) enum AnswerAction {
    /// Nothing.
    Wait,
    /// Send CopyFail, because the server has asked for COPY data. In the extended protocol it has skipped the Sync after
    /// the command, and needs another one.
    RefuseCopy { sync: bool },
}

/// The action for a long message of an answer.
pub(super) enum LongAction {
    /// Take the whole message, because the result may be as long.
    Take,
    /// Skip it.
    Skip,
}

impl Pending {
    /// Creates a command in flight. Its answer may have at most `size_max` bytes.
    pub(super) fn new(id: CommandId, kind: CommandKind, end: u64, size_max: usize) -> Self {
        Self {
            id,
            kind,
            end,
            deadline: None,
            rows: None,
            results: Vec::new(),
            completed: 0,
            size: 0,
            size_max,
            messages_left: None,
            copying_out: false,
            copy_refused: false,
            must_commit: false,
            refusal: None,
            cut: None,
        }
    }

    /// Limits the answer to `bytes`. A larger one is refused.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.size_max = bytes;
    }

    /// Limits the answer to `rows` rows. More rows are a protocol violation.
    pub(super) fn limit_rows(&mut self, rows: usize) {
        self.messages_left = Some(rows.saturating_add(MESSAGES_BESIDE_ROWS));
    }

    /// Counts a message of the answer.
    fn count_message(&mut self) -> Result<(), Violation> {
        if let Some(left) = self.messages_left {
            let left = left.checked_sub(1);
            self.messages_left = Some(left.ok_or_else(|| Violation::endless(self.kind.name()))?);
        }
        Ok(())
    }

    /// Makes an answer that leaves a transaction open a protocol violation.
    pub(super) fn require_commit(&mut self) {
        self.must_commit = true;
    }

    /// Decides about a long message at its header. It is called until the whole message has arrived, if it is taken.
    pub(super) fn handle_long(&mut self, long: LongMessage) -> Result<LongAction, Violation> {
        let is_query = self.kind.completions().is_none();
        let goes_on = is_query && !self.refused_by_server() && !self.copy_refused;
        match long.tag {
            b'd' if goes_on && self.copying_out => return Ok(LongAction::Skip),
            b'D' if goes_on && self.rows.is_some() => {}
            b'T' if goes_on && self.rows.is_none() => {}
            _ => return Err(Violation::misplaced(long.name, self.kind.name())),
        }
        let room = self.size_max.saturating_sub(self.size);
        if self.refusal.is_none() && long.body_bytes() <= room {
            return Ok(LongAction::Take);
        }
        self.count_message()?;
        if long.tag == b'T' {
            self.rows = Some(Rows::default());
        }
        self.grow(long.body_bytes());
        Ok(LongAction::Skip)
    }

    /// Handles one message of the answer, except ReadyForQuery.
    pub(super) fn handle(
        &mut self,
        message: &BackendMessage<'_>,
    ) -> Result<AnswerAction, Violation> {
        self.count_message()?;
        let unexpected = || Violation::unexpected(message, self.kind.name());
        if self.refused_by_server() || self.copy_refused {
            // After an error the server skips to the end of the command, so only ReadyForQuery may follow.
            // Each CopyInResponse is answered, so only one is accepted for a command. Otherwise a peer that does not read
            // could fill the memory with answers.
            return Err(unexpected());
        }
        match (message, self.kind.completions()) {
            (BackendMessage::CommandComplete { tag }, Some((unlistens, listens))) => {
                let expected: &[u8] =
                    if self.completed < unlistens { b"UNLISTEN" } else { b"LISTEN" };
                if *tag != expected || self.completed == unlistens.saturating_add(listens) {
                    return Err(unexpected());
                }
                self.completed = self.completed.saturating_add(1);
            }
            (_, Some(_)) => return Err(unexpected()),
            (BackendMessage::CommandComplete { tag }, None) => {
                let rows = self.rows.take().unwrap_or_default();
                self.copying_out = false;
                self.finish(rows.complete(tag));
            }
            (BackendMessage::EmptyQueryResponse, None) if self.rows.is_none() => {
                self.finish(Rows::default());
            }
            (BackendMessage::RowDescription { columns }, None) if self.rows.is_none() => {
                let rows = Rows::new(*columns);
                self.grow(rows.size_of_columns());
                self.rows = Some(rows);
            }
            (BackendMessage::DataRow { values }, None) => {
                // N55: a row that is shorter than its description is an error.
                let rows = self.rows.as_mut().ok_or_else(unexpected)?;
                let before = rows.size();
                if self.refusal.is_none() {
                    if !rows.push(*values) {
                        return Err(Violation::row_shape(values.len(), rows.columns().len()));
                    }
                    let grown = rows.size().saturating_sub(before);
                    self.grow(grown);
                }
            }
            (
                BackendMessage::ParseComplete
                | BackendMessage::BindComplete
                | BackendMessage::CloseComplete
                | BackendMessage::NoData
                | BackendMessage::ParameterDescription { .. },
                None,
            ) if self.kind == CommandKind::Bound => {}
            (BackendMessage::CopyInResponse(_), None) => {
                self.copy_refused = true;
                self.refuse(Error::new(ErrorKind::Unsupported, "COPY FROM STDIN is not supported"));
                return Ok(AnswerAction::RefuseCopy { sync: self.kind == CommandKind::Bound });
            }
            (BackendMessage::CopyOutResponse(_), None) => {
                self.copying_out = true;
                self.refuse(Error::new(ErrorKind::Unsupported, "COPY TO STDOUT is not supported"));
            }
            // The data of a refused result is skipped, as its rows are.
            (BackendMessage::CopyData(_) | BackendMessage::CopyDone, None) if self.copying_out => {}
            _ => return Err(unexpected()),
        }
        Ok(AnswerAction::Wait)
    }

    /// Handles a notice that came with the answer.
    pub(super) fn handle_notice(&mut self, notice: &DbError) {
        if matches!(self.kind, CommandKind::Listen(_)) && notice.code() == NAME_TOO_LONG {
            self.cut.get_or_insert_with(|| notice.clone());
        }
    }

    /// Returns true if the server listens to a name that it has cut.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some() && self.refusal.is_none()
    }

    /// Handles an error of the server. For a query it is kept whole. For a channel it is shortened, because it is kept
    /// as long as the channel is refused.
    pub(super) fn handle_error(&mut self, error: Diagnostic<'_>) {
        let (refused, error) = match self.kind.is_query() {
            true => ("the query", DbError::from(error)),
            false => (self.kind.name(), DbError::brief(error)),
        };
        self.rows = None;
        self.refusal = Some(Error::server(format!("the server refused {refused}"), error));
    }

    /// Checks at ReadyForQuery that the answer is complete, and that the command is committed if it must be.
    pub(super) fn check_complete(&self, status: TransactionStatus) -> Result<(), Violation> {
        if self.must_commit && status != TransactionStatus::Idle {
            return Err(Violation::uncommitted(self.kind.name()));
        }
        let complete = match self.kind.completions() {
            _ if self.refusal.is_some() => true,
            Some((unlistens, listens)) => self.completed == unlistens.saturating_add(listens),
            // Even an empty query is answered with EmptyQueryResponse.
            None => self.rows.is_none() && !self.results.is_empty(),
        };
        if complete { Ok(()) } else { Err(Violation::incomplete(self.kind.name())) }
    }

    /// Returns the kind of the command and its answer.
    pub(super) fn end(self) -> (CommandKind, Answer) {
        let cut = self.cut.map(|notice| {
            Error::server("the server cuts the name of the channel", notice).with_hint(
                "a name may have 63 bytes in the encoding of the database, which are more than in UTF-8",
            )
        });
        let answer = match self.refusal.or(cut) {
            Some(error) => Err(error),
            None => Ok(self.results),
        };
        (self.kind, answer)
    }

    /// Returns the result if the session ends before the answer. `written` is the number of queued bytes that were written.
    #[cold]
    pub(super) fn outcome(&self, written: u64, error: &Error) -> Error {
        if self.kind.is_repeatable() {
            return error.clone();
        }
        let (kind, message) = if self.end > written {
            (
                ErrorKind::Connect,
                "the connection was lost before the query was sent, so it was not carried out",
            )
        } else {
            (
                ErrorKind::InDoubt,
                "the connection was lost before the server answered, and the query may have been carried out",
            )
        };
        Error::caused(kind, message, error.clone())
    }

    fn refused_by_server(&self) -> bool {
        self.refusal.as_ref().is_some_and(|refusal| refusal.db_error().is_some())
    }

    fn finish(&mut self, rows: Rows) {
        self.grow(size_of::<Rows>().saturating_add(rows.command_tag().len()));
        if self.refusal.is_none() {
            self.results.push(rows);
        }
    }

    fn grow(&mut self, bytes: usize) {
        self.size = self.size.saturating_add(bytes);
        if self.size > self.size_max {
            let bytes = self.size_max;
            self.refuse(Error::new(
                ErrorKind::Unsupported,
                format!("the result is larger than {bytes} bytes"),
            ));
        }
    }

    /// Refuses the answer with an error of ours. What the server still sends for it is skipped.
    fn refuse(&mut self, error: Error) {
        self.results.clear();
        if let Some(rows) = &mut self.rows {
            rows.clear();
        }
        self.refusal.get_or_insert(error);
    }
}
