//! The names of channels in a call: there is at least one, and each can be the name of a channel.

use crate::error::{Error, ErrorKind};
use crate::proto::wire;

/// Checks names, as a session does before it sends them.
pub(crate) fn check_channel_names(names: &[impl AsRef<str>]) -> Result<(), Error> {
    if names.is_empty() {
        return Err(none_is_named());
    }
    names.iter().try_for_each(|name| Ok(wire::check_channel(name.as_ref())?))
}

/// Returns a copy of the name, if it can be the name of a channel.
#[allow(dead_code, reason = "only a listener uses it")]
pub(crate) fn channel_name<N: for<'a> From<&'a str>>(name: &str) -> Result<N, Error> {
    wire::check_channel(name)?;
    Ok(N::from(name))
}

/// Returns copies of the names, up to the first error.
#[allow(dead_code, reason = "only a listener uses it")]
pub(crate) fn channel_names<N, C>(
    names: impl IntoIterator<Item = impl AsRef<str>>,
) -> Result<C, Error>
where
    N: for<'a> From<&'a str>,
    C: FromIterator<N>,
{
    let mut names = names.into_iter().map(|name| channel_name(name.as_ref())).peekable();
    if names.peek().is_none() {
        return Err(none_is_named());
    }
    names.collect()
}

#[cold]
fn none_is_named() -> Error {
    Error::new(ErrorKind::Misuse, "no channel was named")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    #[test]
    fn names_are_checked_alike_as_a_list_and_as_a_set() {
        let too_long = "n".repeat(64);
        for (names, expected) in [
            (vec![], "misuse: no channel was named"),
            (vec!["a", ""], "misuse: channel name is empty: 1 to 63 bytes"),
            (vec!["a", "b\0"], "misuse: channel name has a NUL at byte 1"),
            (vec![&*too_long], "misuse: channel name is 64 bytes long, 63 bytes are the limit"),
        ] {
            let list = channel_names::<String, Vec<_>>(&names).unwrap_err();
            let set = channel_names::<Arc<str>, BTreeSet<_>>(&names).unwrap_err();
            let check = check_channel_names(&names).unwrap_err();
            for error in [list, set, check] {
                assert_eq!(error.to_string(), expected);
            }
        }
        let names = ["b", "a", "b"];
        assert_eq!(channel_names::<String, Vec<_>>(names).unwrap(), names);
        let set = channel_names::<Arc<str>, BTreeSet<_>>(names).unwrap();
        assert_eq!(set, BTreeSet::from(["a".into(), "b".into()]));
        check_channel_names(&names).unwrap();
    }

    #[test]
    fn an_endless_list_of_names_is_refused_at_its_first_wrong_name() {
        let endless = std::iter::once("a").chain(std::iter::repeat(""));
        assert!(channel_names::<String, Vec<_>>(endless).is_err());
    }
}
