//! Sockets, the clock, random bytes, files and the environment variables. The modules below do no I/O.

mod cancel;
mod dial;
mod driver;
mod encrypt;
mod environment;
mod establish;
mod files;
mod login;
mod opening;
mod password;
#[cfg(unix)]
mod peer;
mod pipe;
mod place;
mod pooler;
mod process_id;
mod provider_thread;
mod runtime;
mod stream;
mod tcp;
#[cfg(all(test, unix))]
mod tests;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use cancel::Cancellation;
pub(crate) use driver::{Driver, DriverEvent, NotificationSink};
pub(crate) use environment::resolve;
pub(crate) use establish::{
    Established, ServerLocation, SessionPurpose, establish, establish_at, establish_until,
};
pub(crate) use opening::{OpeningAttempt, OpeningFuture};
pub(crate) use pipe::Pipe;
pub(crate) use place::SessionPlace;
pub(crate) use process_id::SessionProcessId;
pub(crate) use provider_thread::with_provider_thread;
pub(crate) use runtime::{ReadWait, Timer, check_runtime, now, whole_ticks};

use crate::error::{Error, ErrorKind};

/// Returns random bytes of the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::caused(ErrorKind::Connect, "the system has no random bytes", error)
    })?;
    Ok(bytes)
}
