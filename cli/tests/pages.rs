//! Completions, manual pages and help.

mod common;

use std::fs;
use std::process::Command;

use common::{ScratchDir, pgbell, run};

#[test]
fn every_shell_has_completions_of_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let (code, out, err) = run(pgbell().args(["completions", shell]));
        assert_eq!((code, err.as_str()), (0, ""), "{shell}");
        for word in ["listen", "notify", "outbox", "demo", "fail-on-loss", "payload-only"] {
            assert!(out.contains(word), "{shell}: {word}");
        }
    }
    let (_, script, _) = run(pgbell().args(["completions", "bash"]));
    let checked = Command::new("bash").args(["-n", "-c", &script]).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn there_is_a_manual_page_for_each_command() {
    let (code, out, err) = run(pgbell().arg("man"));
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.contains(".TH pgbell 1"), "{out}");
    let directory = ScratchDir::new("man");
    let ended = run(pgbell().arg("man").arg(directory.path()));
    assert_eq!(ended, (0, String::new(), String::new()));
    for name in ["pgbell", "pgbell-listen", "pgbell-notify", "pgbell-outbox-read", "pgbell-demo"] {
        let page = fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(".SH NAME") && page.contains(".SH OPTIONS"), "{name}");
    }
    let (code, _, err) = run(pgbell().args(["man", "/nowhere/at/all"]));
    assert_eq!(code, 1);
    assert!(err.starts_with("pgbell: cannot write to /nowhere/at/all: "), "{err}");
}

#[test]
fn the_help_of_each_command_has_examples() {
    for command in ["listen", "notify", "demo", "completions", "man"] {
        let (code, out, _) = run(pgbell().args([command, "--help"]));
        assert_eq!(code, 0);
        assert!(out.contains("Examples:\n  pgbell ") || out.contains("\n  produce |"), "{out}");
    }
}

#[test]
fn the_nearest_option_is_named() {
    for (arguments, expected) in [
        (&["listen", "a", "--filtr", "x"][..], "'--filter'"),
        (&["notify", "a", "--repat", "2"], "'--repeat'"),
        (&["lisen", "a"], "'listen'"),
        (&["listen", "a", "--format", "jsn"], "'json'"),
        (&["listen", "a", "--template", "{chanel}"], "did you mean {channel}?"),
    ] {
        let (code, out, err) = run(pgbell().args(arguments));
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(expected), "{err}");
    }
}
