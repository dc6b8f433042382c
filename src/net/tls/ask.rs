//! The request for TLS on a connection that begins in clear.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::hint;
use crate::{Error, ErrorKind};

/// `SSLRequest`: its length, and a number where a startup message has the protocol's version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What a server says to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// TLS begins.
    Yes,
    /// It has none. The connection goes on in clear, if that is acceptable.
    No,
}

/// Asks the server for TLS, once.
///
/// The answer is one byte, and no more is read here: what comes behind a no belongs to the session in the clear,
/// whether it came in one segment with the answer or later. What a server says before TLS is not its word but
/// anybody's, and is never shown. Bytes behind a yes are an error of the handshake, which begins with silence: they
/// would be read as if they had come through TLS (CVE-2021-23222).
///
/// # Errors
/// [`ErrorKind::Connect`]: the connection broke, or the server has an error to tell. [`ErrorKind::Tls`]: any
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
                           before TLS anybody could have written it";
            // Connect, which may go well later: so says a server that cannot fork.
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
