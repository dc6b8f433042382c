//! Lines for a person, on stderr.

use std::io::{self, Write};

use crate::record::push_visible;

/// Writes one line. Control characters in it are made visible: parts of it come from a server.
pub(crate) fn line(text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    push_visible(text, &mut bytes);
    bytes.push(b'\n');
    // Nobody is left to be told when this fails.
    let _ = io::stderr().lock().write_all(&bytes);
}
