//! Checks `protocol-notes.md`, the other pages and the code against each other: every number that the code cites exists,
//! every entry has versions, a source and tests, and every test that a page names exists. The same for the tests of the
//! attacks in `tests/hostile/README.md`. `notes/readme.rs` checks `tests/README.md`, `notes/front_page.rs`
//! the README and the guide, and `notes/hints.rs` that the tests name every hint.

#[path = "notes/front_page.rs"]
mod front_page;
#[path = "notes/hints.rs"]
mod hints;
#[path = "notes/readme.rs"]
mod readme;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut stack: Vec<PathBuf> = [
        "src",
        "tests",
        "testkit/src",
        "testkit/tests",
        "cli/src",
        "cli/tests",
        "demos/tests",
        "benches",
    ]
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

/// The names of all functions in the sources.
fn functions() -> BTreeSet<String> {
    sources().iter().flat_map(|(_, source)| tests_of(source)).collect()
}

/// The functions with an attribute of a test and without `#[ignore]`.
fn tests_of(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut is_test, mut is_ignored) = (false, false);
    for line in source.lines().map(str::trim_start) {
        let code = line.strip_prefix("async ").unwrap_or(line);
        if let Some(rest) = code.strip_prefix("fn ") {
            let name = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_');
            let name: String = name.collect();
            // The macro of the server matrix makes tests of the functions that it lists.
            let is_listed = || source.lines().any(|line| line.trim_matches([' ', ',']) == name);
            let is_on_matrix = rest.contains("(major: u32)") && is_listed();
            if (is_test || is_on_matrix) && !is_ignored {
                found.push(name);
            }
            (is_test, is_ignored) = (false, false);
        } else if line.starts_with("#[") {
            is_test |=
                ["#[test]", "#[tokio::test", "#[test_on"].iter().any(|it| line.starts_with(it));
            is_ignored |= line.starts_with("#[ignore");
        }
    }
    found
}

#[test]
fn a_test_is_a_function_with_its_attribute() {
    let source = "#[test]\nfn a() {}\nfn b() {}\n#[test]\n#[ignore]\nfn c() {}\n    #[tokio::test]\n    async fn d() {}\n// fn e\n";
    assert_eq!(tests_of(source), ["a", "d"]);
}

/// Pages with entries: `**Title.** text`, and a line of versions, source and tests.
const PAGES: [&str; 2] = ["protocol-notes.md", "testkit/SERVERS.md"];

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The entries of a page: title and text, up to the next entry or heading.
fn entries(text: &str) -> Vec<(&str, &str)> {
    text.split("\n## ")
        .flat_map(|section| section.split("\n**").skip(1))
        .map(|entry| entry.split_once(".** ").expect("**Title.** text"))
        .collect()
}

/// The number of a note: `N7`, without a leading zero.
fn number(title: &str) -> Option<u32> {
    let number = title.strip_prefix('N')?.parse().ok()?;
    (title == format!("N{number}")).then_some(number)
}

fn notes() -> BTreeMap<u32, String> {
    let mut notes = BTreeMap::new();
    for (title, entry) in entries(&page("protocol-notes.md")) {
        let number = number(title).unwrap_or_else(|| panic!("{title:?} is not N and a number"));
        assert!(notes.insert(number, entry.to_owned()).is_none(), "N{number} occurs twice");
    }
    assert!(notes.len() > 50, "the notes were not found");
    notes
}

/// The numbers of a line such as `N1, N2, N5–N7.`
fn numbers(line: &str) -> Vec<u32> {
    let items = line.trim_end_matches('.').split([',', ' ']).filter(|item| !item.is_empty());
    items
        .flat_map(|item| {
            let (first, last) = item.split_once('–').unwrap_or((item, item));
            number(first).expect(item)..=number(last).expect(item)
        })
        .collect()
}

