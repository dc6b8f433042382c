//! No output contains a secret. Passwords and keys of the tests contain a word of `list.txt`. `check.sh` searches the output of
//! all tests for these words. The tests here print every type that holds a secret, and show that the check can fail.

mod check;
mod shown;

/// Every line of the list: a word, and the forms in which it could be printed.
fn list() -> impl Iterator<Item = &'static str> {
    include_str!("list.txt").lines()
}

/// Fails if `text` contains a planted secret.
#[expect(clippy::print_stdout, reason = "`check.sh` searches the output too")]
fn search(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for planted in list() {
        assert!(!lower.contains(&planted.to_lowercase()), "{what} shows {planted:?}: {text}");
    }
    // `check.sh` searches it too.
    println!("{what}: {text}");
}
