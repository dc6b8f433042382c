//! SQL commands that the server executes before it accepts connections.

use std::fs::{self, File};

use crate::error::Error;
use crate::files::create;
use crate::server::Server;

impl Server {
    /// Runs the server once in single-user mode, in the database `postgres`. It reads commands from a file and ends at the
    /// first one that fails.
    pub(crate) fn run_alone<'a>(&self, sql: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let script: String = sql.map(command_text).collect();
        let path = self.scratch.init_sql();
        create(&path, script.as_bytes(), 0o600)?;
        let input = File::open(&path).map_err(Error::on("open", &path))?;
        // `postgres` takes `--single` as its first argument only.
        let mut single = self.scratch.command(&self.bin.join("postgres"));
        single.args(["--single", "-F", "-j", "-c", "exit_on_error=true"]);
        // A statement may have a password in it.
        single.args(["-c", "log_min_error_statement=panic", "-c", "log_statement=none"]);
        single.args(["-c", "log_min_duration_statement=-1", "-c", "logging_collector=off"]);
        single.arg("-D").arg(self.data()).arg("postgres").stdin(input);
        let outcome = self.scratch.run("the SQL before the start", &mut single);
        fs::remove_file(&path).map_err(Error::on("remove", &path))?;
        outcome
    }
}

/// Returns a command with its end: with `-j` that is a semicolon and an empty line.
fn command_text(sql: &str) -> String {
    format!("{};\n\n", sql.trim_end_matches(|c: char| c == ';' || c.is_ascii_whitespace()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_ends_once_however_it_was_written() {
        for sql in ["SELECT 1", "SELECT 1;", "SELECT 1 ;\n\n"] {
            assert_eq!(command_text(sql), "SELECT 1;\n\n", "{sql:?}");
        }
    }
}
