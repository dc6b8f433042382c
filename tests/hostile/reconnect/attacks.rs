//! Every message and byte sequence that ends a live session, and the cause that a listener must report.

use pgbell::ErrorKind::{self, Auth, Connect, Protocol, Server, Unsupported};

use super::super::attack::{hex, message};

/// One attack on a live session.
#[derive(Debug, Clone)]
pub(super) struct Attack {
    /// The number in the catalogue of faults, and a description.
    pub(super) name: String,
    pub(super) bytes: Vec<u8>,
    /// True if the server closes the socket behind it. Otherwise the client must close the connection itself.
    pub(super) closes: bool,
    pub(super) kind: ErrorKind,
    /// A part of the text of the gap's cause.
    pub(super) text: String,
}

pub(super) fn diagnostic(tag: u8, severity: &str, code: &str) -> Vec<u8> {
    let fields = format!("S{severity}\0V{severity}\0C{code}\0Mno\0\0");
    message(tag, fields.as_bytes())
}

/// Framing: invalid lengths, and bytes that are not messages.
fn framing() -> Vec<(String, Vec<u8>, ErrorKind, String)> {
    let mut cases = Vec::new();
    for (name, bytes, text) in [
        ("F1", "41 00000003", "length word 3 is below 11"),
        ("F1", "41 00000000", "length word 0 is below 11"),
        ("F2", "41 80000000", "length word 2147483648 is above 262144"),
        ("F2", "41 ffffffff", "length word 4294967295 is above 262144"),
        ("F3", "41 00040001", "length word 262145 is above 262144"),
        ("F4", "41 7fffffff", "length word 2147483647 is above 262144"),
        ("F4", "4e 7fffffff", "length word 2147483647 is above 1073741826"),
        ("F4", "44 7fffffff", "length word 2147483647 is above 1073741826"),
        ("F8", "41 0000000b 00000001 6100 62", "payload is not ended by a NUL"),
        ("F9", "41 00000008 00000001", "length word 8 is below 11"),
        ("F9", "41 00000004", "length word 4 is below 11"),
        ("F9", "41 00000006 0000", "length word 6 is below 11"),
        ("F11", "41 0000000b 00000001 00 6200", "channel length is 0"),
        ("F12", "7a 00000004", "type byte 0x7a"),
        ("F12", "00 00000004", "type byte 0x00"),
        ("F12", "ff 00000004", "type byte 0xff"),
        ("E4", "45 00000004", "length word 4 is below 5 in ErrorResponse"),
        ("E5", "45 0000000d 53 4552524f5200 4d 78", "field value is not ended by a NUL"),
        ("E5", "45 00000005 53", "field value is not ended by a NUL"),
        ("E5", "4e 00000006 0000", "expected the end and found 1 more bytes"),
        ("T19", "4b 00000008 00000007", "length word 8 is below 12 in BackendKeyData"),
        ("A14", "52 0000000a 00000005 0102", "Authentication"),
    ] {
        cases.push((format!("{name} {bytes}"), hex(bytes), Protocol, text.to_owned()));
    }
    for (bytes, text) in [
        (&b"HTTP/1.1 400 Bad Request\r\n"[..], "length word 1414811695 is above 30000"),
        (b"SSH-2.0-OpenSSH\r\n", "length word 1397239090 is above"),
        (b"\x15\x03\x01\x00\x02\x02\x28", "type byte 0x15"),
        (b"\x4a\0\0\0\x0a8.0.36\0", "type byte 0x4a"),
    ] {
        cases.push((
            format!("F14 {}", bytes.escape_ascii()),
            bytes.to_vec(),
            Protocol,
            text.to_owned(),
        ));
    }
    cases
}

