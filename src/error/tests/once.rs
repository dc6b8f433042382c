//! Tests that every text of an error contains each fact only once.

use std::error::Error as StdError;
use std::io;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Panic};
use crate::proto::auth::scram::{ScramError, ScramMessage};
use crate::proto::auth::{
    AuthError, AuthMethod, AuthRefusal, ChannelBinding, NonAsciiPassword, Obstacle,
};
use crate::proto::route::{Failure, sum_up};
use crate::proto::wire::{
    ChannelError, DbError, DecodeError, DecodeFault, EncodeError, PayloadError,
};
use crate::proto::wire::{Severity, check_channel};

/// Prints an error as anyhow, eyre and most log lines do: its text, and the text of each cause.
fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Checks that no sequence of three words is in the text twice.
fn assert_no_repetition(text: &str) {
    let words: Vec<&str> = text.split_whitespace().collect();
    for (at, three) in words.windows(3).enumerate() {
        let rest = &words[at + 1..];
        assert!(!rest.windows(3).any(|later| later == three), "{three:?} twice: {text}");
    }
}

fn refusal() -> Error {
    let words = DbError::new(Severity::Error, "42501", "permission denied for table orders");
    Error::server("the server refused the query", words.with_field(b'H', "grant it"))
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")
}

/// An error of another crate that has a cause.
#[derive(Debug)]
struct Foreign(io::Error);

impl std::fmt::Display for Foreign {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the cache is cold")
    }
}

impl StdError for Foreign {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.0)
    }
}

fn of_auth() -> Vec<Error> {
    let refused = |method, refusal| AuthError::Refused { method, refusal };
    let require_auth = "!md5".parse().unwrap();
    let message = ScramMessage::ServerFirst;
    let scram = [
        ScramError::OutOfOrder { call: "handle", state: "it was over" },
        ScramError::TooLong { message, found: 9_000 },
        ScramError::Malformed { message, problem: "trailing attributes" },
        ScramError::MandatoryExtension { message },
        ScramError::NonceMismatch { message },
        ScramError::NonceNotExtended,
        ScramError::TooManyIterations { found: 9, max: 8 },
        ScramError::TooFewIterations { found: 1, min: 2 },
        ScramError::Refused { error: "other-error".to_owned() },
        ScramError::WrongServerSignature,
        ScramError::ChannelBinding { problem: "asked for, but not offered" },
    ];
    let others = [
        AuthError::Violation { expected: "AuthenticationOk", found: "AuthenticationMD5Password" },
        AuthError::Unsupported { code: 7 },
        AuthError::Unsupported { code: 77 },
        AuthError::NoMechanism { offered: "OAUTHBEARER".to_owned() },
        AuthError::NoPassword { method: AuthMethod::Md5 },
        refused(AuthMethod::Password, AuthRefusal::Cleartext),
        refused(AuthMethod::Password, AuthRefusal::Account { uid: Some(7) }),
        refused(AuthMethod::Password, AuthRefusal::Account { uid: None }),
        refused(AuthMethod::Password, AuthRefusal::Unverified),
        refused(AuthMethod::Md5, AuthRefusal::RequireAuth(require_auth)),
        refused(AuthMethod::Trust, AuthRefusal::RequireAuth(require_auth)),
        refused(AuthMethod::Md5, AuthRefusal::ChannelBinding),
        AuthError::NoChannelBinding { obstacle: Obstacle::NoTls },
        AuthError::NoChannelBinding { obstacle: Obstacle::NoHash },
        AuthError::NoChannelBinding { obstacle: Obstacle::NotOffered },
        AuthError::CannotBind,
        AuthError::Unsatisfiable { require_auth, channel_binding: ChannelBinding::Require },
        AuthError::Unsatisfiable { require_auth, channel_binding: ChannelBinding::Prefer },
        AuthError::Credentials { problem: "the user name contains a NUL" },
        AuthError::from(NonAsciiPassword),
        AuthError::Misuse { problem: "a computation was requested, but none is pending" },
    ];
    others.into_iter().chain(scram.map(AuthError::from)).map(Error::from).collect()
}

fn of_wire() -> Vec<Error> {
    let (message, field) = ("NotificationResponse", "payload");
    let decode = [
        DecodeFault::LengthBelowFloor { length: 3, floor: 11 },
        DecodeFault::LengthAboveCap { length: 9, cap: 8 },
        DecodeFault::ShortBody { field, needed: 4, available: 2 },
        DecodeFault::MissingNul { field },
        DecodeFault::Leftover { bytes: 3 },
        DecodeFault::UnknownTag { tag: 7 },
        DecodeFault::BeforeAuthentication,
        DecodeFault::BadValue { field, expected: "0 or 1", found: 2 },
    ];
    let encode = [
        EncodeError::Nul { message: "Query", field: "query", at: 2 },
        EncodeError::TooLong { message: "Query", bytes: 9, max: 8 },
        EncodeError::TooMany { message: "Bind", field: "values", count: 9, max: 8 },
        EncodeError::BadValue { message: "Bind", field: "format", expected: "0 or 1" },
    ];
    let channel =
        [ChannelError::Empty, ChannelError::Nul { at: 1 }, ChannelError::TooLong { bytes: 64 }];
    let payload = [PayloadError::Nul { at: 1 }, PayloadError::TooLong { bytes: 8_000 }];
    let decode = decode.into_iter().map(|fault| DecodeError::new(message, fault).into());
    let decode = decode.chain([DecodeError::not_postgres(b"HTTP/1.1 400 Bad Request").into()]);
    let encode = encode.into_iter().map(Error::from);
    let names = channel.into_iter().map(Error::from).chain(payload.into_iter().map(Error::from));
    decode.chain(encode).chain(names).collect()
}

