//! A listener that comes back: a server that flaps, lies, stalls or floods makes it reconnect and report. It cannot
//! make it spin, grow, hang or be silent.

mod attacks;
mod attempts;
mod closing;
mod flapping;
#[cfg(target_os = "linux")]
mod flooding;
mod found;
mod growing;
mod hooks;
mod host;
mod live;
mod lying;
mod peer;
mod proofs;
#[cfg(feature = "tls-ring")]
mod security;
mod servers;
mod stalling;
mod tcp;
mod time;
#[cfg(feature = "tls-ring")]
mod tls_server;
mod unanswered;
