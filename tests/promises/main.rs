//! `docs/promises.md` has every promise and the tests that name it. `./test.sh` compares the versions too. The tests here show that the
//! check of `table.py` can fail.

#![cfg(unix)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `table.py` for the repository in a directory.
fn table(root: &Path, arguments: &[&str]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises/table.py");
    let mut command = Command::new("python3");
    command.arg(script).arg("--root").arg(root).args(arguments);
    command.output().unwrap_or_else(|error| panic!("python3 is needed: {error}"))
}

#[test]
fn the_page_has_every_promise_and_every_test_that_names_it() {
    let output = table(Path::new(env!("CARGO_MANIFEST_DIR")), &["--check"]);
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&text));
}

const LIST: &str = "\
# A comment.

[P: the listener]
P1: It connects
also: elsewhere
P2: It waits
";

const TESTS: &str = "\
/// P2 of a helper is not counted.
fn helper() {}

/// P1: over every transport, unlike `P2`.
#[test]
fn connects() {}

#[test]
#[cfg(unix)]
fn p2_waits() {}
";

const MATRIX: &str = "\
on_every_version! {
    listens
}

/// P1.
fn listens(major: u32) {}
";

/// R1 is a fault there.
const CHAOS: &str = "\
/// R1: a session is lost. Promise P2.
#[test]
fn survives() {}
";

/// A repository that is removed when it is dropped, and reports of its tests.
struct Repository(PathBuf);

impl Repository {
    fn new(name: &str) -> Self {
        let name = format!("pgbell-promises-{name}-{}", std::process::id());
        let root = Self(std::env::temp_dir().join(name));
        for directory in ["docs", "tests/promises", "tests/postgres/matrix", "tests/postgres/chaos"]
        {
            fs::create_dir_all(root.0.join(directory)).unwrap();
        }
        root.write("tests/promises/list.txt", LIST);
        root.write("tests/postgres/one.rs", TESTS);
        root.write("tests/postgres/matrix/order.rs", MATRIX);
        root.write("tests/postgres/chaos/mod.rs", CHAOS);
        root
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.0.join(path), text).unwrap();
    }

    fn page(&self) -> String {
        fs::read_to_string(self.0.join("docs/promises.md")).unwrap()
    }

    /// Writes a report of tests and what they have printed, and returns its path. A test whose output is `failure` has failed.
    fn report(&self, name: &str, tests: &[(&str, &str)]) -> String {
        let case = |(test, output): &(&str, &str)| match *output {
            "failure" => format!("<testcase name='{test}'><failure/></testcase>"),
            output => {
                format!("<testcase name='{test}'><system-out>{output}</system-out></testcase>")
            }
        };
        let cases: String = tests.iter().map(case).collect();
        let suite = format!("<testsuite name='pgbell::postgres'>{cases}</testsuite>");
        self.write(name, &format!("<testsuites>{suite}</testsuites>"));
        self.0.join(name).to_str().unwrap().to_owned()
    }

    /// Returns the reports of a run in which everything passes: one of the whole run, and one for each required version.
    fn reports(&self) -> [String; 3] {
        let whole = [
            ("matrix::order::pg13::listens", "server: PostgreSQL 13.22"),
            ("matrix::order::pg14::listens", "server: PostgreSQL 14.19"),
            ("matrix::order::pg18::listens", "server: PostgreSQL 18.0"),
            // On the installed server: it is not counted.
            ("one::connects", "server: PostgreSQL 15.4"),
        ];
        let whole = self.report("whole.xml", &whole);
        let of = |major: u32| {
            let server = format!("the log\nserver: PostgreSQL {major}.4\n");
            let tests = ["one::connects", "one::p2_waits", "chaos::survives"];
            let tests = tests.map(|test| (test, server.as_str()));
            format!("{major}={}", self.report(&format!("{major}.xml"), &tests))
        };
        [whole, of(13), of(18)]
    }

    /// Writes the page, and returns the error if there is one.
    fn wrote(&self, reports: &[String]) -> Result<(), String> {
        self.run("--write", reports)
    }

    fn check(&self, reports: &[String]) -> Result<(), String> {
        self.run("--check", reports)
    }

    fn run(&self, mode: &str, reports: &[String]) -> Result<(), String> {
        let mut arguments = vec![mode];
        arguments.extend(reports.iter().map(String::as_str));
        let output = table(&self.0, &arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        if output.status.success() { Ok(()) } else { Err(error) }
    }
}

