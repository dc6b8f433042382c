//! A question before something is deleted.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::exit::{Exit, Failure};

/// Returns whether there is a terminal on which a question can be asked.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks on stderr, and waits for a line on stdin. Returns whether it is `y` or `yes`.
pub(super) async fn ask(question: &str) -> Result<bool, Failure> {
    let mut text = Vec::new();
    crate::record::push_visible(question, &mut text);
    text.extend_from_slice(b" [y/N] ");
    // If this fails, there is no other place to ask.
    let _ = io::stderr().lock().write_all(&text);
    // A read of stdin cannot be cancelled: it gets a thread, and the end of the program ends it.
    let answer = tokio::task::spawn_blocking(|| answer(io::stdin().lock())).await;
    let answer = answer.map_err(io::Error::other).and_then(|answer| answer);
    answer.map_err(|error| Failure::new(Exit::Runtime, format!("cannot read stdin: {error}")))
}

/// The end of the input is no.
fn answer(mut input: impl BufRead) -> io::Result<bool> {
    let mut line = String::new();
    input.read_line(&mut line)?;
    Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_yes() {
        for (line, expected) in [
            ("y\n", true),
            ("YES\r\n", true),
            ("yes", true),
            ("", false),
            ("\n", false),
            ("n\n", false),
            ("yesterday\n", false),
            ("\ny\n", false),
        ] {
            assert_eq!(answer(line.as_bytes()).unwrap(), expected, "{line:?}");
        }
    }
}
