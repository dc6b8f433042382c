//! [`Options`]: the arguments of the program.

use crate::Failure;

const USAGE: &str = "usage: live_page (--demo | URL) [--port PORT]";

pub(crate) struct Options {
    /// `None`: `--demo`.
    pub(crate) url: Option<String>,
    /// 0: the system chooses one.
    pub(crate) port: u16,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let (mut server, mut port) = (None, 8080);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--port" => {
                    port = arguments.next().and_then(|port| port.parse().ok()).ok_or(USAGE)?;
                }
                "--demo" if server.is_none() => server = Some(None),
                option if option.starts_with("--") => return Err(USAGE.into()),
                _ if server.is_none() => server = Some(Some(argument)),
                _ => return Err(USAGE.into()),
            }
        }
        Ok(Self { url: server.ok_or(USAGE)?, port })
    }
}
