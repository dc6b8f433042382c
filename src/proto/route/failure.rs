//! The error of an attempt in which no candidate led to a session.

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::error::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

/// A candidate that failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Failure {
    /// The address, or the host name if it has none. Empty if the error is returned in an error that contains it.
    pub at: String,
    /// The cause, which does not contain the address.
    pub error: Error,
}

impl Failure {
    /// Returns the failure of the candidate `at` with its cause.
    #[must_use]
    pub fn new(at: impl Into<String>, error: Error) -> Self {
        Self { at: at.into(), error }
    }

    /// Returns whether a server answered. Such an error is more useful than that of a server that cannot be reached.
    fn is_answer(&self) -> bool {
        !matches!(self.error.kind(), ErrorKind::Connect | ErrorKind::Timeout)
    }

    /// Returns its message for a list that also has `best`: without the kind if that is the same, and without the hint.
    fn message_beside(&self, best: &Error) -> String {
        let words = self.error.words();
        match self.error.kind() {
            kind if kind == best.kind() => words,
            kind => format!("{kind}: {words}"),
        }
    }
}

/// The failures at one address, each message once.
struct Address {
    messages: Vec<String>,
    text: String,
}

/// The text between two failures at one address.
const BETWEEN: &str = ", and ";

/// The largest number of other addresses in the message: a host name may have any number of addresses.
const OTHERS_MAX: usize = 16;

/// Returns one error for all failures. Its kind is that of the last failure in which a server answered, otherwise that of
/// the last failure; the message lists the others before it, each address once. It is transient if one of them was marked so.
#[must_use]
pub fn sum_up(failures: Vec<Failure>) -> Error {
    let may_pass = failures.iter().any(|failure| failure.error.is_passing());
    let sum = sum_of(failures);
    if may_pass { sum.passing() } else { sum }
}

fn sum_of(mut failures: Vec<Failure>) -> Error {
    let best = failures.iter().rposition(Failure::is_answer).or(failures.len().checked_sub(1));
    let Some(Failure { at, error: best }) = best.map(|index| failures.remove(index)) else {
        return Error::new(ErrorKind::Config, "no server is named");
    };
    let (here, others): (Vec<_>, Vec<_>) = failures.into_iter().partition(|other| other.at == at);
    let mut hints: Vec<String> = best.hint().map(ToOwned::to_owned).into_iter().collect();
    let others = by_address(&others, &best, &mut hints);
    let mut text = String::new();
    if !others.is_empty() {
        text.push_str("no server could be used: ");
    }
    for (at, other) in others.iter().take(OTHERS_MAX) {
        let _ = write!(text, "{}: {}; ", Escaped(at), other.text);
    }
    if let Some(more @ 1..) = others.len().checked_sub(OTHERS_MAX) {
        let _ = write!(text, "{more} more; ");
    }
    if !at.is_empty() {
        let _ = write!(text, "{}: ", Escaped(&at));
    }
    let own = best.words();
    let here: Vec<_> = here.into_iter().filter(|same| same.message_beside(&best) != own).collect();
    for (_, same) in by_address(&here, &best, &mut hints) {
        let _ = write!(text, "{}{BETWEEN}", same.text);
    }
    best.preceded_by(&text)
}

