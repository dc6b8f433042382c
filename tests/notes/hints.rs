//! Checks that a test has the text of every hint that an error of the library can have.
//!
//! A hint is searched where it is written: in `with_hint(…)`, in a function whose name contains `hint`, in a constant whose name
//! ends with `HINT`, in `let hint = …`, and in the second argument of `tls(…)`. A test must contain four words in a row that no
//! other hint has.

use std::collections::BTreeSet;
use std::path::Path;

use super::{root, sources};

/// A part of a source text. Comments, lifetimes and characters are left out.
#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Text(String),
    Mark(char),
}

use Token::{Mark, Text, Word};

fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(escaped) = rest.strip_prefix("'\\") {
            // The character behind the backslash may be a quote too.
            escaped.char_indices().skip(1).find(|(_, c)| *c == '\'').map_or(2, |(end, _)| end + 3)
        } else if first == '\'' && rest.chars().nth(2) == Some('\'') {
            rest.char_indices().nth(3).map_or(rest.len(), |(end, _)| end)
        } else if let Some(fence) = fence(rest) {
            let begin = rest.find('"').unwrap() + 1;
            let end = begin + rest[begin..].find(&format!("\"{fence}")).unwrap();
            found.push(Text(rest[begin..end].to_owned()));
            end + 1 + fence.len()
        } else if first == '"' {
            let end = closing_quote(rest);
            found.push(Text(unescaped(&rest[1..end])));
            end + 1
        } else if is_word(first) {
            let end = rest.find(|c: char| !is_word(c)).unwrap_or(rest.len());
            found.push(Word(rest[..end].to_owned()));
            end
        } else {
            found.extend((!first.is_whitespace() && first != '\'').then_some(Mark(first)));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// What is after the closing quote of a raw string that begins here.
fn fence(rest: &str) -> Option<&str> {
    let after = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let fence = &after[..after.find(|c| c != '#')?];
    after[fence.len()..].starts_with('"').then_some(fence)
}

fn closing_quote(rest: &str) -> usize {
    let mut is_escaped = false;
    let is_end = |(_, c): &(usize, char)| {
        let is_end = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        is_end
    };
    1 + rest[1..].char_indices().find(is_end).expect("a string that does not end").0
}

/// The text of a literal in one line: a backslash at the end of a line joins it with the next one.
fn unescaped(literal: &str) -> String {
    let mut lines = literal.split("\\\n");
    let first = lines.next().unwrap_or_default().to_owned();
    let joined = lines.fold(first, |text, line| text + line.trim_start());
    joined.replace("\\n", " ").replace("\\\"", "\"")
}

/// The tokens up to the first of these marks that is outside of all brackets which open here.
fn up_to(tokens: &[Token], ends: &[char]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        let Mark(mark) = token else { continue };
        depth += i32::from("([{".contains(*mark)) - i32::from(")]}".contains(*mark));
        if depth <= 0 && ends.contains(mark) {
            return at;
        }
    }
    tokens.len()
}

/// The tokens of a hint that begins here.
fn hint(tokens: &[Token]) -> &[Token] {
    let end = match tokens {
        [Mark('.'), Word(with), Mark('('), ..] if with == "with_hint" => {
            2 + up_to(&tokens[2..], &[')'])
        }
        [Word(item), Word(name), ..] if item == "fn" && name.contains("hint") => {
            up_to(tokens, &['}', ';'])
        }
        [Word(item), Word(name), ..] if item == "const" && name.ends_with("HINT") => {
            up_to(tokens, &[';'])
        }
        [Word(item), Word(name), ..] if item == "let" && name == "hint" => up_to(tokens, &[';']),
        [Word(item), Mark('('), Word(_), Mark(','), Word(name), ..]
            if item == "let" && name == "hint" =>
        {
            up_to(tokens, &[';'])
        }
        [Word(call), Mark('('), ..] if call == "tls" => {
            let begin = 2 + up_to(&tokens[2..], &[',']);
            return &tokens[begin..begin + up_to(&tokens[begin..], &[')'])];
        }
        _ => 0,
    };
    &tokens[..end]
}

/// The hints of a source text, and the arguments of `with_hint` that are written in another form than those that are searched.
fn hints(source: &str) -> (BTreeSet<String>, Vec<String>) {
    let tokens = tokens(source);
    let (mut found, mut unknown) = (BTreeSet::new(), Vec::new());
    for at in 0..tokens.len() {
        let hint = hint(&tokens[at..]);
        let mut texts = hint.iter().filter_map(|token| match token {
            // SQLSTATEs and names are no hints.
            Text(text) if text.contains(' ') => Some(text.clone()),
            _ => None,
        });
        let is_named =
            |token: &Token| matches!(token, Word(name) if name == "hint" || name.ends_with("HINT"));
        let is_call = hint.first() == Some(&Mark('.'));
        match texts.next() {
            Some(first) => found.extend(texts.chain([first])),
            None if is_call && !hint.iter().any(is_named) => unknown.push(format!("{hint:?}")),
            None => {}
        }
    }
    (found, unknown)
}

