//! What still comes after Terminate.
//!
//! The server goes on sending until it has read Terminate. Notifications are given to the caller as before: they were
//! committed and they have arrived. Of every other message only the length is read, and its bytes are removed.

use bytes::{Buf, BytesMut};

use super::{NOTIFICATION_RESPONSE, Progress};
use crate::wire::{self, Framer, LongMessage, Stop};

/// How the bytes after Terminate are read.
#[derive(Debug)]
pub(super) enum Rest {
    /// Message by message.
    Messages,
    /// Nothing is looked at any more: the server was not ready before, or has sent something malformed since.
    Nothing,
}

impl Rest {
    /// Goes on to the next run of notifications, and removes what stands before it. Stops at a long message, which is to
    /// be skipped.
    pub(super) fn handle(&mut self, input: &mut BytesMut) -> Result<Progress, LongMessage> {
        while let Self::Messages = self {
            if input.first() == Some(&NOTIFICATION_RESPONSE) {
                let (run, stop) = wire::scan(input);
                match stop {
                    _ if run.count > 0 => return Ok(Progress::Notifications(run)),
                    Stop::NeedMore => return Ok(Progress::NeedMore),
                    Stop::Invalid(_) | Stop::OtherMessage => *self = Self::Nothing,
                }
                continue;
            }
            match Framer::established().next(input) {
                Ok(Some(frame)) => {
                    let bytes = frame.wire_len();
                    input.advance(bytes);
                }
                Ok(None) => return Ok(Progress::NeedMore),
                Err(_) => match Framer::established().long(input) {
                    Some(long) => return Err(long),
                    None => *self = Self::Nothing,
                },
            }
        }
        input.clear();
        Ok(Progress::NeedMore)
    }
}
