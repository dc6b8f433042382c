//! Password files: the passwords of servers, databases and users.

use std::fmt;

use zeroize::Zeroizing;

use super::hosts::{Host, SOCKET_DIRECTORY, Server};
use crate::proto::auth::Password;

/// The host in the lines for the default server and its socket directory.
const LOCALHOST: &str = "localhost";

/// The text of a password file, such as `~/.pgpass`: lines `host:port:dbname:user:password`.
///
/// The first line that matches is used. The field `*` matches everything. The character after a backslash is taken
/// literally. A line that begins with `#` is a comment.
///
/// ```
/// use pgbell::Config;
/// use pgbell::config::PassFile;
///
/// let file = PassFile::new("db1:*:shop:bob:secret\n*:*:*:bob:other\n");
/// let config: Config = "host=db1,db2".parse()?;
/// let servers = config.servers()?;
/// assert!(file.password(&servers[0], "shop", "bob").is_some());
/// assert!(file.password(&servers[1], "shop", "eve").is_none());
/// # Ok::<_, pgbell::config::ConfigError>(())
/// ```
///
/// The memory is cleared on drop.
pub struct PassFile {
    text: Zeroizing<Vec<u8>>,
}

impl PassFile {
    /// Creates a password file from its text. A `String` or `Vec<u8>` is not copied.
    #[must_use]
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        Self { text: Zeroizing::new(text.into()) }
    }

    /// Returns the password of the first line for this server, database and user. It may be empty.
    ///
    /// The host of the line must be the server's name, or its address if it has no name, in the spelling of the
    /// configuration. The default server has the name `localhost`. Its socket directory `/var/run/postgresql` matches both
    /// `localhost` and its path.
    #[must_use]
    pub fn password(&self, server: &Server, dbname: &str, user: &str) -> Option<Password> {
        self.password_in(SOCKET_DIRECTORY, server, dbname, user)
    }

    /// Like [`password`](Self::password), with the socket directory of the default server.
    pub(crate) fn password_in(
        &self,
        default: &str,
        server: &Server,
        dbname: &str,
        user: &str,
    ) -> Option<Password> {
        let hosts = match (server.host(), server.address_text()) {
            (Some(Host::Unix(directory)), _) if directory == default => {
                [Some(LOCALHOST), Some(directory.as_str())]
            }
            (Some(Host::Tcp(name) | Host::Unix(name)), _) => [Some(name.as_str()), None],
            (None, Some(address)) => [Some(address), None],
            (None, None) => [Some(LOCALHOST), None],
        };
        let port = server.port().to_string();
        let of = |line| {
            let behind_host = hosts.iter().flatten().find_map(|host| after(line, host));
            after(after(after(behind_host?, &port)?, dbname)?, user)
        };
        self.lines().find_map(of).map(unescape)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.text.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"#")).map(|line| {
            let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
            line.get(..end).unwrap_or_default()
        })
    }
}

/// Returns the rest of the line after its first field, if that field matches `wanted`.
///
/// As in libpq, a colon of `wanted` need not be escaped in the line, so that IPv6 addresses need no backslashes.
fn after<'a>(line: &'a [u8], wanted: &str) -> Option<&'a [u8]> {
    if let Some(rest) = line.strip_prefix(b"*:") {
        return Some(rest);
    }
    let mut rest = line;
    let mut wanted = wanted.bytes();
    loop {
        let (byte, escaped, behind) = match rest {
            [b'\\', byte, behind @ ..] => (*byte, true, behind),
            [byte, behind @ ..] => (*byte, false, behind),
            [] => return None,
        };
        match wanted.next() {
            None if byte == b':' && !escaped => return Some(behind),
            Some(expected) if expected == byte => rest = behind,
            _ => return None,
        }
    }
}

/// Returns the password: the last field, up to a colon. The text after the colon is ignored. A backslash at the end is
/// part of the password.
fn unescape(field: &[u8]) -> Password {
    let mut password = Vec::with_capacity(field.len());
    let mut bytes = field.iter();
    loop {
        match bytes.next() {
            None | Some(b':') => return Password::new(password),
            Some(b'\\') => password.push(*bytes.next().unwrap_or(&b'\\')),
            Some(byte) => password.push(*byte),
        }
    }
}

/// Shows only the number of bytes.
impl fmt::Debug for PassFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PassFile({} bytes)", self.text.len())
    }
}
