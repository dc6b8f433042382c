//! The commands of the README, as they are written there, and the program that they build.
//!
//! The other tests run the program that is built with all features of the workspace. This one runs the program that a
//! user gets.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Running, run, without_server};
use pgbell_testkit::{Auth, Certificates, Cluster, Leaf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The lines of the shell blocks of a document that build and run the command line.
fn commands(document: &str) -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join(document)).unwrap();
    let mut is_shell = false;
    let mut commands = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(language) => is_shell = language == "sh",
            None if is_shell && line.starts_with("cargo run ") => {
                let command = line.split(" #").next().unwrap();
                commands.push(command.trim().to_owned());
            }
            None => {}
        }
    }
    commands
}

/// The directory in which cargo has built this test.
fn target() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_pgbell")).ancestors().nth(2).unwrap().to_owned()
}

/// Runs a line in a shell, at the top of the repository. It must succeed.
fn shell(line: &str) -> String {
    let mut command = without_server(Command::new("sh"));
    command.args(["-c", line]).current_dir(workspace()).env("CARGO_TARGET_DIR", target());
    let (code, out, err) = run(&mut command);
    assert_eq!(code, 0, "{line}\n{out}\n{err}");
    out
}

#[test]
fn the_program_that_the_readme_builds_connects_to_a_server_that_takes_tls_only() {
    for document in ["README.md", "cli/README.md"] {
        let commands = commands(document);
        assert!(!commands.is_empty(), "{document} has no command that runs the command line");
        for command in commands {
            let out = shell(&command);
            assert!(
                out.contains("\nresult     every notification arrived once and in order\n"),
                "{command}: {out}"
            );
        }
    }

    let certificates = Certificates::new().unwrap();
    let authority = certificates.authority("pgbell test authority").unwrap();
    let certificate = authority.issue(&Leaf::server("localhost")).unwrap();
    let cluster = Cluster::builder()
        .auth(Auth::ScramSha256)
        .tls(&certificate)
        .hba("hostnossl all all all reject")
        .unix_socket(false)
        .start()
        .unwrap();
    let url = cluster.url_for_superuser().replacen("127.0.0.1", "localhost", 1);
    let root = authority.certificate().path().display().to_string();
    for tls in ["sslmode=require".to_owned(), format!("sslmode=verify-full&sslrootcert={root}")] {
        let pgbell = || {
            let mut command = without_server(Command::new(target().join("release/pgbell")));
            command.env("DATABASE_URL", format!("{url}?{tls}"));
            command
        };
        let listener =
            Running::listening(pgbell().args(["listen", "orders", "-n", "1", "--format", "json"]));
        let sent = run(pgbell().args(["notify", "orders", "over TLS"]));
        assert_eq!(sent, (0, String::new(), String::new()), "{tls}");
        let (code, out, _) = listener.end();
        assert_eq!(code, 0, "{tls}");
        assert!(out.contains("over TLS"), "{tls}: {out}");
    }

    // The server refuses connections without TLS.
    let mut command = without_server(Command::new(target().join("release/pgbell")));
    command.env("DATABASE_URL", format!("{url}?sslmode=disable"));
    let (code, _, err) = run(command.args(["notify", "orders", "in the clear"]));
    assert_ne!(code, 0);
    assert!(err.contains("pg_hba.conf"), "{err}");
}
