//! Buffered stdout that does not block other work: it is written when the buffer is full and when there is nothing else to do.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, Interest, Stdout};
use tokio::net::unix::pipe;

use crate::exit::{Exit, Failure};

/// The size at which the buffer is written although more records are available.
const FULL_BYTES: usize = 64 * 1024;

/// The longest time for writing what was received after a signal.
pub(crate) const LAST_WRITE_MAX: Duration = Duration::from_millis(500);

pub(crate) struct Output {
    stdout: Stdout,
    pending: Vec<u8>,
    /// The number of bytes of `pending` that are written to `stdout`.
    written: usize,
    /// A second handle of stdout, for the event that the reader of a pipe closes it. Nothing is written to it, and
    /// its mode is not changed. A file cannot be watched, and has no reader.
    watched: Option<pipe::Sender>,
}

/// The state of the reader of stdout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// The reader closed it, as `| head -1` does after one line.
    Gone,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            stdout: tokio::io::stdout(),
            pending: Vec::new(),
            written: 0,
            watched: watched().ok(),
        }
    }

    /// Returns the buffer to which records are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= FULL_BYTES
    }

    /// Writes everything. Cancel safe: a dropped future neither loses nor repeats a byte.
    pub(crate) async fn flush(&mut self) -> Result<Reader, Failure> {
        match self.write_out().await {
            Ok(()) => Ok(Reader::There),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
            Err(error) => {
                Err(Failure::new(Exit::Runtime, format!("cannot write to stdout: {error}")))
            }
        }
    }

    async fn write_out(&mut self) -> io::Result<()> {
        while let Some(rest) = self.pending.get(self.written..).filter(|rest| !rest.is_empty()) {
            self.written += self.stdout.write(rest).await?;
        }
        self.stdout.flush().await?;
        self.pending.clear();
        self.written = 0;
        Ok(())
    }

    /// Waits until the reader of a pipe closes it. Never completes for other outputs.
    pub(crate) async fn reader_gone(&self) {
        if let Some(watched) = &self.watched
            && watched.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

/// Writes to stdout. A reader that has closed it is no failure.
pub(crate) async fn print(bytes: &[u8]) -> Result<(), Failure> {
    let mut output = Output::new();
    output.buffer().extend_from_slice(bytes);
    output.flush().await.map(|_| ())
}

fn watched() -> io::Result<pipe::Sender> {
    // Unchecked, because a terminal or a socket can be watched as well.
    pipe::Sender::from_owned_fd_unchecked(io::stdout().as_fd().try_clone_to_owned()?)
}
