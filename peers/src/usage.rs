//! Processor time and memory, as counted by the kernel.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_gettime};

use crate::outcome::Outcome;

/// The processor time used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) user: Duration,
    pub(crate) system: Duration,
}

impl Usage {
    /// Returns the processor time of this process, of all its threads.
    pub(crate) fn of_process() -> Outcome<Self> {
        Self::of(UsageWho::RUSAGE_SELF, ClockId::CLOCK_PROCESS_CPUTIME_ID)
    }

    /// Returns the processor time of this thread.
    pub(crate) fn of_thread() -> Outcome<Self> {
        Self::of(UsageWho::RUSAGE_THREAD, ClockId::CLOCK_THREAD_CPUTIME_ID)
    }

    /// The clock is exact. `getrusage` may be some milliseconds late, and gives the user and system parts.
    fn of(who: UsageWho, clock: ClockId) -> Outcome<Self> {
        let system = duration(getrusage(who)?.system_time());
        let total = Duration::from(clock_gettime(clock)?);
        Ok(Self { user: total.saturating_sub(system), system })
    }

    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let total = self.total().saturating_sub(earlier.total());
        let system = self.system.saturating_sub(earlier.system).min(total);
        Self { user: total - system, system }
    }

    pub(crate) fn total(&self) -> Duration {
        self.user + self.system
    }
}

fn duration(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
    let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// Returns the peak memory of this process, in KiB.
pub(crate) fn peak_rss_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or("no VmHWM in /proc/self/status")?.parse()?)
}

/// Returns the processor time of the main thread of another process. Zero if the kernel does not count it.
pub(crate) fn of_process(pid: i32) -> Duration {
    let text = fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let first = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(first.unwrap_or(0))
}
