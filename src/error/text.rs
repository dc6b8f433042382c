//! How an error is printed: by itself, with its causes, in its parts.

use std::error::Error as StdError;
use std::fmt::{self, Write};

use super::{Error, ErrorKind};
use crate::proto::wire::escape::Escaped;

impl Error {
    /// What went wrong, causes included, without the kind and the hint: for a text that has these already.
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
                // The user's own text. Its causes may contain the text of a peer.
                None if of_user => {
                    of_user = false;
                    write!(out, ": {cause}")?;
                }
                // A library's words may repeat what the peer sent: the names of a certificate for example.
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
