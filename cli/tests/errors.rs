//! Exit codes and error lines of the program, and that no password is in them.

mod common;

use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;

use common::{cluster, pgbell, run};

/// Runs `listen` with this in `DATABASE_URL`: exit code and stderr.
fn listen(url: &str) -> (i32, String) {
    let (code, out, err) = run(pgbell().env("DATABASE_URL", url).args(["listen", "c"]));
    assert_eq!(out, "");
    (code, err)
}

#[test]
fn a_wrong_password_is_an_authentication_failure() {
    let (code, err) = listen(&cluster().url("postgres", "hunter2", "postgres"));
    assert_eq!(code, 4, "{err}");
    let server = format!("127.0.0.1:{}", cluster().port());
    assert!(err.starts_with(&format!("pgbell: authentication: {server}: ")), "{err}");
    assert_eq!(err.matches(&server).count(), 1, "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn a_missing_password_is_an_authentication_failure() {
    let (code, err) = listen(&cluster().url("postgres", None, "postgres"));
    assert_eq!(code, 4, "{err}");
}

#[test]
fn no_server_is_a_connection_failure_with_a_hint() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, err) = listen(&format!("postgres://bob:hunter2@127.0.0.1:{port}/shop"));
    assert_eq!(code, 3, "{err}");
    let lines: Vec<_> = err.lines().collect();
    assert!(lines[0].starts_with("pgbell: connection: "), "{err}");
    assert!(lines[1].starts_with("hint: is the server running"), "{err}");
    assert_eq!(lines.len(), 2, "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn a_database_that_is_not_there_is_a_connection_failure() {
    let url = cluster().url("postgres", cluster().superuser_password(), "nowhere");
    let (code, err) = listen(&url);
    assert_eq!(code, 3, "{err}");
    assert!(err.contains("3D000"), "{err}");
}

#[test]
fn a_bad_url_is_pointed_at_without_its_password() {
    for (url, expected) in [
        ("postgres://bob:hunter2@host:99999/db", "pgbell: DATABASE_URL: port at byte 28: "),
        ("postgres://bob:hun@ter2@host/db", "pgbell: DATABASE_URL: "),
        ("mysql://bob:hunter2@host/db", "pgbell: DATABASE_URL: "),
        ("host=a passwort=hunter2", "pgbell: DATABASE_URL: "),
    ] {
        let (code, err) = listen(url);
        assert_eq!(code, 2, "{err}");
        assert!(err.starts_with(expected), "{err}");
        assert!(!err.contains("hun") && !err.contains("ter2"), "{err}");
    }
}

#[test]
fn wrong_arguments_are_a_usage_error() {
    for arguments in [
        &[][..],
        &["listen"],
        &["listen", "c", "-n", "0"],
        &["listen", "c", "-W", "soon"],
        &["listen", "c", "--format", "xml"],
        &["notify"],
        &["demo", "--url", "postgres://h/", "--server", "loopback"],
        &["dance"],
    ] {
        let (code, out, err) = run(pgbell().args(arguments));
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!err.is_empty(), "{arguments:?}");
    }
}

#[test]
fn an_argument_that_is_not_utf8_is_a_usage_error() {
    let argument = std::ffi::OsStr::from_bytes(b"a\xff");
    for arguments in [["listen".as_ref(), argument], ["notify".as_ref(), argument]] {
        let (code, out, err) = run(pgbell().args(arguments));
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(!err.contains("panicked"), "{err}");
    }
    let mut command = pgbell();
    command.env("DATABASE_URL", std::ffi::OsStr::from_bytes(b"postgres://\xff"));
    let ended = run(command.args(["listen", "c"]));
    assert_eq!(ended, (2, String::new(), "pgbell: DATABASE_URL: expected UTF-8\n".to_owned()));
}