/// Groups the failures by their address. Of equal hints, only the first is in the message.
fn by_address<'a>(
    failures: &'a [Failure],
    best: &Error,
    hints: &mut Vec<String>,
) -> Vec<(&'a str, Address)> {
    let mut addresses: Vec<(&str, Address)> = Vec::new();
    let mut indexes = BTreeMap::new();
    for failure in failures {
        let index = *indexes.entry(&*failure.at).or_insert(addresses.len());
        if index == addresses.len() {
            addresses.push((&failure.at, Address { messages: Vec::new(), text: String::new() }));
        }
        let Some((_, address)) = addresses.get_mut(index) else { continue };
        let words = failure.message_beside(best);
        if address.messages.contains(&words) {
            continue;
        }
        // Writing to a string cannot fail.
        let between = if address.messages.is_empty() { "" } else { BETWEEN };
        let _ = write!(address.text, "{between}{}", Escaped(&words));
        address.messages.push(words);
        if let Some(hint) = failure.error.hint()
            && !hints.iter().any(|shown| shown == hint)
        {
            let _ = write!(address.text, " (hint: {})", Escaped(hint));
            hints.push(hint.to_owned());
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: &str, kind: ErrorKind, text: &'static str) -> Failure {
        Failure { at: at.to_owned(), error: Error::new(kind, text) }
    }

    #[test]
    fn the_kind_is_that_of_the_server_that_answered() {
        let error = sum_up(vec![
            failure("nowhere", ErrorKind::Connect, "unknown"),
            failure("10.0.0.2:5432", ErrorKind::Auth, "wrong password"),
            failure("10.0.0.3:5432", ErrorKind::Timeout, "silent"),
        ]);
        assert_eq!(
            error.to_string(),
            "authentication: no server could be used: nowhere: connection: unknown; \
             10.0.0.3:5432: timeout: silent; 10.0.0.2:5432: wrong password"
        );
        assert_eq!(error.kind(), ErrorKind::Auth);
    }

    #[test]
    fn a_name_with_many_addresses_gives_a_short_message() {
        let failures = |count: usize| {
            let at = (1..=count).map(|n| format!("10.0.0.1:{n}"));
            at.map(|at| failure(&at, ErrorKind::Connect, "refused")).collect()
        };
        let text = sum_up(failures(5_000)).to_string();
        assert!(text.contains("; 4983 more; 10.0.0.1:5000: refused"), "{text}");
        assert!(text.len() < 2_000, "{text}");
        let text = sum_up(failures(OTHERS_MAX + 1)).to_string();
        assert!(!text.contains("more"), "{text}");
    }

    #[test]
    fn a_hint_that_is_the_same_everywhere_is_shown_once() {
        let hinted = |at: &str| Failure {
            error: Error::new(ErrorKind::Connect, "refused").with_hint("is it running?"),
            ..failure(at, ErrorKind::Connect, "")
        };
        let text = sum_up(vec![hinted("a"), hinted("b"), failure("c", ErrorKind::Auth, "no")]);
        let expected = "authentication: no server could be used: a: connection: refused (hint: is it running?); \
             b: connection: refused; c: no";
        assert_eq!(text.to_string(), expected);
        let text = sum_up(vec![hinted("a"), hinted("a"), hinted("b"), hinted("c")]).to_string();
        assert_eq!(text.matches("hint").count(), 1, "{text}");
    }

    #[test]
    fn a_single_failure_keeps_its_message() {
        let error = sum_up(vec![failure("a:1", ErrorKind::Connect, "refused")]);
        assert_eq!(error.to_string(), "connection: a:1: refused");
        let error = sum_up(vec![failure("a:1", ErrorKind::Timeout, "waited too long")]);
        assert_eq!(error.to_string(), "timeout: a:1: waited too long");
        assert_eq!(sum_up(Vec::new()).kind(), ErrorKind::Config);
    }

    #[test]
    fn where_one_of_them_may_pass_the_sum_may_pass() {
        let fault = |kind| Failure { at: String::new(), error: Error::new(kind, "x").passing() };
        let other = || failure("a:1", ErrorKind::Auth, "refused");
        assert!(sum_up(vec![fault(ErrorKind::Auth)]).is_transient());
        assert!(sum_up(vec![fault(ErrorKind::Auth), other()]).is_transient());
        assert!(sum_up(vec![other(), fault(ErrorKind::Config)]).is_transient());
        // A server that cannot be reached does not make a refusal less of one.
        assert!(!sum_up(vec![failure("b:1", ErrorKind::Connect, "x"), other()]).is_transient());
    }
}
