//! No secret in anything that is shown.
//!
//! Passwords and keys of the tests hold a word of `list.txt`. `check.sh` looks for these in all that the tests
//! have printed; here is what makes them print it, and what shows that the check can fail.

mod check;
mod shown;

/// Every line of the list: a word, and the forms in which it could be printed.
fn list() -> impl Iterator<Item = &'static str> {
    include_str!("list.txt").lines()
}

/// Fails when something that was planted is in `text`.
#[expect(clippy::print_stdout, reason = "what is printed is looked through once more")]
fn look_through(what: &str, text: &str) {
    let lower = text.to_lowercase();
    for planted in list() {
        assert!(!lower.contains(&planted.to_lowercase()), "{what} shows {planted:?}: {text}");
    }
    // For `check.sh`, which looks through it once more.
    println!("{what}: {text}");
}