#[test]
fn a_usage_error_does_not_repeat_a_connection_string() {
    let (code, _, err) = run(pgbell().args(["notify", "c", "x", "postgres://bob:hunter2@host/db"]));
    assert_eq!(code, 2, "{err}");
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn a_password_among_the_arguments_is_warned_of_and_not_repeated() {
    let url = cluster().url_for_superuser();
    let (code, _, err) = run(pgbell().args(["notify", "c", "x", "--url", &url]));
    assert_eq!(code, 0, "{err}");
    assert!(err.starts_with("pgbell: warning: the password in --url is visible"), "{err}");
    assert!(!err.contains(&url), "{err}");

    let url = cluster().url("postgres", None, "postgres");
    let mut command = pgbell();
    command.env("PGPASSWORD", cluster().superuser_password());
    let ended = run(command.args(["notify", "c", "x", "--url", &url]));
    assert_eq!(ended, (0, String::new(), String::new()));
}

#[test]
fn the_url_wins_over_the_environment_and_pg_variables_come_last() {
    let port = cluster().port().to_string();
    let variables = [
        ("PGHOST", "127.0.0.1"),
        ("PGPORT", &port),
        ("PGUSER", "postgres"),
        ("PGDATABASE", "postgres"),
        ("PGPASSWORD", cluster().superuser_password()),
    ];
    let nowhere = "postgres://127.0.0.1:1/";
    let good = cluster().url("postgres", None, "postgres");
    for (database_url, url, expected) in [
        (None, None, 0),
        (Some(""), None, 0),
        (Some(nowhere), None, 3),
        (Some(nowhere), Some(good.as_str()), 0),
        (Some(good.as_str()), Some(nowhere), 3),
    ] {
        let mut command = pgbell();
        command.envs(variables).args(["notify", "c", "x"]);
        database_url.map(|url| command.env("DATABASE_URL", url));
        url.map(|url| command.args(["--url", url]));
        let (code, _, err) = run(&mut command);
        assert_eq!(code, expected, "{database_url:?} {url:?}: {err}");
    }
}

#[test]
fn help_lists_every_exit_code() {
    let (code, out, err) = run(pgbell().arg("--help"));
    assert_eq!((code, err.as_str()), (0, ""));
    for code in ["0", "1", "2", "3", "4", "5", "6", "7", "130", "143"] {
        let line = format!("  {code:>3}  ");
        assert!(out.lines().any(|found| found.starts_with(&line)), "{code}: {out}");
    }
}

/// A trigger or a pooler may send such a text.
#[test]
fn a_hint_of_the_server_that_is_very_long_is_one_line_of_bounded_length() {
    use std::io::{Read, Write};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut packet = [0; 4_096];
        assert!(socket.read(&mut packet).unwrap() > 8);
        let let_in = b"R\0\0\0\x08\0\0\0\0S\0\0\0\x19client_encoding\0UTF8\0Z\0\0\0\x05I";
        socket.write_all(let_in).unwrap();
        assert!(socket.read(&mut packet).unwrap() > 8);
        let hint = vec![b'h'; 900_000];
        let fields = [b"SERROR\0VERROR\0C42P01\0Mrefused\0H", &hint[..], b"\0\0"].concat();
        let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
        let refusal = [b"E", &length[..], &fields, b"Z\0\0\0\x05I"].concat();
        socket.write_all(&refusal).unwrap();
        while socket.read(&mut packet).unwrap_or(0) > 0 {}
    });
    let url = format!("postgres://bob@127.0.0.1:{port}/shop?sslmode=disable");
    let (code, _, err) = run(pgbell().env("DATABASE_URL", url).args(["notify", "c", "x"]));
    server.join().unwrap();
    assert_ne!(code, 0, "{err}");
    assert!(err.len() < 8 * 1024, "{} bytes", err.len());
    let lines: Vec<_> = err.lines().collect();
    assert!(lines.len() == 2 && lines[0].contains("refused"), "{err}");
    assert!(lines[1].starts_with("hint: hhh"), "{err}");
}
