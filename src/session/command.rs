//! Commands in flight: what was sent, and what its answer has brought so far.

use std::time::{Duration, Instant};

use super::rows::Rows;
use super::violation::Violation;
use crate::config::RESULT_LIMIT_BYTES_DEFAULT;
use crate::wire::{BackendMessage, DbError, Diagnostic, LongMessage, TransactionStatus};
use crate::{Error, ErrorKind};

/// Time for one comparison of two names, in nanoseconds: ten times what a server needs. N161.
const COMPARE_NANOSECONDS: u64 = 20;

/// So many comparisons take no time that matters.
const COMPARED_AT_ONCE: u64 = 10_000_000;

/// Longest time that a command gets for its comparisons: a connection that is dead is noticed in the end.
const QUIET_TIME_MAX: Duration = Duration::from_secs(300);

/// Messages of an answer to one statement, beside its rows: at most four, and some that poolers may add.
const MESSAGES_BESIDE_ROWS: usize = 8;

/// SQLSTATE of the notice that an identifier is cut. N160.
const NAME_TOO_LONG: &str = "42622";

/// Names a command of one session, in the order in which they were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(pub(super) u64);

/// Most bytes that one command may return, unless the session is told otherwise: 64 MiB.
///
/// pgbell is a listener, not a query driver: a larger result is refused, and the session goes on.
pub const RESULT_BYTES_MAX: usize = RESULT_LIMIT_BYTES_DEFAULT;

/// What a command asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// Anything in a Query message.
    Simple,
    /// One statement with bound parameters.
    Bound,
    /// A statement of our own that returns no rows, and does no harm when it is carried out twice.
    Utility(&'static str),
    /// LISTEN on these channels, in one Query.
    Listen(Vec<String>),
    /// UNLISTEN of these channels, in one Query.
    Unlisten(Vec<String>),
    /// `UNLISTEN *`.
    UnlistenAll,
    /// UNLISTEN of names that the server cuts, or may cut, then LISTEN on what that would take away.
    Undo { names: Vec<String>, kept: Vec<String> },
}

impl Kind {
    /// What the server is asked to do, for an error message.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Simple => "a query",
            Self::Bound => "a query with parameters",
            Self::Utility(sql) => sql,
            Self::Listen(_) => "LISTEN",
            Self::Unlisten(_) | Self::UnlistenAll | Self::Undo { .. } => "UNLISTEN",
        }
    }

    /// How many `UNLISTEN` completions are due, and how many `LISTEN` completions behind them.
    fn completions(&self) -> Option<(usize, usize)> {
        match self {
            Self::Simple | Self::Bound | Self::Utility(_) => None,
            Self::Listen(channels) => Some((0, channels.len())),
            Self::Unlisten(channels) => Some((channels.len(), 0)),
            Self::UnlistenAll => Some((1, 0)),
            Self::Undo { names, kept } => Some((names.len(), kept.len())),
        }
    }

    /// For how long the server may say nothing while it carries this out in a session that listens to `known` channels. It
    /// commits each LISTEN and UNLISTEN by comparing its name with all of them. N161.
    pub(super) fn quiet_time(&self, known: usize) -> Duration {
        let (Self::Listen(channels) | Self::Unlisten(channels)) = self else {
            return Duration::ZERO;
        };
        let names = channels.len() as u64;
        let compared = names.saturating_mul(names.saturating_add(known as u64));
        let time = compared.saturating_sub(COMPARED_AT_ONCE).saturating_mul(COMPARE_NANOSECONDS);
        Duration::from_nanos(time).min(QUIET_TIME_MAX)
    }

    /// Whether it is the user's own SQL.
    fn is_query(&self) -> bool {
        matches!(self, Self::Simple | Self::Bound)
    }

    /// Whether it can be carried out twice without harm: then a lost connection leaves no doubt. Its answer has a deadline:
    /// of a query the user decides how long it takes.
    pub(super) fn is_repeatable(&self) -> bool {
        !self.is_query()
    }
}

/// A command that was sent, and the part of its answer that has arrived.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: CommandId,
    pub(super) kind: Kind,
    /// How many bytes were queued up to the end of its last message before the Sync. With that message the server carries
    /// it out: a COMMIT takes effect without the Sync. N154.
    end: u64,
    /// When the answer must be complete. Runs from when the command is the oldest.
    pub(super) deadline: Option<Instant>,
    rows: Option<Rows>,
    results: Vec<Rows>,
    completed: usize,
    size: usize,
    /// Most bytes of an answer.
    size_max: usize,
    /// How many more messages the answer may have.
    messages_left: Option<usize>,
    copying_out: bool,
    /// CopyFail was sent: the server has only its error to say.
    copy_refused: bool,
    /// When it is answered, no transaction may be open.
    must_commit: bool,
    refusal: Option<Error>,
    /// The server has cut a name of a LISTEN.
    cut: Option<DbError>,
}

/// What a command returned: a result for each statement.
pub type Answer = Result<Vec<Rows>, Error>;

/// What the session must do after a message of an answer.
pub(super) enum Next {
    /// Nothing.
    Wait,
    /// Tell the server that no data will come: it asked for COPY data. In the extended protocol it
    /// has passed over the Sync that stood behind the command, and needs another one. N65.
    RefuseCopy { sync: bool },
}

/// What to do about a long message of an answer.
pub(super) enum Long {
    /// The result may be as long: take it whole.
    Take,
    /// Pass over it.
    Skip,
}

