//! Holds `protocol-notes.md` to the code: every number that the code cites is there, every note names a
//! test, and every test that it names exists. So do the tests of the attacks in `tests/hostile/README.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut stack: Vec<PathBuf> =
        ["src", "tests", "testkit/src", "testkit/tests", "cli/src", "cli/tests", "benches"]
            .iter()
            .map(|directory| root().join(directory))
            .filter(|directory| directory.is_dir())
            .collect();
    while let Some(directory) = stack.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                stack.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = fs::read_to_string(&path).unwrap();
                found.push((path, source));
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Notes by number: `**N7.** text`.
fn notes() -> BTreeMap<u32, String> {
    let text = fs::read_to_string(root().join("protocol-notes.md")).unwrap();
    let mut notes = BTreeMap::new();
    for part in text.split("\n**N").skip(1) {
        let (number, rest) = part.split_once(".**").expect("**N7.** text");
        let before = notes.insert(number.parse().unwrap(), rest.trim().to_owned());
        assert!(before.is_none(), "N{number} stands twice");
    }
    notes
}

/// `N` and digits, as a word of its own.
fn cited(source: &str) -> BTreeSet<u32> {
    let comments = source.lines().filter_map(|line| line.split_once("//").map(|(_, text)| text));
    comments
        .flat_map(|text| text.split(|c: char| !c.is_alphanumeric()))
        .filter_map(|word| word.strip_prefix('N')?.parse().ok())
        .collect()
}

#[test]
fn every_number_that_is_cited_is_there() {
    let notes = notes();
    let mut missing = BTreeSet::new();
    for (path, source) in sources() {
        // The catalogues of faults have numbers of their own, with the same letter.
        if path
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "catalogue")
        {
            continue;
        }
        for number in cited(&source) {
            if !notes.contains_key(&number) {
                missing.insert(format!("N{number} in {}", path.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_note_names_tests_that_exist() {
    let functions: BTreeSet<String> = sources()
        .iter()
        .flat_map(|(_, source)| source.split("fn ").skip(1))
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect();
    let mut wrong = Vec::new();
    for (number, note) in notes() {
        let Some((_, tests)) = note.split_once("Test: ") else {
            wrong.push(format!("N{number} names no test"));
            continue;
        };
        // Only the last part of a path: modules move.
        for test in tests.split('`').skip(1).step_by(2) {
            let name = test.rsplit("::").next().unwrap();
            if !functions.contains(name)
                && !functions.contains(name.trim_end_matches(char::is_numeric))
            {
                wrong.push(format!("N{number}: there is no test {test}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Where cargo finds the sources of what a command of the list of attacks runs.
fn target(command: &str) -> Option<PathBuf> {
    let after = |option: &str| {
        let mut words = command.split(' ').skip_while(|word| *word != option);
        words.nth(1)
    };
    let package = match after("-p")? {
        "pgbell" => root().to_owned(),
        "pgbell-testkit" => root().join("testkit"),
        "pgbell-cli" => root().join("cli"),
        _ => return None,
    };
    match after("--test") {
        Some(test) => Some(package.join("tests").join(test)),
        None if command.contains(" --lib ") || command.contains(" --bin ") => {
            Some(package.join("src"))
        }
        None => None,
    }
}

#[test]
fn every_attack_names_a_test_that_its_command_runs() {
    let text = fs::read_to_string(root().join("tests/hostile/README.md")).unwrap();
    let sources = sources();
    let rows: Vec<&str> = text.lines().filter(|line| line.contains("`cargo ")).collect();
    assert!(rows.len() > 10, "the table was not found");
    let mut wrong = Vec::new();
    for row in rows {
        let mut quoted = row.split('|').skip(2).map(|cell| cell.trim().trim_matches('`'));
        let (test, command) = (quoted.next().unwrap(), quoted.next().unwrap());
        let test = format!("fn {test}(");
        let is_there = target(command).is_some_and(|target| {
            sources.iter().any(|(path, source)| {
                (path.starts_with(&target) || path.with_extension("") == target)
                    && source.contains(&test)
            })
        });
        if !is_there {
            wrong.push(row);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