impl Drop for Repository {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn the_page_has_the_versions_on_which_every_test_of_a_promise_passed() {
    let repository = Repository::new("versions");
    let reports = repository.reports();
    assert_eq!(repository.wrote(&reports), Ok(()));
    let page = repository.page();
    for row in [
        "| P1 | It connects | 13, 18 | 13, 14, 18: `matrix::order::listens`; 13, 18: `one::connects`; without a server: `elsewhere` |",
        "| P2 | It waits | 13, 18 | 13, 18: `chaos::survives`, `one::p2_waits` |",
    ] {
        assert!(page.lines().any(|line| line == row), "{row}\n{page}");
    }
    assert_eq!(repository.check(&reports), Ok(()));
    assert_eq!(repository.check(&[]), Ok(()));
}

/// A promise that nothing shows is none.
#[test]
fn a_promise_without_a_test_is_open_and_an_error() {
    let repository = Repository::new("open");
    repository.write("tests/promises/list.txt", &format!("{LIST}\n[G: jobs]\nG1: A job is done\n"));
    let error = repository.wrote(&repository.reports()).unwrap_err();
    assert!(error.contains("G1 has no test that has passed on"), "{error}");
    assert!(repository.page().lines().any(|line| line == "| G1 | A job is done | open |  |"));
}

/// A run of some tests, or on some versions, is not an error, but for the two that are required.
#[test]
fn versions_that_a_run_did_not_have_are_kept() {
    let repository = Repository::new("kept");
    let [whole, old, new] = repository.reports();
    repository.wrote(&[whole, old.clone(), new.clone()]).unwrap();
    let smaller = [
        ("matrix::order::pg13::listens", "server: PostgreSQL 13.22"),
        ("matrix::order::pg18::listens", "server: PostgreSQL 18.0"),
    ];
    let smaller = repository.report("smaller.xml", &smaller);
    assert_eq!(repository.check(&[smaller, old.clone(), new]), Ok(()));
    let error = repository.check(&[old]).unwrap_err();
    assert!(error.contains("no report has a test that ran on PostgreSQL 18"), "{error}");
}

#[test]
fn a_promise_without_a_test_that_passed_on_a_server_is_an_error() {
    let repository = Repository::new("missing");
    let [whole, old, _] = repository.reports();
    let on_18 = "server: PostgreSQL 18.0";
    for (name, tests, expected) in [
        ("one test was not run", &[("one::connects", on_18), ("one::p2_waits", on_18)][..], "P2"),
        (
            "one failed",
            &[("one::connects", "failure"), ("one::p2_waits", on_18)],
            "connects failed",
        ),
        ("one had no server", &[("one::p2_waits", ""), ("chaos::survives", "")], "P2 has"),
        ("one had another server", &[("one::connects", "server: PostgreSQL 17.6")], "ran on 17"),
    ] {
        let new = format!("18={}", repository.report("new.xml", tests));
        let error = repository.wrote(&[whole.clone(), old.clone(), new]).unwrap_err();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn a_page_that_differs_from_the_tests_the_list_or_the_run_is_an_error() {
    let repository = Repository::new("differs");
    let reports = repository.reports();
    repository.wrote(&reports).unwrap();
    let page = repository.page();
    for (what, path, text) in [
        ("a new test", "tests/postgres/new.rs", "/// P2.\n#[test]\nfn is_done() {}\n".to_owned()),
        ("another text", "tests/promises/list.txt", LIST.replace("waits", "sleeps")),
        ("a test that is gone", "tests/postgres/one.rs", TESTS.replace("p2_waits", "waits")),
        ("an unknown promise", "tests/postgres/one.rs", TESTS.replace("/// P1", "/// P9")),
        ("no list", "tests/promises/list.txt", "P1: without a section".to_owned()),
    ] {
        repository.write(path, &text);
        assert!(repository.check(&[]).is_err(), "{what}");
        repository.write("tests/promises/list.txt", LIST);
        repository.write("tests/postgres/one.rs", TESTS);
        repository.write("tests/postgres/new.rs", "");
        assert_eq!(repository.check(&[]), Ok(()), "{what}");
    }
    // Versions are compared with those of the run.
    repository.write("docs/promises.md", &page.replace("13, 14, 18: ", "13–18: "));
    assert_eq!(repository.check(&[]), Ok(()));
    let mut reports = reports.to_vec();
    let on_15 = ("matrix::order::pg15::listens", "failure");
    let on_16 = ("matrix::order::pg16::other", "server: PostgreSQL 16.4");
    reports.push(repository.report("later.xml", &[on_15, on_16]));
    let error = repository.check(&reports).unwrap_err();
    assert!(error.contains("docs/promises.md is not what this run has shown"), "{error}");
}

#[test]
fn the_filter_has_the_tests_that_do_not_run_on_every_version() {
    let repository = Repository::new("filter");
    let output = table(&repository.0, &["--filter"]);
    let filter = String::from_utf8(output.stdout).unwrap();
    let expected = "test(=chaos::survives) | test(=one::connects) | test(=one::p2_waits)\n";
    assert_eq!(filter, expected);
}
