//! `requirepeer`: as whom the server at the other end of a Unix socket runs.

use std::path::PathBuf;

use tokio::net::UnixStream;

use super::files::{self, Access};
use crate::{Config, Error, ErrorKind};

/// The accounts of this machine: `name:password:uid:…`.
const ACCOUNTS: &str = "/etc/passwd";

/// Whether the server at the other end runs as the account that `requirepeer` names, if it names
/// one.
///
/// The account is looked up in `/etc/passwd` alone. One that another service knows is given by its
/// number, which libpq does not take.
///
/// # Errors
/// [`ErrorKind::Auth`]: it does not, or it cannot be told. Nothing may be sent to it.
pub(crate) async fn check_peer(config: &Config, stream: &UnixStream) -> Result<(), Error> {
    let Some(account) = config.get_require_peer() else { return Ok(()) };
    let uid = match stream.peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => {
            let message = "the account of the server cannot be asked for, which requirepeer needs";
            return Err(Error::caused(ErrorKind::Auth, message, error).passing());
        }
    };
    let accounts = files::read(PathBuf::from(ACCOUNTS), Access::Any).await;
    let accounts = accounts.as_deref().map(Vec::as_slice).unwrap_or_default();
    check(account, uid, accounts)
}

fn check(account: &str, uid: u32, accounts: &[u8]) -> Result<(), Error> {
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
            // The list may be read again.
            error.passing().with_hint(format!(
                "{account:?} is not in {ACCOUNTS}: give the account's number instead"
            ))
        }),
    }
}

/// Name and number of an account.
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
    fn the_account_is_compared_by_the_number_that_its_name_has() {
        check("root", 0, FILE).unwrap();
        check("postgres", 104, FILE).unwrap();
        let error = check("root", 104, FILE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth);
        assert_eq!(
            error.to_string(),
            "authentication: requirepeer asks for the account \"root\", the server runs as \"postgres\""
        );
        assert!(check("root", 5, FILE).unwrap_err().to_string().ends_with("as number 5"));
    }

    #[test]
    fn an_account_that_is_not_listed_is_given_by_its_number() {
        check("500", 500, FILE).unwrap();
        check("500", 501, FILE).unwrap_err();
        check("-1", u32::MAX, FILE).unwrap_err();
        // A name of digits is a name.
        check("77", 78, FILE).unwrap();
        check("77", 77, FILE).unwrap_err();
        let error = check("ldap", 500, FILE).unwrap_err();
        assert!(error.hint().unwrap().contains("the account's number"), "{error}");
        check("ldap", 500, b"").unwrap_err();
    }

    #[tokio::test]
    async fn the_kernel_says_who_the_peer_is() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let uid = theirs.peer_cred().unwrap().uid();
        check_peer(&Config::new(), &ours).await.unwrap();
        check_peer(&Config::new().require_peer(uid.to_string()), &ours).await.unwrap();
        let error = check_peer(&Config::new().require_peer("nobody-at-all"), &ours).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Auth);
    }
}
