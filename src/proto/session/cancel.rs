//! The key to cancel the commands of a session.

use std::fmt;

use bytes::BytesMut;
use zeroize::Zeroizing;

use super::violation::Violation;
use crate::error::Error;
use crate::proto::wire::{BackendKeyData, ProtocolVersion, StartupPacket};

/// The key of BackendKeyData, which is needed to cancel a command of the session.
///
/// `Debug` shows only the process id, and the memory is cleared on drop.
#[derive(Clone)]
pub struct CancelKey {
    process_id: i32,
    secret: Zeroizing<Vec<u8>>,
}

impl CancelKey {
    /// Checks the length: 4 bytes before protocol 3.2, and 4 to 256 since then, which the codec has checked.
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

    /// Returns the process id. Behind a pooler it may be that of another backend.
    #[must_use]
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// Appends a CancelRequest. It is the only packet of a connection of its own, which must be encrypted if that of the
    /// session is. The server closes it without an answer.
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