/// Returns what is wrong with the form of an entry.
fn fault(entry: &str) -> Option<&'static str> {
    let lines: Vec<&str> = entry.trim_end().lines().collect();
    let (last, text) = lines.split_last()?;
    let Some(versions) = last.strip_prefix("Versions: ") else {
        return Some("does not end with a line of versions, source and tests");
    };
    let Some((versions, rest)) = versions.split_once(" · Source: ") else {
        return Some("has no source");
    };
    let Some((source, tests)) = rest.split_once(" · Test: ") else {
        return Some("has no test");
    };
    let is_name = |name: &str| {
        let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`'));
        name.is_some_and(|name| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    };
    if versions.trim().is_empty() || source.trim().is_empty() {
        Some("has empty versions or an empty source")
    } else if !tests.split(", ").all(is_name) {
        Some("names tests in another form than `a`, `b`")
    } else if text.iter().all(|line| line.trim().is_empty()) {
        Some("has no text")
    } else if text.iter().any(|line| line.starts_with("Versions: ")) {
        Some("has two lines of versions")
    } else if !text.last().is_some_and(|line| line.is_empty() || line.ends_with('\\')) {
        Some("has a last line that Markdown joins with the text")
    } else {
        None
    }
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
fn every_cited_number_exists() {
    let notes = notes();
    let mut missing = BTreeSet::new();
    for (path, source) in sources() {
        // The catalogues of faults have their own numbers with the same letter.
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
    for (number, note) in &notes {
        let words = note.split(|c: char| !c.is_alphanumeric());
        for cited in words.filter_map(self::number).filter(|cited| !notes.contains_key(cited)) {
            missing.insert(format!("N{cited} in N{number}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_entry_has_text_versions_a_source_and_tests() {
    let mut wrong = Vec::new();
    for path in PAGES {
        let text = page(path);
        let entries = entries(&text);
        assert!(entries.len() > 5, "{path} has no entries");
        for (title, entry) in entries {
            wrong.extend(fault(entry).map(|fault| format!("{path}: {title} {fault}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_fault_in_the_form_of_an_entry_is_found() {
    assert_eq!(fault("A fact.\\\nVersions: all · Source: `a.c` · Test: `a`, `b`\n"), None);
    assert_eq!(fault("A fact.\n\n- One.\n\nVersions: 15 · Source: `a.c` · Test: `a`"), None);
    for wrong in [
        "A fact.",
        "A fact.\\\nSource: `a.c` · Test: `a`",
        "A fact.\\\nVersions: all · Test: `a`",
        "A fact.\\\nVersions: all · Source:  · Test: `a`",
        "A fact.\\\nVersions: all · Source: `a.c`",
        "A fact.\\\nVersions: all · Source: `a.c` · Test: ",
        "A fact.\\\nVersions: all · Source: `a.c` · Test: a",
        "A fact.\\\nVersions: all · Source: `a.c` · Test: `a` (case b)",
        "A fact.\nVersions: all · Source: `a.c` · Test: `a`",
        "Versions: all · Source: `a.c` · Test: `a`",
        "A.\\\nVersions: all · Source: b · Test: `a`\n\nVersions: all · Source: b · Test: `a`",
    ] {
        assert!(fault(wrong).is_some(), "{wrong}");
    }
}

#[test]
fn the_contents_name_every_note_of_their_subject() {
    let text = page("protocol-notes.md");
    let mut sections = text.split("\n## ").skip(1);
    // An item that continues on a second line is one line here.
    let contents = sections.next().unwrap().replace("\n  ", " ");
    let mut items = contents.lines().filter_map(|line| line.strip_prefix("- ["));
    for section in sections {
        let (heading, _) = section.split_once('\n').unwrap();
        let anchor: String = heading.to_lowercase().replace(' ', "-");
        let anchor: String =
            anchor.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let link = format!("{heading}](#{anchor}): ");
        let listed = items.next().and_then(|item| item.strip_prefix(&link)).expect(heading);
        let found: Vec<u32> =
            entries(section).iter().filter_map(|(title, _)| number(title)).collect();
        assert_eq!(numbers(listed), found, "{heading}");
        assert!(found.is_sorted(), "{heading}");
    }
    assert_eq!(items.next(), None);
}

#[test]
fn a_retired_number_is_not_used_again() {
    let text = page("protocol-notes.md");
    let line = text.lines().find_map(|line| line.strip_prefix("Retired numbers, ")).unwrap();
    let retired = numbers(line.split_once(": ").unwrap().1);
    assert!(!retired.is_empty());
    let notes = notes();
    let again: Vec<u32> = retired.into_iter().filter(|number| notes.contains_key(number)).collect();
    assert!(again.is_empty(), "{again:?}");
}

#[test]
fn every_test_that_a_page_names_exists() {
    let functions = functions();
    let mut wrong = Vec::new();
    for path in PAGES.into_iter().chain(["benches/README.md"]) {
        let text = page(path);
        let lists: Vec<&str> =
            text.lines().filter_map(|line| Some(line.split_once("Test: ")?.1)).collect();
        assert!(lists.len() > 5, "{path} names no tests");
        for name in lists.into_iter().flat_map(|list| list.split('`').skip(1).step_by(2)) {
            if !functions.contains(name) {
                wrong.push(format!("{path}: there is no test {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// The source files of the command in a row of the list of attacks.
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