/// Well-formed messages that are not allowed in an idle session.
fn unexpected() -> Vec<(String, Vec<u8>, ErrorKind, String)> {
    [
        ("T18", "4b 0000000c 00000007 00000001", "BackendKeyData"),
        ("A1", "52 00000008 00000000", "Authentication"),
        ("A12", "52 00000008 00000003", "Authentication"),
        ("A13", "52 0000000c 00000005 01020304", "Authentication"),
        ("A15", "52 00000008 00000007", "Authentication"),
        ("A11", "52 00000017 0000000a 534352414d2d5348412d32353600 00", "Authentication"),
        ("A5", "52 0000000c 0000000b 723d7a2c", "Authentication"),
        ("A4", "52 0000000c 0000000c 763d7a7a", "Authentication"),
        ("T14", "76 0000000c 00030000 00000000", "NegotiateProtocolVersion"),
        ("Q1", "47 00000007 00 0000", "CopyInResponse"),
        ("Q2", "48 00000007 00 0000", "CopyOutResponse"),
        ("Q2", "64 00000006 780a", "CopyData"),
        ("Q2", "63 00000004", "CopyDone"),
        ("Q3", "57 00000007 00 0000", "CopyBothResponse"),
        ("Q5", "54 00000006 0000", "RowDescription"),
        ("Q5", "44 00000006 0000", "DataRow"),
        ("Q7", "49 00000004", "EmptyQueryResponse"),
        ("Q9", "5a 00000005 49", "ReadyForQuery"),
        ("Q9", "43 0000000b 4c495354454e00", "CommandComplete"),
        ("Q14", "31 00000004", "ParseComplete"),
        ("Q14", "32 00000004", "BindComplete"),
        ("Q14", "33 00000004", "CloseComplete"),
        ("Q14", "6e 00000004", "NoData"),
        ("Q14", "73 00000004", "PortalSuspended"),
        ("Q14", "74 00000006 0000", "ParameterDescription"),
        ("Q14", "56 00000008 ffffffff", "FunctionCallResponse"),
    ]
    .map(|(name, bytes, text)| {
        let text = format!("{text} does not belong to an idle session");
        (format!("{name} {bytes}"), hex(bytes), Protocol, text)
    })
    .into()
}

/// Errors that end a session, and an encoding in which a quote can be part of a character.
fn errors() -> Vec<(String, Vec<u8>, ErrorKind, String)> {
    let mut cases: Vec<_> = [
        ("E1", "FATAL", "57P01", "the server ended the session: FATAL: no (SQLSTATE 57P01)"),
        ("E1", "FATAL", "57P02", "FATAL: no (SQLSTATE 57P02)"),
        ("E1", "FATAL", "57P04", "FATAL: no (SQLSTATE 57P04)"),
        ("E1", "FATAL", "28000", "FATAL: no (SQLSTATE 28000)"),
        ("E10", "FATAL", "57P05", "(SQLSTATE 57P05) (hint: set idle_session_timeout = 0"),
        ("E12", "PANIC", "XX000", "PANIC: no (SQLSTATE XX000)"),
        ("E12", "XYZ", "42501", "XYZ: no (SQLSTATE 42501)"),
    ]
    .map(|(name, severity, code, text)| {
        let bytes = diagnostic(b'E', severity, code);
        let kind = if code == "28000" { Auth } else { Server };
        (format!("{name} {severity} {code}"), bytes, kind, text.to_owned())
    })
    .into();
    let empty = "the server ended the session: error: ".to_owned();
    cases.push(("E4 no fields".into(), hex("45 00000005 00"), Server, empty));
    let translated = message(b'E', b"SFATALER FEHLER\0C57P01\0Mende\0\0");
    let text = "FATALER FEHLER: ende (SQLSTATE 57P01)".to_owned();
    cases.push(("E11 translated".into(), translated, Server, text));
    for encoding in ["SJIS", "SQL_ASCII", ""] {
        let bytes = message(b'S', format!("client_encoding\0{encoding}\0").as_bytes());
        let text = format!("client_encoding is {encoding}, expected UTF8");
        cases.push((format!("V6 {encoding}"), bytes, Unsupported, text));
    }
    cases
}

/// The end of the stream: between messages, inside one, behind a warning.
fn ends() -> Vec<Attack> {
    let end = |name: String, bytes: &[u8], kind, text: &str| Attack {
        name,
        bytes: bytes.to_vec(),
        closes: true,
        kind,
        text: text.to_owned(),
    };
    let plain = "the server closed the connection";
    let mut cases = vec![end("F15 between messages".to_owned(), b"", Connect, plain)];
    let error = diagnostic(b'E', "FATAL", "57P01");
    for (of, whole) in [("a notification", super::peer::note("cut off")), ("an error", error)] {
        for bytes in 1..whole.len() {
            cases.push(end(format!("F15 {bytes} of {of}"), &whole[..bytes], Connect, plain));
        }
    }
    for code in ["57P01", "57P02"] {
        let text = format!("the server closed the connection: WARNING: no (SQLSTATE {code})");
        let warning = diagnostic(b'N', "WARNING", code);
        cases.push(end(format!("E2 {code}"), &warning, Server, &text));
    }
    let notice = diagnostic(b'N', "NOTICE", "00000");
    cases.push(end("E2 a notice".to_owned(), &notice, Connect, plain));
    cases
}

/// Returns all attacks.
pub(super) fn all() -> Vec<Attack> {
    let stays = framing().into_iter().chain(unexpected()).chain(errors());
    let stays =
        stays.map(|(name, bytes, kind, text)| Attack { name, bytes, closes: false, kind, text });
    stays.chain(ends()).collect()
}
