//! Messages that are longer than the receive buffer may grow for any message.
//!
//! Of an error, a notice and a parameter only the beginning is used. A row and a description of rows are taken whole if
//! the result may be as long. Other messages are skipped as they arrive, and use no memory. Only the command that they
//! answer fails.

use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::command::LongAction;
use super::violation::Violation;
use super::{Session, SessionPhase};
use crate::error::Error;
use crate::proto::wire::{BackendMessage, DbError, Diagnostic, LongMessage};

/// The lowest limit of a result, in bytes. The answers to the statements of this crate are smaller.
const RESULT_BYTES_MIN: usize = 64 * 1024;

impl Session {
    /// Sets the largest result of a later command in bytes: rows and their descriptions. A larger result is
    /// refused, and the session goes on. The default is 64 MiB; a limit below 64 KiB is raised to 64 KiB.
    pub fn limit_results(&mut self, bytes: usize) {
        self.result_bytes_max = bytes.max(RESULT_BYTES_MIN);
    }

    /// Skips the rest of a long message. Returns true if all of it is skipped.
    pub(crate) fn has_skipped(&mut self, input: &mut BytesMut) -> bool {
        let bytes = self.skipping.min(input.len());
        input.advance(bytes);
        self.skipping -= bytes;
        self.skipping == 0
    }

    /// Handles the long message at the front of `input`. Returns true if it is handled and can be skipped, and false if
    /// more bytes of it are needed.
    pub(super) fn handle_long(
        &mut self,
        now: Instant,
        long: LongMessage,
        input: &[u8],
    ) -> Result<bool, Error> {
        let bytes = long.wire_len();
        if let (SessionPhase::Startup { startup, .. }, b'N' | b'S') = (&self.phase, long.tag) {
            // Checked before the message is waited for.
            startup.check_room(bytes)?;
        }
        if matches!(self.phase, SessionPhase::Ready) && !matches!(long.tag, b'E' | b'N' | b'S') {
            // As for a short message of an answer.
            self.report_dropped();
            self.stray_error = false;
        }
        match long.tag {
            b'E' | b'N' => {
                let Some(beginning) = long.beginning(input) else { return Ok(false) };
                let words = DbError::from_beginning(long.name, beginning)?;
                let message = match long.tag {
                    b'E' => BackendMessage::ErrorResponse(Diagnostic::from(&words)),
                    _ => BackendMessage::NoticeResponse(Diagnostic::from(&words)),
                };
                self.handle_message(now, &message, bytes)?;
            }
            b'S' => {
                let Some(beginning) = long.beginning(input) else { return Ok(false) };
                let message = BackendMessage::parameter_status(beginning)?;
                self.handle_message(now, &message, bytes)?;
            }
            _ => match (&self.phase, self.pending.front_mut()) {
                (SessionPhase::Ready, Some(pending)) => match pending.handle_long(long)? {
                    LongAction::Skip => {}
                    LongAction::Take => {
                        let Some(frame) = long.whole(input) else { return Ok(false) };
                        self.handle_message(now, &BackendMessage::decode(frame)?, bytes)?;
                    }
                },
                (SessionPhase::Startup { .. }, _) => {
                    return Err(Violation::misplaced(long.name, "the startup").into());
                }
                _ => return Err(Violation::misplaced(long.name, "an idle session").into()),
            },
        }
        Ok(true)
    }
}
