//! Tests of the error type.

mod once;

use std::any::Any;

use super::*;
use crate::proto::wire::Severity;

fn server(code: &str) -> Error {
    Error::server("the server refused", DbError::new(Severity::Fatal, code, "no"))
}

#[test]
fn an_error_is_transient_only_if_a_later_call_may_succeed() {
    for code in ["57P01", "57P02", "57P03", "57P05", "53300", "08006", "40001", "25006"] {
        assert!(server(code).is_transient(), "{code}");
    }
    for code in ["28P01", "28000", "3D000", "42501", "57P04", "0A000", "57014", ""] {
        assert!(!server(code).is_transient(), "{code}");
    }
    assert!(Error::new(ErrorKind::Connect, "x").is_transient());
    assert!(!Error::new(ErrorKind::Protocol, "x").is_transient());
}

#[test]
fn the_kind_depends_on_the_sqlstate() {
    assert_eq!(server("28P01").kind(), ErrorKind::Auth);
    assert_eq!(server("25006").kind(), ErrorKind::Standby);
    assert_eq!(server("42501").kind(), ErrorKind::Server);
    assert_eq!(server("42501").sqlstate(), Some("42501"));
    assert_eq!(server("").sqlstate(), None);
}

#[test]
fn errors_of_the_server_with_a_known_cure_have_a_hint() {
    for (code, hint) in [
        (
            "25006",
            Some("LISTEN and NOTIFY need the primary: connect to it, or promote this server"),
        ),
        (
            "53300",
            Some(
                "the server has no free connection slot: raise max_connections or close idle ones",
            ),
        ),
        ("57P05", Some("set idle_session_timeout = 0 for the role that listens")),
        (
            "22021",
            Some(
                "the server cannot send a notification as UTF-8: is the database's encoding SQL_ASCII?",
            ),
        ),
        (
            "22P05",
            Some(
                "the server cannot send a notification as UTF-8: is the database's encoding SQL_ASCII?",
            ),
        ),
        ("42501", None),
    ] {
        assert_eq!(server(code).hint(), hint, "{code}");
    }
    // An ordinary error of a statement.
    let ordinary = DbError::new(Severity::Error, "22021", "no");
    assert_eq!(Error::server("refused", ordinary).hint(), None);
}

#[test]
fn a_hint_is_shown_last_and_does_not_change_a_clone() {
    let first = Error::new(ErrorKind::Config, "no user");
    let shared = first.clone();
    let error = first.with_hint("set PGUSER");
    assert_eq!(error.to_string(), "configuration: no user (hint: set PGUSER)");
    assert_eq!(shared.to_string(), "configuration: no user");
}

#[test]
fn a_cause_is_shown_only_by_the_alternate_text_and_returned_as_the_source() {
    let inner = Error::new(ErrorKind::Connect, "broken pipe");
    let outer = Error::caused(ErrorKind::InDoubt, "the connection was lost", inner);
    assert_eq!(outer.to_string(), "in doubt: the connection was lost");
    assert_eq!(format!("{outer:#}"), "in doubt: the connection was lost: connection: broken pipe");
    assert!(std::error::Error::source(&outer).is_some());
}

#[test]
fn a_brief_error_has_short_fields_and_so_has_its_cause() {
    let long = DbError::new(Severity::Error, "42501", &"é".repeat(100_000));
    let long = Error::server("refused", long).with_hint("ask");
    let outer = Error::caused(ErrorKind::InDoubt, "lost", long.clone());
    let brief = long.brief();
    assert_eq!((brief.kind(), brief.sqlstate()), (ErrorKind::Server, Some("42501")));
    assert_eq!(brief.hint(), Some("ask"));
    assert!(brief.db_error().unwrap().message().len() < 2_000);
    let outer = outer.brief();
    let cause = std::error::Error::source(&outer).unwrap().downcast_ref::<Error>().unwrap();
    assert!(cause.db_error().unwrap().message().len() < 2_000);
    // A short error is not copied.
    let short = server("57P01");
    assert!(Arc::ptr_eq(&short.clone().brief().0, &short.0));
}

#[test]
fn an_error_is_send_sync_clone_and_static() {
    fn check<T: Send + Sync + Clone + 'static>() {}
    check::<Error>();
}

