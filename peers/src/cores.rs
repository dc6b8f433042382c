//! Which process runs on which core.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::outcome::Outcome;

/// Cores of the sender and of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cores {
    pub(crate) server: Vec<usize>,
    client: Vec<usize>,
    /// Of a client with two busy threads.
    client_of_two: Vec<usize>,
}

impl Cores {
    /// 0: wherever the kernel likes. 1: all on one. 2: the client has one of its own.
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

    /// The cores of a client with so many busy threads.
    pub(crate) fn client(&self, threads: usize) -> &[usize] {
        if threads > 1 { &self.client_of_two } else { &self.client }
    }
}

/// The cores that this process may use.
pub(crate) fn allowed() -> Outcome<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0))?;
    Ok((0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect())
}

/// Confines this thread, and the threads and processes that it starts from now on.
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