impl Pending {
    /// Its answer may have at most so many bytes.
    pub(super) fn new(id: CommandId, kind: Kind, end: u64, size_max: usize) -> Self {
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

    /// An answer of more bytes is refused.
    pub(super) fn limit(&mut self, bytes: usize) {
        self.size_max = bytes;
    }

    /// An answer of more rows breaks the protocol.
    pub(super) fn limit_rows(&mut self, rows: usize) {
        self.messages_left = Some(rows.saturating_add(MESSAGES_BESIDE_ROWS));
    }

    /// One more message of the answer.
    fn count_message(&mut self) -> Result<(), Violation> {
        if let Some(left) = self.messages_left {
            let left = left.checked_sub(1);
            self.messages_left = Some(left.ok_or_else(|| Violation::endless(self.kind.name()))?);
        }
        Ok(())
    }

    /// An answer that leaves a transaction open breaks the protocol.
    pub(super) fn require_commit(&mut self) {
        self.must_commit = true;
    }

    /// A message of the answer begins that is long. Asked until all of it is there, if it is to be taken.
    pub(super) fn handle_long(&mut self, long: LongMessage) -> Result<Long, Violation> {
        let is_query = self.kind.completions().is_none();
        let goes_on = is_query && !self.refused_by_server() && !self.copy_refused;
        match long.tag {
            b'd' if goes_on && self.copying_out => return Ok(Long::Skip),
            b'D' if goes_on && self.rows.is_some() => {}
            b'T' if goes_on && self.rows.is_none() => {}
            _ => return Err(Violation::misplaced(long.name, self.kind.name())),
        }
        let room = self.size_max.saturating_sub(self.size);
        if self.refusal.is_none() && long.body_bytes() <= room {
            return Ok(Long::Take);
        }
        self.count_message()?;
        if long.tag == b'T' {
            self.rows = Some(Rows::default());
        }
        self.grow(long.body_bytes());
        Ok(Long::Skip)
    }

    /// Takes in one message of the answer, ReadyForQuery excepted.
    pub(super) fn handle(&mut self, message: &BackendMessage<'_>) -> Result<Next, Violation> {
        self.count_message()?;
        let unexpected = || Violation::unexpected(message, self.kind.name());
        if self.refused_by_server() || self.copy_refused {
            // After an error the server skips to the end of the command: only ReadyForQuery follows.
            // And each CopyInResponse costs an answer: one a command, or a peer that does not read
            // could make us queue answers without end.
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
            // LISTEN and UNLISTEN return nothing else.
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
                // Not an index: a row that is shorter than its description is an error. N55.
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
            ) if self.kind == Kind::Bound => {}
            (BackendMessage::CopyInResponse(_), None) => {
                self.copy_refused = true;
                self.refuse(Error::new(ErrorKind::Unsupported, "COPY FROM STDIN is not supported"));
                return Ok(Next::RefuseCopy { sync: self.kind == Kind::Bound });
            }
            (BackendMessage::CopyOutResponse(_), None) => {
                self.copying_out = true;
                self.refuse(Error::new(ErrorKind::Unsupported, "COPY TO STDOUT is not supported"));
            }
            // Of a refused result all that comes is passed over, for as long as the server likes: rows too.
            (BackendMessage::CopyData(_) | BackendMessage::CopyDone, None) if self.copying_out => {}
            _ => return Err(unexpected()),
        }
        Ok(Next::Wait)
    }

    /// Takes in a notice that came with the answer.
    pub(super) fn handle_notice(&mut self, notice: &DbError) {
        if matches!(self.kind, Kind::Listen(_)) && notice.code() == NAME_TOO_LONG {
            self.cut.get_or_insert_with(|| notice.clone());
        }
    }

    /// Whether the server listens to another name than one of those that were asked for.
    pub(super) fn is_cut(&self) -> bool {
        self.cut.is_some() && self.refusal.is_none()
    }

    /// Takes in the server's refusal. That of a query is its answer; of a channel it is kept for as long as it
    /// lasts, for each channel.
    pub(super) fn handle_error(&mut self, error: Diagnostic<'_>) {
        let (refused, error) = match self.kind.is_query() {
            true => ("the query", DbError::from(error)),
            false => (self.kind.name(), DbError::brief(error)),
        };
        self.rows = None;
        self.refusal = Some(Error::server(format!("the server refused {refused}"), error));
    }

    /// ReadyForQuery came: whether the answer is complete, and the command committed if it must be.
    pub(super) fn check_complete(&self, status: TransactionStatus) -> Result<(), Violation> {
        if self.must_commit && status != TransactionStatus::Idle {
            return Err(Violation::uncommitted(self.kind.name()));
        }
        let complete = match self.kind.completions() {
            _ if self.refusal.is_some() => true,
            Some((unlistens, listens)) => self.completed == unlistens.saturating_add(listens),
            // Even an empty query has its EmptyQueryResponse.
            None => self.rows.is_none() && !self.results.is_empty(),
        };
        if complete { Ok(()) } else { Err(Violation::incomplete(self.kind.name())) }
    }

    /// What the command asked for, and what came of it.
    pub(super) fn end(self) -> (Kind, Answer) {
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

    /// Its result when the session ends before the answer. `written` is how many of the queued bytes were written.
    #[cold]
    pub(super) fn outcome(&self, written: u64, error: &Error) -> Error {
        if self.kind.is_repeatable() {
            return error.clone();
        }
        let (kind, message) = if self.end > written {
            (
                ErrorKind::Connect,
                "the connection was lost before the query was sent, it was not carried out",
            )
        } else {
            (
                ErrorKind::InDoubt,
                "the connection was lost before the server answered, it may have carried out the query",
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

    /// The answer will be an error of ours; what the server still sends for it is passed over.
    fn refuse(&mut self, error: Error) {
        self.results.clear();
        if let Some(rows) = &mut self.rows {
            rows.clear();
        }
        self.refusal.get_or_insert(error);
    }
}
