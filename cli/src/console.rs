//! Lines for people, on stderr.

use std::io::{self, IsTerminal, Write};

use crate::record::push_visible;

/// Writes one line. Control characters in it are made visible: parts of it come from a server.
pub(crate) fn line(text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    push_visible(text, &mut bytes);
    bytes.push(b'\n');
    // If this fails, there is no other place to report it.
    let _ = io::stderr().lock().write_all(&bytes);
}

/// Returns whether stdout and stderr are both shown on a terminal: then a record of a loss need not be repeated on stderr.
pub(crate) fn shows_records() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}
