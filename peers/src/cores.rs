//! The cores of each process.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::outcome::Outcome;

/// The cores of the sender and of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    client: Vec<usize>,
    /// The cores of a client with two busy threads.
    client_of_two: Vec<usize>,
}

impl Cores {
    /// 0: not pinned. 1: all on one core. 2: the client has its own core.
    pub(crate) fn new(allowed: &[usize], layout: usize) -> Self {
        let (first, others) = allowed.split_first().unwrap_or((&0, &[]));
        match (layout, others) {
            (0, _) => Self {
                server: allowed.to_vec(),
                client: allowed.to_vec(),
                client_of_two: allowed.to_vec(),
            },
            (1, _) | (_, []) => {
                Self { server: vec![*first], client: vec![*first], client_of_two: vec![*first] }
            }
            (_, [own]) => {
                Self { server: vec![*first], client: vec![*own], client_of_two: vec![*first, *own] }
            }
            (_, [own, second, ..]) => Self {
                server: vec![*first],
                client: vec![*own],
                client_of_two: vec![*own, *second],
            },
        }
    }

    /// Returns the cores of a client with this number of busy threads.
    pub(crate) fn client(&self, threads: usize) -> &[usize] {
        if threads > 1 { &self.client_of_two } else { &self.client }
    }
}

/// Returns the cores that this process may use.
pub(crate) fn allowed() -> Outcome<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Pins this thread, and the threads and processes that it starts later.
pub(crate) fn pin(cpus: &[usize]) -> Outcome<()> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    Ok(sched_setaffinity(Pid::from_raw(0), &set)?)
}
