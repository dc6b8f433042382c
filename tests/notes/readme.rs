//! Checks `tests/README.md` and `docs/promises.md`: their tests exist, their ids are unique and complete, and a promise that was kept on
//! a version has a test.

use std::collections::BTreeSet;
use std::fs;

use super::{functions, page, root, sources};

/// The last promise of each letter. The first one is 1, and none is left out.
const PROMISES: [(char, usize); 5] = [('P', 13), ('S', 12), ('R', 11), ('G', 8), ('D', 4)];

/// The rows of the faults.
fn faults() -> Vec<Vec<String>> {
    let page = page("tests/README.md");
    let (_, text) = page.split_once("\n## Faults\n").expect("there are no faults");
    rows(text.split("\n## ").next().unwrap_or(text))
}

/// The rows of the promises.
fn promises() -> Vec<Vec<String>> {
    rows(&page("docs/promises.md"))
}

/// The cells of the rows that begin with an id.
fn rows(text: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim_start_matches('|').trim_end_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows = text.lines().filter(|line| line.starts_with('|')).map(cells);
    rows.filter(|cells| is_id(&cells[0])).collect()
}

/// A letter and a number of one or two digits.
fn is_id(word: &str) -> bool {
    let digits = word.strip_prefix(|c: char| c.is_ascii_uppercase()).unwrap_or_default();
    matches!(digits.len(), 1 | 2) && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// What is in backquotes.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// What is wrong with a row of the promises.
fn fault(row: &[String]) -> Option<String> {
    let [id, promise, passed, tests] = row else {
        return Some(format!("{row:?} has no four cells"));
    };
    let is_version = |c: char| c.is_ascii_digit() || [',', ' ', '–'].contains(&c);
    let tests = quoted(tests).count();
    match (&**passed, tests) {
        _ if promise.is_empty() => Some(format!("{id} has no promise")),
        ("open", 0) => None,
        ("open", _) => Some(format!("{id} is open, and has tests")),
        (_, 0) => Some(format!("{id} passed on {passed}, and no test shows it")),
        ("none", _) => None,
        _ if !passed.is_empty() && passed.chars().all(is_version) => None,
        _ => Some(format!("{id} passed on {passed:?}")),
    }
}

/// The ids of rows, each of which occurs once.
fn ids(rows: &[Vec<String>]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for row in rows {
        assert!(ids.insert(row[0].clone()), "{} occurs twice", row[0]);
    }
    ids
}

#[test]
fn every_promise_has_a_state_and_tests_that_exist() {
    let rows = promises();
    let functions = functions();
    let mut wrong: Vec<String> = rows.iter().filter_map(|row| fault(row)).collect();
    for row in &rows {
        let names = quoted(row.last().unwrap()).map(|path| path.rsplit("::").next().unwrap());
        let missing = names.filter(|name| !functions.contains(*name));
        wrong.extend(missing.map(|name| format!("{}: there is no test {name}", row[0])));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_promise_occurs_once() {
    let ids = ids(&promises());
    let all = PROMISES
        .into_iter()
        .flat_map(|(letter, last)| (1..=last).map(move |number| format!("{letter}{number}")));
    assert_eq!(ids, all.collect());
}

#[test]
fn every_fault_of_the_catalogue_is_explained_once() {
    let rows = faults();
    let wordless = rows.iter().find(|row| row.len() != 2 || row[1].is_empty());
    assert_eq!(wordless, None);
    let catalogue = page("tests/hostile/catalogue.rs");
    let (_, list) = catalogue.split_once("const CATALOGUE").unwrap();
    let (list, _) = list.split_once("];\n").unwrap();
    // An entry begins with its id, in the line of its parenthesis or in the next one.
    let entries = list.split('(').filter_map(|entry| entry.trim_start().strip_prefix('"'));
    let entries = entries.filter_map(|entry| entry.split('"').next().filter(|id| is_id(id)));
    // `As` names other entries in the same form, but in brackets.
    assert_eq!(ids(&rows), entries.map(str::to_owned).collect());
}

/// The ids in the comments of a source, and those with which its functions begin.
fn cited(source: &str) -> impl Iterator<Item = String> {
    let comments = source.lines().filter_map(|line| {
        let line = line.trim_start();
        line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "))
    });
    let words = comments.flat_map(|text| text.split(|c: char| !c.is_alphanumeric()));
    // Facts of `protocol-notes.md` have an N too, and C0 is a group of control characters.
    let words = words.filter(|word| is_id(word) && !word.starts_with('N') && *word != "C0");
    let names = source.split("fn ").skip(1);
    let parts = names
        .flat_map(|name| name.split('_').map(str::to_uppercase).take_while(|part| is_id(part)));
    words.map(str::to_owned).chain(parts)
}

#[test]
fn every_id_that_a_test_cites_is_explained() {
    let known = &ids(&promises()) | &ids(&faults());
    let tests = ["src/proto/session/tests", "src/proto/wire/catalogue", "src/net", "tests"];
    let mut unknown = BTreeSet::new();
    for (path, source) in sources() {
        if tests.iter().any(|directory| path.starts_with(root().join(directory))) {
            let ids = cited(&source).filter(|id| !known.contains(id));
            unknown.extend(ids.map(|id| format!("{id} in {}", path.display())));
        }
    }
    assert!(unknown.is_empty(), "{unknown:#?}");
}

#[test]
fn ids_are_found_in_comments_and_names() {
    let source =
        "//! T1.\n/// F12, and N94; not C0.\nfn h3_d5_it_ends_at_1() { let a = P4; } // R1\n";
    assert_eq!(cited(source).collect::<Vec<_>>(), ["T1", "F12", "H3", "D5"]);
}

#[test]
fn the_map_has_every_folder_and_file_of_the_tests() {
    let page = page("tests/README.md");
    let (_, map) = page.split_once("\n## Folders\n").unwrap();
    let (map, _) = map.split_once("\n## ").unwrap();
    let first = map.lines().filter_map(|line| line.strip_prefix("| ")?.split('|').next());
    let listed: BTreeSet<String> = first.flat_map(quoted).map(str::to_owned).collect();
    let entries = fs::read_dir(root().join("tests")).unwrap();
    let mut found: BTreeSet<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(found.remove("README.md"));
    found.insert("tests/".to_owned());
    assert_eq!(listed, found);
}

#[test]
fn a_fault_of_a_row_is_found() {
    let row = |passed: &str, tests: &str| -> Vec<String> {
        ["P1", "It works.", passed, tests].map(str::to_owned).to_vec()
    };
    assert_eq!(fault(&row("13, 15–18", "13, 15–18: `a::b`, `c`")), None);
    assert_eq!(fault(&row("none", "not run yet: `a`")), None);
    assert_eq!(fault(&row("open", "")), None);
    for wrong in [
        row("13", ""),
        row("none", ""),
        row("open", "`a`"),
        row("kept", "`a`"),
        row("", ""),
        row("", "`a`"),
        row("13", "`a`")[..3].to_vec(),
    ] {
        assert!(fault(&wrong).is_some(), "{wrong:?}");
    }
}
