//! The outside world: sockets, the clock, randomness, the environment. Here, and nowhere else.

mod apart;
mod dial;
mod driver;
mod encrypt;
mod environment;
mod establish;
mod files;
mod login;
mod password;
#[cfg(unix)]
mod peer;
mod pipe;
mod pooler;
mod runtime;
mod stream;
#[cfg(all(test, unix))]
mod tests;
mod timer;
#[cfg(feature = "tls")]
mod tls;

pub(crate) use apart::ask_apart;
pub(crate) use driver::{Driver, Meanwhile, Step};
pub(crate) use environment::resolve;
pub(crate) use establish::{Established, Place, Purpose, establish, establish_at, establish_until};
pub use password::PasswordRequest;
pub(crate) use pipe::Pipe;
pub(crate) use runtime::check_runtime;
pub(crate) use timer::{Timer, now};

use crate::{Error, ErrorKind};

/// Fresh random bytes from the operating system.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::caused(ErrorKind::Connect, "the system has no random bytes", error)
    })?;
    Ok(bytes)
}
