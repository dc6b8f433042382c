//! `pgbell-testkit`: starts a temporary PostgreSQL server to try things, until its input ends.
//!
//! Prints the superuser's URL, one line. After Ctrl-D, Enter, Ctrl-C and SIGKILL no files and no processes remain.

use std::io::{self, BufRead, Write};
use std::process::ExitCode;

use pgbell_testkit::Cluster;

fn main() -> ExitCode {
    let cluster = match Cluster::start() {
        Ok(cluster) => cluster,
        Err(error) => {
            let _ = writeln!(io::stderr(), "pgbell-testkit: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut out = io::stdout().lock();
    let url = cluster.url_for_superuser();
    if writeln!(out, "{url}").and_then(|()| out.flush()).is_err() {
        return ExitCode::FAILURE;
    }
    let _ = io::stdin().lock().read_line(&mut String::new());
    ExitCode::SUCCESS
}
