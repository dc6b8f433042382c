//! The PostgreSQL server of a run, started when it is first needed.

use pgbell_testkit::{Auth, Cluster};

use crate::cores;
use crate::outcome::Outcome;

/// The server, if it was started, and the cores that it runs on.
#[derive(Debug, Default)]
pub(crate) struct Server {
    running: Option<(Vec<usize>, Cluster)>,
    version: Option<String>,
}

impl Server {
    /// Returns the server on these cores. A server on other cores is ended.
    pub(crate) fn cluster(&mut self, cpus: &[usize]) -> Outcome<&Cluster> {
        if self.running.as_ref().is_some_and(|(found, _)| found != cpus) {
            self.running = None;
        }
        let (_, cluster) = match &mut self.running {
            Some(running) => running,
            none => {
                // Its processes inherit the cores of this thread.
                let before = cores::allowed()?;
                cores::pin(cpus)?;
                let started =
                    Cluster::builder().auth(Auth::Trust).setting("autovacuum", "off").start();
                cores::pin(&before)?;
                none.insert((cpus.to_vec(), started?))
            }
        };
        self.version = Some(cluster.version().to_owned());
        Ok(cluster)
    }

    /// Returns the version of the server, if one was used.
    pub(crate) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }
}
