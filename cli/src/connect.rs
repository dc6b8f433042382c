//! The server to connect to, and its name in messages.

use std::env;
use std::ffi::OsString;

use pgbell::Config;
use pgbell::config::{Host, Server};

use crate::console;
use crate::exit::{Exit, Failure};

/// The variable for a connection string that many tools use.
const DATABASE_URL: &str = "DATABASE_URL";

/// Returns the configuration from `--url`, else from `DATABASE_URL`, else from `PG*`. Parameters that are not in a
/// connection string are taken from `PG*` too.
pub(crate) fn config(url: Option<&str>) -> Result<Config, Failure> {
    if let Some(url) = url {
        let config = parse("--url", url)?;
        if config.get_password().is_some() {
            console::line(
                "pgbell: warning: the password in --url is visible in the list of processes, \
                 DATABASE_URL and PGPASSWORD are not",
            );
        }
        return Ok(config);
    }
    match env::var(DATABASE_URL).map_err(|_| env::var_os(DATABASE_URL)) {
        Ok(url) if !url.is_empty() => parse(DATABASE_URL, &url),
        Err(Some(_)) => Err(Failure::new(Exit::Usage, format!("{DATABASE_URL}: expected UTF-8"))),
        Ok(_) | Err(None::<OsString>) => Config::from_env()
            .map_err(|error| Failure::new(Exit::Usage, format!("environment: {error}"))),
    }
}

/// Parses a connection string. The error gives the byte of the wrong part and never repeats the part: it may be a password.
fn parse(source: &str, text: &str) -> Result<Config, Failure> {
    text.parse().map_err(|error| Failure::new(Exit::Usage, format!("{source}: {error}")))
}

/// Returns the names of the servers that will be tried, without user and password.
pub(crate) fn place(config: &Config) -> String {
    let servers = config
        .clone()
        .with_environment(|name| env::var(name).ok())
        .and_then(|config| config.servers());
    // An error here is reported by the attempt to connect.
    let names: Vec<_> = servers.iter().flatten().map(name).collect();
    names.join(", ")
}

fn name(server: &Server) -> String {
    let port = server.port();
    match (server.host(), server.address()) {
        (Some(Host::Tcp(host)), _) if host.contains(':') => format!("[{host}]:{port}"),
        (Some(Host::Tcp(host)), _) => format!("{host}:{port}"),
        (Some(Host::Unix(directory)), _) => format!("{directory}/.s.PGSQL.{port}"),
        (_, Some(address)) => std::net::SocketAddr::new(address, port).to_string(),
        _ => format!("the local server, port {port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_named_without_user_and_password() {
        for (url, expected) in [
            ("postgres://bob:secret@db/shop", "db:5432"),
            ("postgres://bob:secret@db1,db2:5433/shop", "db1:5432, db2:5433"),
            ("postgres://[::1]:99/", "[::1]:99"),
            ("host=/run/postgresql port=5433", "/run/postgresql/.s.PGSQL.5433"),
            ("hostaddr=::1 port=5", "[::1]:5"),
        ] {
            let servers = url.parse::<Config>().unwrap().servers().unwrap();
            let names: Vec<_> = servers.iter().map(name).collect();
            assert_eq!(names.join(", "), expected, "{url}");
        }
    }

    #[test]
    fn a_wrong_url_is_pointed_at_without_its_password() {
        let failure = parse("--url", "postgres://bob:hunter2@host:99999/db").unwrap_err();
        assert_eq!(failure.message(), "--url: port at byte 28: expected a number from 1 to 65535");
    }
}
