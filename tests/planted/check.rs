//! Tests of the check itself.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::list;

/// The words in passwords and keys of tests: the planted one, the password of RFC 7677, and that of the unit tests of sessions.
const WORDS: [&str; 3] = ["pl4nted", "pencil", "plugh"];

/// Returns the word as text, in hexadecimal digits, as `Debug` shows bytes, and in base64 after 0, 1 or 2 other bytes.
fn forms(word: &str) -> Vec<String> {
    let bytes = word.as_bytes();
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let numbers: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let base64 = (0..3).map(|before| {
        let text = STANDARD.encode([&vec![0; before], bytes].concat());
        // The base64 digits that depend on no other byte.
        text[(before * 8).div_ceil(6)..(before + bytes.len()) * 8 / 6].to_owned()
    });
    [word.to_owned(), hex, numbers.join(", ")].into_iter().chain(base64).collect()
}

#[test]
fn the_list_has_every_form_of_every_word() {
    let expected: Vec<_> = WORDS.iter().flat_map(|word| forms(word)).collect();
    assert_eq!(list().collect::<Vec<_>>(), expected);
}

/// `check.sh` requires both lines.
#[test]
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "printing is the purpose")]
fn the_output_of_tests_is_searched() {
    for stream in ["stdout", "stderr"] {
        let line = format!("tests print to {stream} a line that the check must find");
        if stream == "stdout" { println!("{line}") } else { eprintln!("{line}") }
    }
}

#[cfg(unix)]
mod script {
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::process::Command;

    use super::forms;

    const REPORT: &str = "tests print to stdout a line that the check must find\n\
                          tests print to stderr a line that the check must find\n";

    /// A directory that is removed when it is dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            let name = format!("pgbell-planted-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    /// Returns the exit status of the check, and its output.
    fn check(files: &[&Path]) -> (i32, String) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/planted/check.sh");
        let output = Command::new(script).args(files).output().unwrap();
        assert!(output.stdout.is_empty());
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    #[test]
    fn a_planted_secret_in_any_form_is_found_and_not_repeated() {
        let scratch = Scratch::new();
        let clean = scratch.file("clean", REPORT);
        assert_eq!(check(&[&clean]), (0, String::new()));
        for form in super::WORDS.iter().flat_map(|word| forms(word)) {
            for shown in [form.clone(), form.to_uppercase(), format!("x{form}y")] {
                let report = scratch.file("report", &format!("{REPORT}one\n<b>{shown}</b>\ntwo"));
                let (status, text) = check(&[&report]);
                assert_eq!(status, 1, "{shown} is not found");
                assert!(text.ends_with("report: a planted secret in line 4 \n"), "{text}");
                let output = scratch.file("output", &shown);
                assert_eq!(check(&[&clean, &output]).0, 1, "{shown} is not found in another file");
            }
        }
    }

    #[test]
    fn a_report_without_the_output_of_passing_tests_is_refused() {
        let scratch = Scratch::new();
        let clean = scratch.file("clean", REPORT);
        let half = scratch.file("half", REPORT.lines().next().unwrap());
        let empty = scratch.file("empty", "");
        let missing = scratch.0.join("missing");
        for files in
            [&[][..], &[&empty], &[&half], &[&missing], &[&clean, &empty], &[&clean, &missing]]
        {
            let files: Vec<&Path> = files.iter().map(|path| path.as_path()).collect();
            assert_eq!(check(&files).0, 2, "{files:?}");
        }
    }
}
