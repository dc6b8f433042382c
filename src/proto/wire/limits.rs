//! Every limit of the codec: its unit is in the name, its origin in the doc comment.
//!
//! A *frame* limit bounds the value of the length word, which counts itself and the body but not
//! the type byte. Memory grows with the bytes that arrived, never with a length that was announced.

/// Bytes before the body of a tagged message: the type byte and the length word.
pub const FRAME_HEADER_BYTES: usize = 5;

/// Longest NotificationResponse that is accepted, as a length word.
///
/// The longest legal one is 8,072 (63 byte channel, 7,999 byte payload); conversion to another
/// client encoding may grow text fourfold, and a server built with 32 KiB blocks allows about
/// 130 kB. No server sends a longer one: it is no message, and ends the session. N1.
pub const NOTIFICATION_FRAME_BYTES_MAX: u32 = 256 * 1024;

/// Longest message of a server, as a length word: its body is a string of the server's, which has at most
/// `MaxAllocSize` (1 GiB) less two bytes. N163.
///
/// The types of which a server sends such long ones are those that libpq takes without a limit (`fe-protocol3.c`,
/// `VALID_LONG_MESSAGE_TYPE`), and ParameterStatus. What is longer than the limits below is not taken whole.
pub const MESSAGE_BYTES_MAX: u32 = 0x4000_0002;

/// Longest ErrorResponse or NoticeResponse that is taken whole after authentication, as a length word. Of a longer one
/// the beginning is taken, as far as this, and the rest is skipped.
///
/// Leaves room for a statement quoted in `CONTEXT`.
pub const DIAGNOSTIC_FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// Longest error or notice that is kept whole though it answers no query, in bytes of its fields: the end of a
/// session, the refusal of a channel, a notice.
///
/// PostgreSQL's have 100 to 300. A server may send any number of them, and of
/// [`DIAGNOSTIC_FRAME_BYTES_MAX`] each.
pub const KEPT_DIAGNOSTIC_BYTES_MAX: usize = 1_024;

/// Longest RowDescription, DataRow, CopyData or FunctionCallResponse that is taken whole whatever it answers, as a
/// length word. A longer row, or description of rows, is taken whole if the result may be as long, and skipped if not;
/// longer copied data is skipped.
pub const ROW_FRAME_BYTES_MAX: u32 = 1024 * 1024;

/// Longest ParameterDescription, as a length word: 65,535 parameters.
pub const PARAMETER_DESCRIPTION_BYTES_MAX: u32 = 6 + 4 * 65_535;

/// Longest message of every other type, as a length word.
///
/// libpq (`fe-protocol3.c`, `VALID_LONG_MESSAGE_TYPE`) takes a longer one for loss of sync. N2.
pub const SHORT_FRAME_BYTES_MAX: u32 = 30_000;

/// Longest ParameterStatus that is taken whole, as a length word: libpq's general limit. Of a longer one, which
/// `search_path` may make since PostgreSQL 18, the beginning is taken. N2, N164.
pub const PARAMETER_STATUS_FRAME_BYTES_MAX: u32 = SHORT_FRAME_BYTES_MAX;

/// Longest Authentication message and NegotiateProtocolVersion, as a length word.
///
/// libpq (`fe-connect.c`, `CONNECTION_AWAITING_RESPONSE`) takes 8 to 2,000. N2.
pub const AUTHENTICATION_BYTES_MAX: u32 = 2_000;

/// Longest ErrorResponse or NoticeResponse before authentication, as a length word, and longest
/// text of an error in the form of protocol 2, in bytes.
///
/// libpq (`fe-connect.c`, `MAX_ERRLEN`). N3.
pub const UNAUTHENTICATED_ERROR_BYTES_MAX: u32 = 30_000;

/// Shortest secret key of BackendKeyData and CancelRequest, in bytes: all of them before
/// protocol 3.2. N6.
pub const SECRET_KEY_BYTES_MIN: usize = 4;

/// Longest secret key of BackendKeyData and CancelRequest, in bytes (protocol 3.2). N6.
pub const SECRET_KEY_BYTES_MAX: usize = 256;

/// Longest startup packet without its length word, in bytes.
///
/// `pqcomm.h`, `MAX_STARTUP_PACKET_LENGTH`: the server closes without a word above it. N7.
pub const STARTUP_BODY_BYTES_MAX: usize = 10_000;

/// Longest Query, Parse, Bind or CopyData, as a length word.
///
/// `libpq.h`, `PQ_LARGE_MESSAGE_LIMIT` (`MaxAllocSize - 1`). N8.
pub const FRONTEND_LARGE_FRAME_BYTES_MAX: u32 = 0x3fff_fffe;

/// Longest message of every other type that a client sends, as a length word.
///
/// `libpq.h`, `PQ_SMALL_MESSAGE_LIMIT`. N8.
pub const FRONTEND_SMALL_FRAME_BYTES_MAX: u32 = 10_000;

/// Longest answer to an authentication request, as a length word.
///
/// `auth.h`, `PG_MAX_AUTH_TOKEN_LENGTH`. A SASL message above 1,024 bytes is refused by the
/// server's SASL code itself. N8.
pub const FRONTEND_AUTHENTICATION_BYTES_MAX: u32 = 65_535;

/// Longest NOTIFY payload that a server with default blocks accepts, in bytes.
///
/// `async.c` refuses `BLCKSZ - NAMEDATALEN - 128` (8,000) and more. N9.
pub const PAYLOAD_BYTES_MAX: usize = 7_999;

/// Longest channel name, in bytes: `NAMEDATALEN - 1`.
///
/// LISTEN and NOTIFY cut a longer one with a NOTICE, `pg_notify` refuses it. N9.
pub const CHANNEL_BYTES_MAX: usize = 63;

/// Most text that one server message contributes to a line of ours, in bytes before escaping.
pub const DISPLAY_BYTES_MAX: usize = 2_048;

/// A limit of the wire as a limit of memory. Never smaller than the limit itself.
pub(crate) fn in_memory(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}
