//! Secret bytes, which are cleared on drop and are not shown by `Debug`.

use std::fmt;

use zeroize::Zeroizing;

/// A password. To PostgreSQL it is a sequence of bytes; the caller chooses the text encoding.
///
/// The memory is cleared on drop, on a best effort: earlier copies of the caller, and copies that
/// the compiler made on the stack, are not cleared.
#[derive(Clone)]
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Creates a password. A `String` or `Vec<u8>` is moved, not copied.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// Returns the secret bytes.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// The complete body of a `p` message to send, without the type byte and the length word.
///
/// It may contain a password or a proof: it is cleared on drop, and not shown by `Debug`.
#[must_use = "the server waits for it"]
pub struct Response(Zeroizing<Vec<u8>>);

impl Response {
    /// Creates a PasswordMessage: the bytes and a NUL.
    pub(crate) fn password(bytes: &[u8]) -> Self {
        let mut body = Zeroizing::new(Vec::with_capacity(bytes.len().saturating_add(1)));
        body.extend_from_slice(bytes);
        body.push(0);
        Self(body)
    }

    /// Creates a SASLInitialResponse: the name of the mechanism, the length of the data, the data.
    ///
    /// `None` if the data is too long for its length word.
    pub(crate) fn sasl_initial(mechanism: &str, data: &[u8]) -> Option<Self> {
        let length = i32::try_from(data.len()).ok()?;
        let mut body = Zeroizing::new(Vec::with_capacity(mechanism.len() + 5 + data.len()));
        body.extend_from_slice(mechanism.as_bytes());
        body.push(0);
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(data);
        Some(Self(body))
    }

    /// Creates a SASLResponse, which contains only the data of the mechanism.
    pub(crate) fn sasl(data: Zeroizing<Vec<u8>>) -> Self {
        Self(data)
    }

    /// Returns the bytes after the length word of the `p` message.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Response({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte_of_a_password() {
        assert_eq!(format!("{:?}", Password::new("pencil")), "Password(..)");
        assert_eq!(format!("{:#?}", Some(Password::new("pencil"))), "Some(\n    Password(..),\n)");
        assert_eq!(format!("{:?}", Response::password(b"pencil")), "Response(7 bytes)");
    }

    #[test]
    fn bodies_have_the_format_of_the_manual() {
        assert_eq!(Response::password(b"pencil").body(), b"pencil\0");
        assert_eq!(
            Response::sasl_initial("SCRAM-SHA-256", b"n,,n=,r=x").unwrap().body(),
            b"SCRAM-SHA-256\0\0\0\0\x09n,,n=,r=x"
        );
    }
}
