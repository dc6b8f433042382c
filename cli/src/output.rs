//! Buffered stdout that never stops the rest: written when full and when there is nothing else to do.

use std::io;
use std::os::fd::AsFd;

use tokio::io::{AsyncWriteExt, Interest, Stdout};
use tokio::net::unix::pipe;

use crate::exit::{Exit, Failure};

/// What is collected before it is written although more is at hand.
const FULL_BYTES: usize = 64 * 1024;

pub(crate) struct Output {
    stdout: Stdout,
    pending: Vec<u8>,
    /// How much of `pending` was handed over.
    written: usize,
    /// stdout once more, to be told when the reader of a pipe goes away: nothing is written to it, and
    /// its mode is left as it is. A file cannot be watched, and has no reader.
    watched: Option<pipe::Sender>,
}

/// Whether stdout can take more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    There,
    /// Its reader closed it, which is how `| head -1` says that it has enough.
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

    /// Where records are appended.
    pub(crate) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.pending
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.pending.len() >= FULL_BYTES
    }

    /// Writes everything. A dropped future has neither lost nor doubled a byte.
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

    /// Waits until the reader of a pipe goes away. For other outputs: for ever.
    pub(crate) async fn reader_gone(&self) {
        if let Some(watched) = &self.watched
            && watched.ready(Interest::ERROR).await.is_ok()
        {
            return;
        }
        std::future::pending::<()>().await;
    }
}

fn watched() -> io::Result<pipe::Sender> {
    // Unchecked is what it is: a terminal or a socket can be watched as well.
    pipe::Sender::from_owned_fd_unchecked(io::stdout().as_fd().try_clone_to_owned()?)
}
