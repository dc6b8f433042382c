//! The request for TLS on an unencrypted connection.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::hint;
use crate::error::{Error, ErrorKind};

/// `SSLRequest`: its length, and a number in place of the protocol version of a startup message.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// The server's answer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The handshake follows.
    Yes,
    /// The server has no TLS. The connection can be used without it, if that is allowed.
    No,
}

/// Asks the server for TLS, once.
///
/// The answer is one byte, and only that is read here. Bytes after a no belong to the unencrypted session,
/// also if they arrived in the same segment. An error message before TLS may come from an attacker, and is never shown.
/// Bytes after a yes are refused by the handshake, before the client sends anything: they would be used as if they had
/// come through TLS (CVE-2021-23222).
///
/// # Errors
/// [`ErrorKind::Connect`]: the connection broke, or the server answered with an error. [`ErrorKind::Tls`]: any
/// other answer than yes or no.
///
/// # Cancel safety
/// Not cancel safe: drop the connection too.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S) -> Result<Answer, Error> {
    let broken =
        |error| hint::broken_io("the connection broke when TLS was asked for", error).declined();
    io.write_all(&SSL_REQUEST).await.map_err(broken)?;
    io.flush().await.map_err(broken)?;
    let mut answer = [0];
    let count = io.read(&mut answer).await.map_err(broken)?;
    match (count, answer) {
        (0, _) => {
            let message = "the server ended the connection when TLS was asked for";
            Err(Error::new(ErrorKind::Connect, message)
                .declined()
                .with_hint("is there a PostgreSQL server at this port? It may also be overloaded"))
        }
        (_, [b'E']) => {
            let message = "the server answered the request for TLS with an error, which is not shown: \
                           before TLS it could come from an attacker";
            // `Connect`, which is transient: a server that cannot fork answers so.
            Err(Error::new(ErrorKind::Connect, message)
                .declined()
                .with_hint("the server's log has the reason"))
        }
        (_, [b'S']) => Ok(Answer::Yes),
        (_, [b'N']) => Ok(Answer::No),
        (_, [byte]) => {
            let message = format!(
                "the server answered the request for TLS with the byte 0x{byte:02x}, not with S or N"
            );
            Err(Error::new(ErrorKind::Tls, message)
                .with_hint("is there a PostgreSQL server at this port?"))
        }
    }
}
