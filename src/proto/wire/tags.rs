//! The table of message types: the name, the minimum and the maximum length of each.
//!
//! Each direction has its own table, because the same letters are used for different
//! messages (`D` is DataRow from the server and Describe from the client).

use super::limits::{
    AUTHENTICATION_BYTES_MAX, DIAGNOSTIC_FRAME_BYTES_MAX, FRONTEND_AUTHENTICATION_BYTES_MAX,
    FRONTEND_LARGE_FRAME_BYTES_MAX, FRONTEND_SMALL_FRAME_BYTES_MAX, MESSAGE_BYTES_MAX,
    NOTIFICATION_FRAME_BYTES_MAX, PARAMETER_DESCRIPTION_BYTES_MAX,
    PARAMETER_STATUS_FRAME_BYTES_MAX, ROW_FRAME_BYTES_MAX, SHORT_FRAME_BYTES_MAX,
    UNAUTHENTICATED_ERROR_BYTES_MAX,
};

/// The name and the limits of a message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// The manual's name of the message.
    pub name: &'static str,
    /// The smallest valid length word.
    pub floor: u32,
    /// The largest length word of a message that is always kept complete.
    pub cap: u32,
    /// The largest valid length word.
    pub most: u32,
}

/// A type whose messages are always kept complete. A longer message is not valid.
const fn shape(name: &'static str, floor: u32, cap: u32) -> Option<Shape> {
    Some(Shape { name, floor, cap, most: cap })
}

/// A type whose messages may be longer than `cap`.
const fn long(name: &'static str, floor: u32, cap: u32) -> Option<Shape> {
    Some(Shape { name, floor, cap, most: MESSAGE_BYTES_MAX })
}

/// Returns the messages of the server after AuthenticationOk.
///
/// Authentication and NegotiateProtocolVersion are included. The session reports that they come too late.
#[must_use]
pub const fn backend(tag: u8) -> Option<Shape> {
    match tag {
        b'A' => shape("NotificationResponse", 11, NOTIFICATION_FRAME_BYTES_MAX),
        b'C' => shape("CommandComplete", 5, SHORT_FRAME_BYTES_MAX),
        b'D' => long("DataRow", 6, ROW_FRAME_BYTES_MAX),
        b'E' => long("ErrorResponse", 5, DIAGNOSTIC_FRAME_BYTES_MAX),
        b'G' => shape("CopyInResponse", 7, SHORT_FRAME_BYTES_MAX),
        b'H' => shape("CopyOutResponse", 7, SHORT_FRAME_BYTES_MAX),
        b'I' => shape("EmptyQueryResponse", 4, 4),
        b'K' => shape("BackendKeyData", 12, 264),
        b'N' => long("NoticeResponse", 5, DIAGNOSTIC_FRAME_BYTES_MAX),
        b'R' => shape("Authentication", 8, AUTHENTICATION_BYTES_MAX),
        b'S' => long("ParameterStatus", 6, PARAMETER_STATUS_FRAME_BYTES_MAX),
        b'T' => long("RowDescription", 6, ROW_FRAME_BYTES_MAX),
        b'V' => shape("FunctionCallResponse", 8, ROW_FRAME_BYTES_MAX),
        b'W' => shape("CopyBothResponse", 7, SHORT_FRAME_BYTES_MAX),
        b'Z' => shape("ReadyForQuery", 5, 5),
        b'c' => shape("CopyDone", 4, 4),
        b'd' => long("CopyData", 4, ROW_FRAME_BYTES_MAX),
        b'n' => shape("NoData", 4, 4),
        b's' => shape("PortalSuspended", 4, 4),
        b't' => shape("ParameterDescription", 6, PARAMETER_DESCRIPTION_BYTES_MAX),
        b'v' => shape("NegotiateProtocolVersion", 12, AUTHENTICATION_BYTES_MAX),
        b'1' => shape("ParseComplete", 4, 4),
        b'2' => shape("BindComplete", 4, 4),
        b'3' => shape("CloseComplete", 4, 4),
        _ => None,
    }
}

/// Returns the messages of the server before AuthenticationOk.
///
/// libpq accepts `R`, `E` and `v`. PgBouncer 1.25 and later sends `N` too, while a client waits
/// for a server connection.
// N2, N4.
#[must_use]
pub const fn unauthenticated_backend(tag: u8) -> Option<Shape> {
    match tag {
        b'R' | b'v' => backend(tag),
        b'E' => shape("ErrorResponse", 5, UNAUTHENTICATED_ERROR_BYTES_MAX),
        b'N' => shape("NoticeResponse", 5, UNAUTHENTICATED_ERROR_BYTES_MAX),
        _ => None,
    }
}

/// Returns the messages of the client after the startup packet.
#[must_use]
pub const fn frontend(tag: u8) -> Option<Shape> {
    match tag {
        b'B' => shape("Bind", 12, FRONTEND_LARGE_FRAME_BYTES_MAX),
        b'C' => shape("Close", 6, FRONTEND_SMALL_FRAME_BYTES_MAX),
        b'D' => shape("Describe", 6, FRONTEND_SMALL_FRAME_BYTES_MAX),
        b'E' => shape("Execute", 9, FRONTEND_SMALL_FRAME_BYTES_MAX),
        b'F' => shape("FunctionCall", 4, FRONTEND_LARGE_FRAME_BYTES_MAX),
        b'H' => shape("Flush", 4, 4),
        b'P' => shape("Parse", 8, FRONTEND_LARGE_FRAME_BYTES_MAX),
        b'Q' => shape("Query", 5, FRONTEND_LARGE_FRAME_BYTES_MAX),
        b'S' => shape("Sync", 4, 4),
        b'X' => shape("Terminate", 4, 4),
        b'c' => shape("CopyDone", 4, 4),
        b'd' => shape("CopyData", 4, FRONTEND_LARGE_FRAME_BYTES_MAX),
        b'f' => shape("CopyFail", 5, FRONTEND_SMALL_FRAME_BYTES_MAX),
        b'p' => shape("PasswordMessage", 4, FRONTEND_AUTHENTICATION_BYTES_MAX),
        _ => None,
    }
}
