//! What it takes to cancel a command of a session.

use std::fmt;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::violation::Violation;
use crate::Error;
use crate::wire::{BackendKeyData, ProtocolVersion, StartupPacket};

/// The key of BackendKeyData: whoever has it can cancel the session's commands. N6.
///
/// `Debug` shows the process id alone, and the memory is cleared on drop.
#[derive(Clone)]
pub struct CancelKey {
    process_id: i32,
    secret: Zeroizing<Vec<u8>>,
}

impl CancelKey {
    /// Four bytes before protocol 3.2, and 4 to 256, which the codec has checked, from there on. N6.
    pub(super) fn new(
        version: ProtocolVersion,
        key: &BackendKeyData<'_>,
    ) -> Result<Self, Violation> {
        let secret = key.secret_key;
        if version < ProtocolVersion::V3_2 && secret.len() != 4 {
            return Err(Violation::KeyLength {
                found: secret.len(),
                expected: "4 in protocol 3.0",
            });
        }
        Ok(Self { process_id: key.process_id, secret: Zeroizing::new(secret.to_vec()) })
    }

    /// Process id of the server's end. Behind a pooler it may be another one's.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Appends a CancelRequest: the only packet of a connection of its own, encrypted if the session's
    /// is. The server answers nothing and closes.
    ///
    /// # Errors
    /// None for a key that a server sent.
    pub fn encode_request(&self, out: &mut BytesMut) -> Result<(), Error> {
        let Self { process_id, secret } = self;
        let packet = StartupPacket::CancelRequest { process_id: *process_id, secret_key: secret };
        Ok(packet.encode(out)?)
    }
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelKey").field("process_id", &self.process_id).finish_non_exhaustive()
    }
}
