//! [`Progress`]: a bar on stderr for what takes longer than a second.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Nothing is shown before.
const SILENT: Duration = Duration::from_secs(1);

/// Draws nothing if stderr is no terminal. The bar is removed at the end.
pub(crate) struct Progress {
    since: Instant,
    total: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        Self { since: Instant::now(), total, bar: None }
    }

    pub(crate) fn set(&mut self, done: u64) {
        if self.bar.is_none() && self.since.elapsed() >= SILENT && io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(Some(self.total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template(
                "{bar:30} {human_pos} of {human_len}, {per_sec}, {eta} left",
            );
            self.bar = Some(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())));
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
