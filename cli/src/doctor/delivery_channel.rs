//! The channel of notifications that this program sends to itself.

use std::time::{SystemTime, UNIX_EPOCH};

/// Returns the name of a channel that no other program uses.
pub(super) fn private_channel() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    format!("pgbell_doctor_{}_{now}", std::process::id())
}
