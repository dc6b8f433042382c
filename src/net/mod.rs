//! The outside world: sockets, the clock, randomness, the environment. Here, and nowhere else.

mod dial;
mod environment;
mod login;
mod pipe;
mod stream;
mod timer;

pub(crate) use dial::dial;
pub(crate) use environment::resolve;
pub(crate) use login::{connect_timeout, login};
pub(crate) use pipe::Pipe;
pub(crate) use timer::{Timer, now};
