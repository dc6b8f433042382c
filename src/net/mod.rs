//! The outside world: sockets, the clock, randomness, the environment. Here, and nowhere else.

mod dial;
mod environment;
mod files;
mod login;
#[cfg_attr(not(test), expect(dead_code, reason = "to be asked at every attempt"))]
mod password;
#[cfg(unix)]
#[cfg_attr(not(test), expect(dead_code, reason = "to be asked of every Unix socket"))]
mod peer;
mod pipe;
mod stream;
#[cfg(all(test, unix))]
mod tests;
mod timer;
#[cfg(feature = "tls")]
#[cfg_attr(not(test), expect(dead_code, unused_imports, reason = "to be used by every connection"))]
mod tls;

pub(crate) use dial::dial;
pub(crate) use environment::resolve;
pub(crate) use login::{connect_timeout, login};
pub use password::PasswordRequest;
#[expect(unused_imports, reason = "to be asked at every attempt")]
pub(crate) use password::{password, password_hint};
#[cfg(unix)]
#[expect(unused_imports, reason = "to be asked of every Unix socket")]
pub(crate) use peer::check_peer;
pub(crate) use pipe::Pipe;
pub(crate) use timer::{Timer, now};
