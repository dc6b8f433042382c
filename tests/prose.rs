//! Checks the words of comments, documents and test names: see `docs/glossary.md`.
//!
//! It searches the finished folders for words that the glossary does not use. A word inside `code` is a name, and is skipped.

use std::fs;
use std::path::{Path, PathBuf};

/// The files and folders in which the rules are checked.
const CHECKED: &[&str] = &[
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "README.md",
    "SECURITY.md",
    "demos",
    "docs",
    "examples",
    "fuzz/fuzz_targets",
    "protocol-notes.md",
    "benches",
    "cli",
    "scripts",
    "src/blocking",
    "src/config",
    "src/proto/auth",
    "src/connection",
    "src/dispatcher",
    "src/durable",
    "src/error",
    "src/error.rs",
    "src/guide",
    "src/lib.rs",
    "src/listener",
    "src/net",
    "src/notification",
    "src/notifier",
    "src/proto/mod.rs",
    "src/proto/ring",
    "src/proto/route",
    "src/proto/session",
    "src/proto/supervisor",
    "src/proto/wire",
    "src/testing",
    "src/wakeups",
    "peers",
    "testkit/tests",
    "tests/postgres",
    "src/simulator",
    "testkit/README.md",
    "testkit/SERVERS.md",
    "testkit/src",
    "tests/README.md",
    "tests/hostile/README.md",
    "tests/notes",
    "tests/allocations",
    "tests/allocations_tls",
    "tests/bakeoff.rs",
    "tests/conninfo",
    "tests/dependencies.rs",
    "tests/drivers",
    "tests/examples.rs",
    "tests/features.rs",
    "tests/floors.rs",
    "tests/hostile",
    "tests/loopback",
    "tests/memory",
    "tests/mutants",
    "tests/network",
    "tests/notes.rs",
    "tests/planted",
    "tests/promises",
    "tests/report.py",
    "tests/telemetry.rs",
    "tests/testing",
    "tests/wire_properties.rs",
];

/// Words that this project does not use, each with its replacement.
const WORDS: &[(&str, &str)] = &[
    ("anybody", "name the program or the role"),
    ("believe", "use, accept; rejected"),
    ("believed", "used, accepted; rejected"),
    ("everybody", "name the program or the role"),
    ("figure", "statistics, counter, result"),
    ("figures", "statistics, counters, results"),
    ("he", "the user, the caller"),
    ("him", "the user, the caller"),
    ("his", "its"),
    ("hole", "gap, missing number"),
    ("holes", "gaps, missing numbers"),
    ("incident", "log event"),
    ("incidents", "log events"),
    ("leg", "link"),
    ("legs", "links"),
    ("nobody", "no client, no server, nothing"),
    ("owe", "unanswered"),
    ("owed", "unanswered"),
    ("owes", "unanswered"),
    ("patience", "timeout"),
    ("predecessor", "old session"),
    ("somebody", "name the program or the role"),
    ("stand", "be, be in, hold"),
    ("stands", "is, is in, holds"),
    ("stood", "was, was in"),
    ("succession", "handover"),
    ("successor", "new session"),
    ("tell", "report, return, say"),
    ("tells", "reports, returns, says"),
    ("told", "reported, returned, said"),
    ("who", "a program that, a role that"),
    ("whoever", "a program that"),
    ("whom", "name the program or the role"),
    ("wish", "wanted channel"),
    ("wishes", "wanted channels"),
];

/// Phrases that this project does not use, each with its replacement.
const PHRASES: &[(&str, &str)] = &[
    ("come to be", "happen"),
    ("come what may", "in any case"),
    ("in the world", "leave it out"),
    ("is nothing to", "is not used by"),
    ("nothing is known of", "is not known"),
    ("of anybody's", "discarded"),
    ("out of the way", "removed"),
    ("put off", "delay"),
    ("throw-away", "temporary"),
    ("what holds", "what is true"),
    ("without a word", "without a message"),
    ("without an end", "without a limit"),
    ("without end", "without a limit"),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(path: &Path, found: &mut Vec<PathBuf>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            files(&entry.unwrap().path(), found);
        }
    } else if ["rs", "md", "sh", "py"].iter().any(|end| path.extension() == Some(end.as_ref())) {
        found.push(path.to_owned());
    }
}

/// The prose of a line: the whole line of a document, the comment and the function name of a source.
fn prose(path: &Path, line: &str) -> String {
    let text = if path.extension().is_some_and(|end| end == "md") {
        line.to_owned()
    } else {
        let is_rust = path.extension().is_some_and(|end| end == "rs");
        let marks: &[&str] = if is_rust { &["// ", "/// ", "//! "] } else { &["# "] };
        let comment = marks.iter().find_map(|mark| line.find(mark));
        let comment = comment.map_or("", |at| line[at..].trim_start_matches(['/', '!', '#', ' ']));
        let name = line.split_once("fn ").map_or("", |(_, name)| name);
        let name = name.split('(').next().unwrap_or_default().replace('_', " ");
        format!("{comment} {name}")
    };
    without_code(&text).to_lowercase()
}

fn without_code(text: &str) -> String {
    text.split('`').step_by(2).collect::<Vec<_>>().join(" x ")
}

fn has_word(prose: &str, word: &str) -> bool {
    prose.split(|char: char| !char.is_alphanumeric() && char != '\'').any(|one| one == word)
}

/// The words of a line that must be replaced, with their replacements.
fn faults(prose: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let words = WORDS.iter().filter(|(word, _)| has_word(prose, word));
    let phrases = PHRASES.iter().filter(|(phrase, _)| prose.contains(phrase));
    words.chain(phrases).copied()
}

#[test]
fn no_word_is_used_that_the_glossary_replaces() {
    let mut found = Vec::new();
    for checked in CHECKED {
        let mut paths = Vec::new();
        files(&root().join(checked), &mut paths);
        assert!(!paths.is_empty(), "{checked} is empty");
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in text.lines().enumerate() {
                let place = path.strip_prefix(root()).unwrap().display();
                for (word, cure) in faults(&prose(&path, line)) {
                    found.push(format!("{place}:{}: {word:?}: {cure}", number + 1));
                }
            }
        }
    }
    found.retain(|one| !one.starts_with("docs/glossary.md"));
    assert!(found.is_empty(), "{} lines\n{}", found.len(), found.join("\n"));
}

#[test]
fn a_word_is_found_in_comments_documents_and_test_names_and_not_in_code() {
    let (source, page, script) = (Path::new("a.rs"), Path::new("a.md"), Path::new("a.sh"));
    let found = |path, line| faults(&prose(path, line)).map(|(word, _)| word).collect::<Vec<_>>();
    assert_eq!(found(source, "    /// Who asks for it."), ["who"]);
    assert_eq!(found(source, "let a = 1; // it is told"), ["told"]);
    assert_eq!(found(source, "fn a_loss_is_told_once() {"), ["told"]);
    assert_eq!(found(source, "//! It waits without end."), ["without end"]);
    assert_eq!(found(page, "The server tells."), ["tells"]);
    assert_eq!(found(script, "run # as it was told"), ["told"]);
    assert_eq!(found(script, "told=$(who)"), [""; 0]);
    assert_eq!(found(source, "let told = who();"), [""; 0]);
    assert_eq!(found(source, "/// Calls `who` with the whole name."), [""; 0]);
}
