//! A listener that reconnects: a server that flaps, sends false answers, stalls or floods makes it reconnect and report a gap.
//! It cannot make it spin, grow, hang or hide a loss.

mod attacks;
mod attempts;
mod closing;
mod false_answers;
mod flapping;
#[cfg(target_os = "linux")]
mod flooding;
mod growing;
mod heartbeats;
mod hooks;
mod host;
mod live;
mod peer;
mod regressions;

#[cfg(feature = "tls-ring")]
mod security;
mod servers;
mod stalling;
mod tcp;
mod time;
#[cfg(feature = "tls-ring")]
mod tls_server;
mod unanswered;
