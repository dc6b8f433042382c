//! What to say when no try led to a session.

use std::fmt::Write;

use crate::wire::escape::Escaped;
use crate::{Error, ErrorKind};

/// A try that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The address. Empty when the error says it.
    pub at: String,
    /// Why.
    pub error: Error,
}

impl Failure {
    /// A server that answers tells more than one that cannot be reached.
    fn is_answer(&self) -> bool {
        !matches!(self.error.kind(), ErrorKind::Connect | ErrorKind::Timeout)
    }
}

/// Most of the others that are told: a name may have any number of addresses.
const OTHERS_MAX: usize = 16;

/// One error for all of them: the last that tells most gives the kind, the others stand before it. If one of them came
/// from outside, the next attempt may go well there.
#[must_use]
pub fn sum_up(failures: Vec<Failure>) -> Error {
    let may_pass = failures.iter().any(|failure| failure.error.is_passing());
    let sum = sum_of(failures);
    if may_pass { sum.passing() } else { sum }
}

fn sum_of(mut failures: Vec<Failure>) -> Error {
    let best = failures.iter().rposition(Failure::is_answer).or(failures.len().checked_sub(1));
    let Some(best) = best.map(|index| failures.remove(index)) else {
        return Error::new(ErrorKind::Config, "no server is named");
    };
    if failures.is_empty() {
        // The words of a timeout do not say at which address it was.
        let has_address = best.error.kind() != ErrorKind::Timeout || best.at.is_empty();
        return if has_address {
            best.error
        } else {
            best.error.preceded_by(&format!("{}: ", best.at))
        };
    }
    let mut text = String::from("no server could be used: ");
    let colon = |at: &str| if at.is_empty() { "" } else { ": " };
    // Writing to a string cannot fail.
    for Failure { at, error } in failures.iter().take(OTHERS_MAX) {
        let error = error.to_string();
        let _ = write!(text, "{at}{}{}; ", colon(at), Escaped(&error));
    }
    if let Some(more @ 1..) = failures.len().checked_sub(OTHERS_MAX) {
        let _ = write!(text, "{more} more; ");
    }
    let _ = write!(text, "{}{}", best.at, colon(&best.at));
    best.error.preceded_by(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(at: &str, kind: ErrorKind, text: &'static str) -> Failure {
        Failure { at: at.to_owned(), error: Error::new(kind, text) }
    }

    #[test]
    fn the_answer_of_a_server_stands_out_among_those_that_gave_none() {
        let error = sum_up(vec![
            failure("", ErrorKind::Connect, "nowhere: unknown"),
            failure("10.0.0.2:5432", ErrorKind::Auth, "wrong password"),
            failure("10.0.0.3:5432", ErrorKind::Timeout, "silent"),
        ]);
        assert_eq!(
            error.to_string(),
            "authentication: no server could be used: connection: nowhere: unknown; \
             10.0.0.3:5432: timeout: silent; 10.0.0.2:5432: wrong password"
        );
        assert_eq!(error.kind(), ErrorKind::Auth);
    }

    #[test]
    fn a_name_with_many_addresses_is_told_in_few_words() {
        let error = sum_up(vec![failure("10.0.0.1:5432", ErrorKind::Connect, "refused"); 5_000]);
        let text = error.to_string();
        assert!(text.contains("; 4983 more; 10.0.0.1:5432: refused"), "{text}");
        assert!(text.len() < 2_000, "{text}");
        let text = sum_up(vec![failure("a", ErrorKind::Connect, "b"); OTHERS_MAX + 1]).to_string();
        assert!(!text.contains("more"), "{text}");
    }

    #[test]
    fn one_failure_is_told_as_it_is() {
        let error = sum_up(vec![failure("a:1", ErrorKind::Connect, "a:1: refused")]);
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
