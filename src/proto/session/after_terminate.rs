//! The bytes that arrive after Terminate.
//!
//! The server goes on sending until it has read Terminate. Notifications are reported to the caller as before, because they
//! were committed. Of every other message only the length is read, and its bytes are removed.

use bytes::{Buf, BytesMut};

use super::{NOTIFICATION_RESPONSE, Progress};
use crate::error::Error;
use crate::proto::wire::{self, Framer, LongMessage, Stop};

/// The way in which the bytes after Terminate are read.
#[derive(Debug)]
pub(super) enum AfterTerminate {
    /// Message by message.
    Messages,
    /// All bytes are discarded: the server was not ready before.
    Nothing,
    /// All bytes are discarded: the server has sent this since. Notifications may be among them.
    Malformed(Error),
}

impl AfterTerminate {
    /// Removes messages up to the next run of notifications. Stops at a long message, which the caller must skip.
    pub(super) fn handle(&mut self, input: &mut BytesMut) -> Result<Progress, LongMessage> {
        while let Self::Messages = self {
            if input.first() == Some(&NOTIFICATION_RESPONSE) {
                let (run, stop) = wire::scan(input);
                match stop {
                    _ if run.count > 0 => return Ok(Progress::Notifications(run)),
                    Stop::NeedMore => return Ok(Progress::NeedMore),
                    Stop::Invalid(error) => *self = Self::Malformed(error.into()),
                    // Not reached: the first byte is that of a notification.
                    Stop::OtherMessage => *self = Self::Nothing,
                }
                continue;
            }
            match Framer::established().next(input) {
                Ok(Some(frame)) => {
                    let bytes = frame.wire_len();
                    input.advance(bytes);
                }
                Ok(None) => return Ok(Progress::NeedMore),
                Err(error) => match Framer::established().long(input) {
                    Some(long) => return Err(long),
                    None => *self = Self::Malformed(error.into()),
                },
            }
        }
        input.clear();
        Ok(Progress::NeedMore)
    }
}
