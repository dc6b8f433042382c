//! A listener that comes back: a server that flaps, lies, stalls or floods makes it reconnect and report. It cannot
//! make it spin, grow, hang or be silent.

mod attacks;
mod attempts;
mod closing;
mod flapping;
mod flooding;
mod host;
mod live;
mod lying;
mod peer;
#[cfg(feature = "tls-ring")]
mod security;
mod stalling;
mod time;
#[cfg(feature = "tls-ring")]
mod tls_server;
