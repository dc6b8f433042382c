//! Messages that the server sends. (skeleton)

/// The body of an `R` message: what the server asks for, or that it is satisfied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Authentication<'a> {
    /// Code 0.
    Ok,
    /// Code 3.
    CleartextPassword,
    /// Code 5, with the salt.
    Md5Password {
        /// Four random bytes of the server.
        salt: [u8; 4],
    },
    /// Code 10: the mechanism names, each ended by a NUL, then an empty one. Checked by decode.
    Sasl {
        /// The list as on the wire, the final empty name included.
        mechanisms: &'a [u8],
    },
    /// Code 11: the server's challenge.
    SaslContinue(&'a [u8]),
    /// Code 12: the server's last word.
    SaslFinal(&'a [u8]),
    /// Any other code: Kerberos (2), GSSAPI (7, 8), SSPI (9) and what is not assigned.
    Unsupported {
        /// The code.
        code: i32,
        /// What followed it.
        data: &'a [u8],
    },
}
