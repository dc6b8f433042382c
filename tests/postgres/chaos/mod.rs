//! Sessions are killed, servers crash, networks fail: no notification is lost without a report, duplicated or out of order.

/// Prints a measurement: nextest shows it with `--success-output immediate`.
macro_rules! report {
    ($($text:tt)*) => {{
        $crate::chaos::print(&format!($($text)*));
    }};
}

#[expect(clippy::print_stdout, reason = "a run with many repetitions prints its measurements")]
fn print(text: &str) {
    println!("{text}");
}

mod bounds;
mod channel_changes;
mod disconnects;
mod half_open;
mod handover;
mod hook;
#[cfg(feature = "durable")]
mod log;
mod many;
#[cfg(feature = "durable")]
mod mirror;
mod publishing;
#[cfg(feature = "durable")]
mod queue;
mod restore;
mod sequence;
mod servers;
mod shutdown;
mod suspended;
