//! Sessions are killed, servers die, networks fail: nothing is lost in silence, twice or out of order.

/// Prints a figure: nextest shows it with `--success-output immediate`.
macro_rules! report {
    ($($text:tt)*) => {{
        $crate::chaos::print(&format!($($text)*));
    }};
}

#[expect(clippy::print_stdout, reason = "figures are what a run of many is for")]
fn print(text: &str) {
    println!("{text}");
}

mod bounds;
mod disconnects;
mod half_open;
mod handover;
mod hook;
mod many;
mod restore;
mod sequence;
mod servers;
mod shutdown;
mod suspended;
mod wishes;
