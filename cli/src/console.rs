//! Lines for people, on stderr.

use std::io::{self, Write};

use crate::record::push_visible;

/// Writes one line. Control characters in it are made visible: parts of it come from a server.
pub(crate) fn line(text: &str) {
    let mut bytes = Vec::with_capacity(text.len() + 1);
    push_visible(text, &mut bytes);
    bytes.push(b'\n');
    // If this fails, there is no other place to report it.
    let _ = io::stderr().lock().write_all(&bytes);
}
