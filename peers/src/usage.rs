//! Processor time and memory, as counted by the kernel.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::{ClockId, clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

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
    status_kib("VmHWM:")
}

/// Returns the memory of this process, in KiB.
pub(crate) fn rss_kib() -> Outcome<u64> {
    status_kib("VmRSS:")
}

fn status_kib(name: &str) -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    Ok(number.ok_or_else(|| format!("no {name} in /proc/self/status"))?.parse()?)
}

/// Returns the processor time of another process. Zero if it does not exist.
pub(crate) fn of_process(pid: i32) -> Duration {
    let clock = clock_getcpuclockid(Pid::from_raw(pid));
    clock.and_then(clock_gettime).map_or(Duration::ZERO, Duration::from)
}
