//! The account of the server at the other end of a Unix socket: the check of `requirepeer`, and of whether a password may
//! be sent in clear.

use std::path::PathBuf;

use tokio::net::UnixStream;
use zeroize::Zeroizing;

use super::files::{self, Access};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::proto::auth::Channel;

/// The accounts of this machine: `name:password:uid:…`.
const ACCOUNTS: &str = "/etc/passwd";

/// The user id of root.
const ROOT: u32 = 0;

/// The account that servers usually run as.
const USUAL_ACCOUNT: &str = "postgres";

/// Returns the channel for the account of the server. [`Channel::Local`] if the account is root, [`USUAL_ACCOUNT`], the
/// account of this process, or the one that `requirepeer` names: a password may be sent in clear.
///
/// Accounts are looked up only in `/etc/passwd`. An account of another directory can be given to `requirepeer` by its
/// number, which libpq does not accept.
///
/// # Errors
/// [`ErrorKind::Auth`]: it is not the account that `requirepeer` names, or it is not known. Nothing may be sent to the server.
// N191.
pub(crate) async fn check(config: &Config, stream: &UnixStream) -> Result<Channel, Error> {
    let uid = stream.peer_cred().map(|credentials| credentials.uid());
    let Some(account) = config.get_require_peer() else {
        let is_trusted = match uid {
            Ok(uid) => uid == ROOT || own_uid() == Some(uid) || is_usual(uid, &accounts().await),
            Err(_) => false,
        };
        let channel =
            if is_trusted { Channel::Local } else { Channel::UntrustedLocal { uid: uid.ok() } };
        return Ok(channel);
    };
    let uid = uid.map_err(|error| {
        let message = "the account of the server cannot be found out, and requirepeer is set";
        Error::caused(ErrorKind::Auth, message, error).passing()
    })?;
    require(account, uid, &accounts().await)?;
    Ok(Channel::Local)
}

/// Returns the effective user id of this process: the kernel reports it for the other end of a socket pair of this process.
fn own_uid() -> Option<u32> {
    let (_, other) = UnixStream::pair().ok()?;
    Some(other.peer_cred().ok()?.uid())
}

fn is_usual(uid: u32, accounts: &[u8]) -> bool {
    let mut entries = accounts.split(|byte| *byte == b'\n').filter_map(entry);
    // Only the first line of a name is valid.
    entries.find(|(name, _)| *name == USUAL_ACCOUNT).is_some_and(|(_, found)| found == uid)
}

/// Returns the accounts of this machine. Empty if they cannot be read.
async fn accounts() -> Zeroizing<Vec<u8>> {
    files::read(PathBuf::from(ACCOUNTS), Access::Any).await.unwrap_or_default()
}

fn require(account: &str, uid: u32, accounts: &[u8]) -> Result<(), Error> {
    let refused = |found: String| {
        let message =
            format!("requirepeer asks for the account {account:?}, the server runs as {found}");
        Err(Error::new(ErrorKind::Auth, message))
    };
    let mut named = accounts.split(|byte| *byte == b'\n').filter_map(entry);
    match named.clone().find(|(name, _)| *name == account) {
        Some((_, found)) if found == uid => Ok(()),
        None if account.parse() == Ok(uid) => Ok(()),
        Some(_) => refused(match named.find(|(_, found)| *found == uid) {
            Some((name, _)) => format!("{name:?}"),
            None => format!("number {uid}"),
        }),
        None => refused(format!("number {uid}")).map_err(|error| {
            // The next attempt reads the list again.
            error.passing().with_hint(format!(
                "{account:?} is not in {ACCOUNTS}: give the account's number instead"
            ))
        }),
    }
}

/// Returns name and number of an account.
fn entry(line: &[u8]) -> Option<(&str, u32)> {
    let mut fields = str::from_utf8(line).ok()?.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    Some((name, fields.nth(1)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &[u8] =
        b"root:x:0:0::/root:/bin/sh\n\npostgres:x:101:103:\xff:/:\npostgres:x:104::\n\
        broken\n77:x:78:\n";

    #[test]
    fn the_account_is_compared_by_the_number_of_its_name() {
        require("root", 0, FILE).unwrap();
        require("postgres", 104, FILE).unwrap();
        let error = require("root", 104, FILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert_eq!(
            error.to_string(),
            "authentication: requirepeer asks for the account \"root\", the server runs as \"postgres\""
        );
        assert!(require("root", 5, FILE).unwrap_err().to_string().ends_with("as number 5"));
    }

    #[test]
    fn an_account_that_is_not_listed_is_given_by_its_number() {
        require("500", 500, FILE).unwrap();
        require("500", 501, FILE).unwrap_err();
        require("-1", u32::MAX, FILE).unwrap_err();
        // A name of digits is a name.
        require("77", 78, FILE).unwrap();
        require("77", 77, FILE).unwrap_err();
        let error = require("ldap", 500, FILE).unwrap_err();
        assert!(error.hint().unwrap().contains("the account's number"), "{error}");
        require("ldap", 500, b"").unwrap_err();
    }

    #[test]
    fn the_usual_account_is_the_first_of_its_name() {
        assert!(is_usual(104, FILE));
        for uid in [0, 101, 105, 78] {
            assert!(!is_usual(uid, FILE), "{uid}");
        }
        assert!(!is_usual(104, b""));
        assert!(!is_usual(104, b"postgresql:x:104:\npostgres:x:105:\npostgres:x:104:"));
    }

    #[tokio::test]
    async fn the_account_of_the_server_decides_what_may_be_sent() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let uid = theirs.peer_cred().unwrap().uid();
        let local = Ok(Channel::Local);
        let channel =
            async |config: Config| check(&config, &ours).await.map_err(|error| error.kind());
        assert_eq!(channel(Config::new()).await, local, "the account of this process");
        assert_eq!(channel(Config::new().require_peer(uid.to_string())).await, local);
        let other = Config::new().require_peer("nobody-at-all");
        assert_eq!(channel(other).await, Err(ErrorKind::Auth));
    }
}