/// The runs of four words of a hint, and the whole of a part that has fewer. What a format fills in is between the parts.
fn runs(hint: &str) -> Vec<String> {
    let parts = hint.split('{').enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once('}').map_or("", |(_, after)| after),
    });
    let words = parts.map(|part| part.split_whitespace().collect::<Vec<_>>());
    words
        .flat_map(|words| {
            let runs = words.windows(words.len().clamp(1, 4));
            runs.map(|run| run.join(" ")).collect::<Vec<_>>()
        })
        .collect()
}

/// The hints that no test names.
fn untested(hints: &BTreeSet<String>, tests: &[String]) -> Vec<String> {
    let is_tested = |run: &String| tests.iter().any(|text| text.contains(run));
    let no_test_names = |hint: &&String| {
        let all = runs(hint);
        let is_own =
            |run: &String| !hints.iter().any(|other| other != *hint && other.contains(run));
        let own: Vec<_> = all.iter().filter(|run| is_own(run)).cloned().collect();
        // A hint that is a part of another one has no words of its own.
        !if own.is_empty() { all } else { own }.iter().any(is_tested)
    };
    hints.iter().filter(no_test_names).cloned().collect()
}

#[test]
fn every_hint_is_named_by_a_test() {
    let (mut found, mut unknown, mut tests) = (BTreeSet::new(), Vec::new(), Vec::new());
    let texts = |source: &str| {
        tokens(source).into_iter().filter_map(|token| match token {
            Text(text) => Some(text.split_whitespace().collect::<Vec<_>>().join(" ")),
            _ => None,
        })
    };
    for (path, source) in sources() {
        let path = path.strip_prefix(root()).unwrap();
        // These checks contain examples of hints.
        if path.starts_with("tests/notes") || path == Path::new("tests/notes.rs") {
            continue;
        }
        let is_test = |path: &Path| {
            path.components()
                .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "simulator")
                || path.ends_with("tests.rs")
        };
        if is_test(path) {
            tests.extend(texts(&source));
        } else if path.starts_with("src") {
            // By convention a test module is the last item of its file.
            let (shipped, own) = source.split_once("\nmod tests {").unwrap_or((&source, ""));
            tests.extend(texts(own));
            let (hints, forms) = hints(shipped);
            found.extend(hints);
            unknown.extend(forms.into_iter().map(|form| format!("{}: {form}", path.display())));
        }
    }
    assert!(found.len() > 100, "the hints were not found: {found:#?}");
    assert!(unknown.is_empty(), "write them so that this check finds their text: {unknown:#?}");
    let untested = untested(&found, &tests);
    assert!(untested.is_empty(), "no test names {untested:#?}");
}

#[test]
fn a_hint_is_found_where_it_is_written() {
    let source = r#"
const A_HINT: &str = "one of a \
    constant";
fn hint(&self) -> &'static str { match self { 'a' => "one of a method", '"' => "53300" } }
fn of(a: &str) -> Error {
    // .with_hint("one of a comment")
    let hint = format!("one of a variable: {a}");
    let message = "this is no hint";
    Error::new(message).with_hint("one of an \"argument\"").with_hint(hint).with_hint(other())
}
fn b() { tls(format!("no hint, {}", listed(1, 2)), "one of TLS") }
"#;
    let (found, unknown) = hints(source);
    let expected = [
        "one of TLS",
        "one of a constant",
        "one of a method",
        "one of a variable: {a}",
        "one of an \"argument\"",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
    assert_eq!(unknown.len(), 1, "{unknown:?}");
    assert!(unknown[0].contains("other"), "{unknown:?}");
}

#[test]
fn a_hint_without_a_test_is_found() {
    let hints =
        ["is there a server at this port?", "is there a server? It is {name}", "send it again"];
    let hints = hints.map(str::to_owned).into();
    let untested = |tests: &[&str]| {
        untested(&hints, &tests.iter().map(|test| (*test).to_owned()).collect::<Vec<_>>())
    };
    assert_eq!(
        untested(&["there a server at", "server? It is", "send it again"]),
        ["is there a server? It is {name}"]
    );
    assert_eq!(untested(&["there a server? It", "a server at this", "send it"]), ["send it again"]);
    assert!(
        untested(&["a server at this port?", "a server? It is x", "(hint: send it again)"])
            .is_empty()
    );
}