fn of_config() -> Vec<Error> {
    let texts = [
        "postgres://bob:hunter2@host:99999/db",
        "hots=db1",
        "host=a;password=pl4nted",
        "port=seventy",
        "sslmode=maybe",
        "require_auth=none,none",
        "host='open",
    ];
    texts.iter().map(|text| text.parse::<Config>().unwrap_err().into()).collect()
}

/// Errors of one address or several.
fn of_addresses() -> Vec<Error> {
    let refused = |at: &str| {
        let error = Error::new(ErrorKind::Connect, "Connection refused (os error 111)");
        Failure { at: at.to_owned(), error: error.with_hint("is the server running there?") }
    };
    let other = |at: &str, error| Failure { at: at.to_owned(), error };
    let (a, b) = ("10.0.0.1:5432", "10.0.0.2:5432");
    let handshake = || Error::caused(ErrorKind::Tls, "the TLS handshake failed", reset());
    let late = || Error::new(ErrorKind::Tls, "the certificate has expired");
    vec![
        sum_up(vec![refused(a)]),
        sum_up(vec![other(a, refusal())]),
        sum_up(vec![other(a, handshake()), other(b, refusal())]),
        sum_up(vec![other(a, handshake()), other(a, refusal()), other(b, late())]),
    ]
}

/// Returns errors of every constructor, alone and as the cause of another error.
fn all() -> Vec<Error> {
    let mut all: Vec<Error> = [of_auth(), of_wire(), of_config(), of_addresses()].concat();
    let (broken, lost) = ("the connection broke while we read", "the connection was lost");
    all.extend([
        Error::new(ErrorKind::Timeout, "waited too long for the password"),
        Error::caused(ErrorKind::Connect, broken, reset()).with_hint("look at the log"),
        Error::other("boom"),
        Error::other(Foreign(reset())),
        Error::panicked("the on_live hook", &Panic::new(Box::new("gone"))),
        refusal(),
        refusal().passing().declined().brief(),
    ]);
    let caused = all.iter().map(|cause| Error::caused(ErrorKind::InDoubt, lost, cause.clone()));
    let hinted = all.iter().map(|error| error.clone().with_hint("read the manual"));
    let more: Vec<Error> = caused.chain(hinted).collect();
    all.extend(more);
    all
}

#[test]
fn a_reporter_that_prints_the_causes_too_prints_each_fact_once() {
    for error in all() {
        assert_no_repetition(&chain(&error));
    }
}

#[test]
fn the_alternate_text_is_the_whole_chain_and_the_plain_one_has_no_cause() {
    for error in all() {
        assert_eq!(format!("{error:#}"), chain(&error));
        if let Some(source) = error.source() {
            let plain = error.to_string();
            assert!(!plain.contains(&source.to_string()), "{plain}: {source}");
        }
    }
}

/// `fn main() -> Result<(), pgbell::Error>` prints `Debug`.
#[test]
fn debug_of_an_error_is_a_readable_text() {
    for error in all() {
        let debug = format!("{error:?}");
        assert_eq!(debug, chain(&error));
        if let Some(hint) = error.hint() {
            assert_eq!(debug.matches(hint).count(), 1, "{debug}");
        }
        let parts = format!("{error:#?}");
        assert!(parts.starts_with("Error {\n") && parts.contains("kind: "), "{parts}");
    }
}

#[test]
fn the_error_of_a_channel_name_contains_its_cause_once() {
    let error = Error::from(check_channel("").unwrap_err());
    assert_eq!(format!("{error:#}"), "misuse: channel name is empty: 1 to 63 bytes");
    assert_eq!(chain(&error), format!("{error:#}"));
}

#[test]
fn two_addresses_are_named_once_each_with_their_cause_the_label_and_the_hint() {
    let refused = |at: &str| Failure {
        at: at.to_owned(),
        error: Error::new(ErrorKind::Connect, "Connection refused (os error 111)")
            .with_hint("is the server running?"),
    };
    let error = sum_up(vec![refused("[::1]:9"), refused("127.0.0.1:9")]);
    assert_eq!(
        format!("{error:#}"),
        "connection: no server could be used: [::1]:9: Connection refused (os error 111); \
         127.0.0.1:9: Connection refused (os error 111) (hint: is the server running?)"
    );
}

#[test]
fn an_address_that_was_tried_twice_is_named_once() {
    let failure = |error| Failure { at: "127.0.0.1:9".to_owned(), error };
    let tls = Error::caused(ErrorKind::Tls, "the TLS handshake failed", reset());
    let error = sum_up(vec![failure(tls.clone()), failure(refusal())]);
    assert_eq!(
        error.to_string(),
        "server error: 127.0.0.1:9: TLS: the TLS handshake failed: connection reset by peer, and \
         the server refused the query: ERROR: permission denied for table orders (SQLSTATE 42501) \
         (hint: grant it)"
    );
    let error = sum_up(vec![failure(tls.clone()), failure(tls)]);
    assert_eq!(
        format!("{error:#}"),
        "TLS: 127.0.0.1:9: the TLS handshake failed: connection reset by peer"
    );
}
