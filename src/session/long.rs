//! Messages that are longer than what is taken whole whatever they answer.
//!
//! Of an error, a notice and a parameter the beginning is taken. A row and a description of rows are taken whole if
//! the result may be as long. The rest is skipped as it comes, and takes no memory: only the command that it answers
//! fails.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::command::Long;
use super::violation::Violation;
use super::{Phase, Session};
use crate::Error;
use crate::wire::{BackendMessage, DbError, LongMessage};

/// Least that a result may be limited to, in bytes: room for the answers to statements of this crate.
const RESULT_BYTES_MIN: usize = 64 * 1024;

impl Session {
    /// Most bytes that a command may return from now on, rows and their descriptions together. A longer result is
    /// refused, and the session goes on. By default 64 MiB; less than 64 KiB counts as that.
    pub fn limit_results(&mut self, bytes: usize) {
        self.result_bytes_max = bytes.max(RESULT_BYTES_MIN);
    }

    /// Passes over what is left of a long message. Returns whether that was all.
    pub(crate) fn has_skipped(&mut self, input: &mut BytesMut) -> bool {
        let bytes = self.skipping.min(input.len());
        input.advance(bytes);
        self.skipping -= bytes;
        self.skipping == 0
    }

    /// Handles the long message at the head of `input`. Returns whether that is done: all of it may be skipped then.
    /// Else more bytes of it are needed.
    pub(super) fn handle_long(
        &mut self,
        now: Instant,
        long: LongMessage,
        input: &[u8],
    ) -> Result<bool, Error> {
        let bytes = long.wire_len();
        if let (Phase::Startup { startup, .. }, b'N' | b'S') = (&self.phase, long.tag) {
            // Before it is waited for.
            startup.check_room(bytes)?;
        }
        if matches!(self.phase, Phase::Ready) && !matches!(long.tag, b'E' | b'N' | b'S') {
            // As before a message of an answer that is short.
            self.tell_dropped();
            self.stray_error = false;
        }
        match long.tag {
            b'E' | b'N' => {
                let Some(beginning) = long.beginning(input) else { return Ok(false) };
                let words = DbError::from_beginning(long.name, beginning)?;
                let message = match long.tag {
                    b'E' => BackendMessage::ErrorResponse(words.diagnostic()),
                    _ => BackendMessage::NoticeResponse(words.diagnostic()),
                };
                self.handle_message(now, &message, bytes)?;
            }
            b'S' => {
                let Some(beginning) = long.beginning(input) else { return Ok(false) };
                let message = BackendMessage::parameter_status(beginning)?;
                self.handle_message(now, &message, bytes)?;
            }
            _ => match (&self.phase, self.pending.front_mut()) {
                (Phase::Ready, Some(pending)) => match pending.handle_long(long)? {
                    Long::Skip => {}
                    Long::Take => {
                        let Some(frame) = long.whole(input) else { return Ok(false) };
                        self.handle_message(now, &BackendMessage::decode(frame)?, bytes)?;
                    }
                },
                (Phase::Startup { .. }, _) => {
                    return Err(Violation::misplaced(long.name, "the startup").into());
                }
                _ => return Err(Violation::misplaced(long.name, "an idle session").into()),
            },
        }
        Ok(true)
    }
}
