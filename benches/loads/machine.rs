//! Cores and processor time, on systems that have them. On others no thread is pinned, and the time is missing.

use std::time::Duration;

/// Processor time of this process.
#[cfg(target_os = "linux")]
pub fn cpu_time() -> Duration {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
pub fn cpu_time() -> Duration {
    Duration::ZERO
}

/// Confines this thread to the `nth` of the cores that the process may use; to the last if there are fewer.
#[cfg(target_os = "linux")]
pub fn pin(nth: usize) {
    use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
    use nix::unistd::Pid;
    use std::sync::OnceLock;

    // Read once, before any thread is confined.
    static ALLOWED: OnceLock<Vec<usize>> = OnceLock::new();
    let allowed = ALLOWED.get_or_init(|| {
        let set = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
        (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).collect()
    });
    let mut set = CpuSet::new();
    if let Some(core) = allowed.get(nth).or(allowed.last())
        && set.set(*core).is_ok()
    {
        // If this is not allowed, the scheduler decides.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}

#[cfg(not(target_os = "linux"))]
pub fn pin(_nth: usize) {}
