//! [`Trace`]: a readable log of a run.

use std::collections::VecDeque;

/// The highest number of lines that are kept. If there are more, the oldest are removed.
const LINES_MAX: usize = 4_000;

#[derive(Debug, Default)]
pub(super) struct Trace {
    pub(super) is_on: bool,
    lines: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, lines: VecDeque::new() }
    }

    pub(super) fn push(&mut self, now: u64, text: &str) {
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(format!("{:>4}.{:06} s  {text}", now / 1_000_000, now % 1_000_000));
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

/// Writes a line into the trace, if it is on.
macro_rules! log_line {
    ($simulation:expr, $($text:tt)*) => {
        if $simulation.trace.is_on {
            let text = format!($($text)*);
            $simulation.trace.push($simulation.clock.now(), &text);
        }
    };
}
pub(super) use log_line;
