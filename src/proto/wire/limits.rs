//! The limits of the codec. The unit is in the name, the origin in the documentation.
//!
//! A limit for a *frame* is a limit for the value of the length word, which counts itself and the body but not the type
//! byte. Memory grows with the bytes that have arrived, not with the length word.

/// The bytes before the body of a message: the type byte and the length word.
pub const FRAME_HEADER_BYTES: usize = 5;

/// The longest NotificationResponse that is accepted, as a length word.
///
/// On a server with default settings the longest one is 8,072 (63 bytes of channel, 7,999 bytes of payload). Conversion to
/// another client encoding may make the text four times as long, and a server that is built with 32 KiB blocks allows about
/// 130 kB. No server sends a longer one, so a longer one is a protocol violation and ends the session.
// N1.
pub const NOTIFICATION_FRAME_BYTES_MAX: u32 = 256 * 1024;

/// The longest message of a server, as a length word: the server builds the body in one buffer, which has at most
/// `MaxAllocSize` (1 GiB) less two bytes.
///
/// Messages of such a length can have the types that libpq accepts without a limit (`fe-protocol3.c`,
/// `VALID_LONG_MESSAGE_TYPE`), and ParameterStatus. A message above the limit of its type below is not always kept
/// complete.
// N163.
pub const MESSAGE_BYTES_MAX: u32 = 0x4000_0002;

/// The longest ErrorResponse or NoticeResponse that is kept complete after authentication, as a length word. Of a longer
/// one, a beginning of this length is kept, and the rest is skipped.
///
/// It is large enough for a statement that is quoted in `CONTEXT`.
pub const DIAGNOSTIC_FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// The longest error or notice that is stored complete although it is not the answer to a query, in bytes of its fields:
/// the end of a session, the refusal of a channel, a notice.
///
/// Those of PostgreSQL have 100 to 300 bytes. A server may send any number of them, each with up to
/// [`DIAGNOSTIC_FRAME_BYTES_MAX`] bytes.
pub const KEPT_DIAGNOSTIC_BYTES_MAX: usize = 1_024;

/// The longest RowDescription, DataRow, CopyData or FunctionCallResponse that is always kept complete, as a length word.
/// A longer DataRow or RowDescription is kept complete if the limit of the result allows it, and skipped otherwise. Longer
/// CopyData is skipped.
pub const ROW_FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// The longest ParameterDescription, as a length word: 65,535 parameters.
pub const PARAMETER_DESCRIPTION_BYTES_MAX: u32 = 6 + 4 * 65_535;

/// The longest message of every other type, as a length word.
///
/// libpq (`fe-protocol3.c`, `VALID_LONG_MESSAGE_TYPE`) reports a longer one as lost synchronization.
// N2.
pub const SHORT_FRAME_BYTES_MAX: u32 = 30_000;

/// The longest ParameterStatus that is kept complete, as a length word: libpq's general limit. A longer one is possible for
/// `search_path` since PostgreSQL 18. Its beginning is kept.
// N2, N164.
pub const PARAMETER_STATUS_FRAME_BYTES_MAX: u32 = SHORT_FRAME_BYTES_MAX;

/// The longest Authentication message and NegotiateProtocolVersion, as a length word.
///
/// libpq (`fe-connect.c`, `CONNECTION_AWAITING_RESPONSE`) accepts 8 to 2,000.
// N2.
pub const AUTHENTICATION_BYTES_MAX: u32 = 2_000;

/// The longest ErrorResponse or NoticeResponse before authentication, as a length word, and the longest
/// text of an error in the form of protocol 2, in bytes.
///
/// libpq has the same limit (`fe-connect.c`, `MAX_ERRLEN`).
// N3.
pub const UNAUTHENTICATED_ERROR_BYTES_MAX: u32 = 30_000;

/// The shortest secret key of BackendKeyData and CancelRequest, in bytes. Before protocol 3.2 every key has this length.
// N6.
pub const SECRET_KEY_BYTES_MIN: usize = 4;

/// The longest secret key of BackendKeyData and CancelRequest, in bytes (protocol 3.2).
// N6.
pub const SECRET_KEY_BYTES_MAX: usize = 256;

/// The longest startup packet without its length word, in bytes.
///
/// `pqcomm.h`, `MAX_STARTUP_PACKET_LENGTH`: the server closes the connection without a message above it.
// N7.
pub const STARTUP_BODY_BYTES_MAX: usize = 10_000;

/// The longest Query, Parse, Bind or CopyData, as a length word.
///
/// `libpq.h`, `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize - 1`).
// N8.
pub const FRONTEND_LARGE_FRAME_BYTES_MAX: u32 = 0x3fff_fffe;

/// The longest message of every other type that a client sends, as a length word.
///
/// `libpq.h`, `PQ_SMALL_MESSAGE_LIMIT`.
// N8.
pub const FRONTEND_SMALL_FRAME_BYTES_MAX: u32 = 10_000;

/// The longest answer to an authentication request, as a length word.
///
/// `auth.h`, `PG_MAX_AUTH_TOKEN_LENGTH`. The server refuses a SASL message above 1,024 bytes.
// N8.
pub const FRONTEND_AUTHENTICATION_BYTES_MAX: u32 = 65_535;

/// The longest NOTIFY payload that a server with the default block size accepts, in bytes.
///
/// `async.c` refuses `BLCKSZ - NAMEDATALEN - 128` (8,000) and more.
// N9.
pub const PAYLOAD_BYTES_MAX: usize = 7_999;

/// The longest channel name, in bytes: `NAMEDATALEN - 1`.
///
/// LISTEN and NOTIFY truncate a longer name and send a NOTICE, `pg_notify` refuses it.
// N9.
pub const CHANNEL_BYTES_MAX: usize = 63;

/// The maximum length of a text of a server in `Display` and `Debug`, in bytes before escaping. A longer text is cut.
pub const DISPLAY_BYTES_MAX: usize = 2_048;

/// Converts a limit of the protocol to `usize`. The result is never smaller.
pub(crate) fn in_memory(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
