//! The texts of an error: `Display` and `Debug`, with and without its causes.

use std::error::Error as StdError;
use std::fmt::{self, Write};

use super::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

impl Error {
    /// Returns the message and the causes, without the kind and the hint, for a text that contains these already.
    pub(crate) fn words(&self) -> String {
        let mut words = String::new();
        // Writing to a string does not fail.
        let _ = self.write_message(&mut words);
        let _ = self.write_causes(&mut words);
        words
    }

    fn write_message(&self, out: &mut impl Write) -> fmt::Result {
        out.write_str(&self.0.message)?;
        match &self.0.db_error {
            Some(error) => write!(out, ": {error}"),
            None => Ok(()),
        }
    }

    fn write_causes(&self, out: &mut impl Write) -> fmt::Result {
        let mut of_user = self.0.kind == ErrorKind::Other;
        let mut next = self.source();
        while let Some(cause) = next {
            match cause.downcast_ref::<Self>() {
                Some(error) => {
                    of_user = error.0.kind == ErrorKind::Other;
                    write!(out, ": {error}")?;
                }
                // The text of the user's own error is trusted. Its causes may contain text of a peer.
                None if of_user => {
                    of_user = false;
                    write!(out, ": {cause}")?;
                }
                // The text of a library's error may contain bytes of the peer, such as the names of a certificate.
                None => write!(out, ": {}", Escaped(&cause.to_string()))?,
            }
            next = cause.source();
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.0.kind.label())?;
        self.write_message(f)?;
        if let Some(hint) = self.hint() {
            write!(f, " (hint: {})", Escaped(hint))?;
        }
        if f.alternate() { self.write_causes(f) } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return write!(f, "{self:#}");
        }
        let mut shown = f.debug_struct("Error");
        shown
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.0.hint)
            .field("db_error", &self.0.db_error);
        match &self.0.source {
            Some(source) if !source.is::<Self>() && self.0.kind != ErrorKind::Other => {
                let text = format!("{source:?}");
                shown.field("source", &format_args!("{}", Escaped(&text)))
            }
            source => shown.field("source", source),
        };
        shown.finish()
    }
}