fn panicked(payload: impl Any + Send) -> Error {
    Error::panicked("the attempt", &Panic::new(Box::new(payload)))
}

#[test]
fn the_error_of_a_panic_contains_at_most_200_characters_of_its_message() {
    let error = panicked("gone");
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_eq!(error.to_string(), "other: the attempt panicked: gone");
    let error = panicked(String::from("gone"));
    assert_eq!(error.to_string(), "other: the attempt panicked: gone");
    let error = panicked("é".repeat(100_000));
    assert_eq!(error.to_string(), format!("other: the attempt panicked: {}", "é".repeat(200)));
    assert_eq!(panicked(404).to_string(), "other: the attempt panicked");
}

/// An error of another crate, whose text comes from a server.
#[derive(Debug)]
struct Unescaped(String);

impl fmt::Display for Unescaped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unescaped {}

/// An error of a user's hook, caused by an `Unescaped`.
#[derive(Debug)]
struct Load(Unescaped);

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("load")
    }
}

impl std::error::Error for Load {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

#[test]
fn text_of_a_peer_is_cut_and_escaped_wherever_it_is_in_an_error() {
    let long = "h\u{1b}".repeat(500_000);
    let mut words = DbError::new(Severity::Error, &long, &long);
    for field in *b"SVDHWstcdnFRq" {
        words = words.with_field(field, &long);
    }
    let server = Error::server("the server refused the query", words);
    assert_eq!(server.hint(), Some(&*long), "the getter does not cut the text");
    let tls = Error::caused(ErrorKind::Tls, "the handshake failed", long);
    let both = Error::caused(ErrorKind::InDoubt, "the connection was lost", server.clone());
    let other = Error::other(Load(Unescaped("h\u{1b}".repeat(1_000))));
    for error in [server.clone(), tls, both, other, server.preceded_by("another failed: ")] {
        let (display, debug) = (format!("{error:#}"), format!("{error:?}"));
        // An escaped byte takes six bytes.
        assert!(display.len() < 64 * 1024, "{} bytes of Display", display.len());
        assert!(debug.len() < 256 * 1024, "{} bytes of Debug", debug.len());
        assert!(!format!("{display}{debug}").contains(char::is_control));
    }
}

#[test]
fn a_passing_error_stays_passing_when_it_is_changed_or_becomes_a_cause() {
    let fault = || Error::new(ErrorKind::Config, "the file is empty").passing();
    let shared = fault();
    let (hinted, marked) = (shared.clone().with_hint("fill it"), Error::new(ErrorKind::Auth, "x"));
    for error in [
        fault(),
        fault().passing(),
        fault().with_hint("fill it"),
        hinted,
        fault().preceded_by("10.0.0.1: "),
        Error::caused(ErrorKind::Auth, "no password", fault()),
        marked.clone().passing(),
        Error::server("refused", DbError::new(Severity::Fatal, "28000", &"é".repeat(100_000)))
            .passing()
            .brief(),
    ] {
        assert!(error.is_passing() && error.is_transient(), "{error}");
    }
    assert!(shared.is_passing());
    // A mark does not change a clone.
    assert!(!marked.is_passing() && !marked.is_transient());
    // A listener that has ended never succeeds later, whatever the cause.
    let over = Error::caused(ErrorKind::Closed, "the listener has ended", fault());
    assert!(!over.is_transient(), "{over}");
    assert!(!Error::new(ErrorKind::Config, "no user").is_transient());
}

#[test]
fn kinds_states_and_overflow_policies_have_readable_texts() {
    use std::time::Duration;

    use crate::proto::supervisor::{Overflow, State};

    let max_stall = Duration::from_millis(1_500);
    for (shown, words) in [
        (ErrorKind::InDoubt.to_string(), "in doubt"),
        (ErrorKind::Tls.to_string(), "TLS"),
        (State::CatchingUp.to_string(), "catching up"),
        (State::Connected.to_string(), "connected"),
        (Overflow::DropOldest.to_string(), "drop oldest"),
        (Overflow::Block { max_stall }.to_string(), "block for at most 1.5s"),
    ] {
        assert_eq!(shown, words);
    }
}
