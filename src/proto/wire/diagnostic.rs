//! ErrorResponse and NoticeResponse: their fields, borrowed or owned.

use std::fmt;

use bytes::BytesMut;

use super::cursor::{Body, BodyReader, tagged};
use super::error::{DecodeError, DecodeFault, EncodeError};
use super::escape::Escaped;
use super::limits::KEPT_DIAGNOSTIC_BYTES_MAX;
use super::tags;

/// The fields of an ErrorResponse or NoticeResponse, borrowed and checked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Diagnostic<'a> {
    /// `code value NUL` any number of times, without the zero byte that ends the list.
    fields: &'a [u8],
}

impl<'a> Diagnostic<'a> {
    /// Checks the body of an `E` or `N` message. A body without fields is valid.
    // N13.
    pub(crate) fn decode(mut reader: BodyReader<'a>) -> Result<Self, DecodeError> {
        let body = reader.remaining();
        while reader.u8("field code")? != 0 {
            reader.cstr("field value")?;
        }
        let fields = body.len().saturating_sub(reader.remaining().len()).saturating_sub(1);
        reader.finish()?;
        Ok(Self { fields: body.get(..fields).unwrap_or_default() })
    }

    pub(crate) fn write(&self, body: &mut Body<'_>) -> Result<(), EncodeError> {
        body.bytes(self.fields)?;
        body.u8(0)
    }

    /// Returns the fields in the server's order.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields }
    }

    /// Returns whether it is too long to be stored complete.
    pub(crate) fn is_long(&self) -> bool {
        self.fields.len() > KEPT_DIAGNOSTIC_BYTES_MAX
    }

    /// Returns the value of the first field with this code.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<&'a [u8]> {
        self.fields().find_map(|(found, value)| (found == code).then_some(value))
    }
}

impl fmt::Debug for Diagnostic<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&DbError::from(*self), f)
    }
}

/// Iterator over the code and the value of each field of a [`Diagnostic`].
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&code, rest) = self.rest.split_first()?;
        let mut halves = rest.splitn(2, |&byte| byte == 0);
        let value = halves.next()?;
        self.rest = halves.next().unwrap_or_default();
        Some((code, value))
    }
}

/// The severity of an error or a notice.
///
/// ```
/// use pgbell::{Error, Severity};
///
/// /// Returns whether the error has ended the session.
/// fn is_fatal(error: &Error) -> bool {
///     let severity = error.db_error().map(|error| error.severity());
///     matches!(severity, Some(Severity::Fatal | Severity::Panic))
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// `DEBUG`, `DEBUG1` to `DEBUG5`.
    Debug,
    /// `LOG`.
    Log,
    /// `INFO`.
    Info,
    /// `NOTICE`.
    Notice,
    /// `WARNING`.
    Warning,
    /// `ERROR`: the command failed, the session continues.
    Error,
    /// `FATAL`: the session has ended.
    Fatal,
    /// `PANIC`: all sessions have ended.
    Panic,
    /// Another word, or no word.
    Unknown,
}

impl Severity {
    /// Returns the word in the message, `None` for [`Unknown`](Self::Unknown).
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        Some(match self {
            Self::Debug => "DEBUG",
            Self::Log => "LOG",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
            Self::Error => "ERROR",
            Self::Fatal => "FATAL",
            Self::Panic => "PANIC",
            Self::Unknown => return None,
        })
    }

    fn of(word: &[u8]) -> Self {
        match word {
            b"DEBUG" | b"DEBUG1" | b"DEBUG2" | b"DEBUG3" | b"DEBUG4" | b"DEBUG5" => Self::Debug,
            b"LOG" => Self::Log,
            b"INFO" => Self::Info,
            b"NOTICE" => Self::Notice,
            b"WARNING" => Self::Warning,
            b"ERROR" => Self::Error,
            b"FATAL" => Self::Fatal,
            b"PANIC" => Self::Panic,
            _ => Self::Unknown,
        }
    }
}

/// The content of an ErrorResponse or NoticeResponse, as the server sent it.
///
/// `Display` is one line, `FATAL: message (SQLSTATE 57P01)`. `Display` and `Debug` escape control
/// characters and cut long texts. The getters return the text without escapes. In it, U+FFFD replaces bytes that are not
/// UTF-8; [`field`](Self::field) returns the unchanged bytes.
///
/// ```no_run
/// # async fn example(mut connection: pgbell::Connection) {
/// if let Err(error) = connection.simple_query("SELECT * FROM typo").await
///     && let Some(of_server) = error.db_error()
/// {
///     println!("{:?}: {} ({})", of_server.severity(), of_server.message(), of_server.code());
/// }
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DbError {
    /// The encoded fields, as in [`Diagnostic`].
    fields: Box<[u8]>,
    /// The same fields with invalid UTF-8 replaced. `None` if all is valid UTF-8.
    ///
    /// A replacement never removes a NUL, so the fields are in the same order.
    lossy: Option<Box<str>>,
}

impl DbError {
    /// Creates an error, as a server sends it. NULs in the texts become U+FFFD.
    #[must_use]
    pub fn new(severity: Severity, code: &str, message: &str) -> Self {
        let word = severity.as_str().unwrap_or("UNKNOWN");
        Self { fields: Box::default(), lossy: None }
            .with_field(b'S', word)
            .with_field(b'V', word)
            .with_field(b'C', code)
            .with_field(b'M', message)
    }

    /// Adds a field. A field of code 0 is not added. NULs in the value become U+FFFD.
    #[must_use]
    pub fn with_field(self, code: u8, value: &str) -> Self {
        if code == 0 {
            return self;
        }
        let mut fields = self.fields.into_vec();
        fields.push(code);
        fields.extend_from_slice(value.replace('\0', "\u{fffd}").as_bytes());
        fields.push(0);
        Self::keep(fields)
    }

    /// Creates an error from the text of an error in the form of protocol 2, after which the server closes the connection.
    // N3.
    #[must_use]
    #[cfg(any(test, feature = "proto"))]
    pub fn from_legacy_text(text: &[u8]) -> Self {
        let mut fields = b"SFATAL\0VFATAL\0M".to_vec();
        fields.extend(text.iter().take_while(|&&byte| byte != 0));
        fields.push(0);
        Self::keep(fields)
    }

    /// Creates an error from the beginning of the body of a message that is not complete. The last field is cut, before
    /// a character that is not complete.
    ///
    /// # Errors
    /// The list of fields ends within the beginning.
    pub(crate) fn from_beginning(
        message: &'static str,
        beginning: &[u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = BodyReader::new(message, beginning);
        let mut rest = beginning;
        loop {
            match reader.u8("field code") {
                Ok(0) => {
                    let bytes = reader.remaining().len();
                    return Err(DecodeError::new(message, DecodeFault::Leftover { bytes }));
                }
                Ok(_) if reader.cstr("field value").is_ok() => rest = reader.remaining(),
                Ok(_) | Err(_) => break,
            }
        }
        let whole = beginning.len().saturating_sub(rest.len());
        let mut fields = beginning.get(..whole).unwrap_or_default().to_vec();
        if let Some((code, value)) = rest.split_first() {
            let end = match std::str::from_utf8(value) {
                Err(error) if error.error_len().is_none() => error.valid_up_to(),
                _ => value.len(),
            };
            fields.push(*code);
            fields.extend_from_slice(value.get(..end).unwrap_or(value));
            fields.push(0);
        }
        Ok(Self::keep(fields))
    }

    fn keep(fields: Vec<u8>) -> Self {
        let lossy = match String::from_utf8_lossy(&fields) {
            std::borrow::Cow::Borrowed(_) => None,
            std::borrow::Cow::Owned(text) => Some(text.into_boxed_str()),
        };
        Self { fields: fields.into_boxed_slice(), lossy }
    }

    /// Creates an error of bounded length, for an error that is stored after its call, or belongs to no call. If the fields
    /// are longer than [`KEPT_DIAGNOSTIC_BYTES_MAX`], only severity, code and the beginning of the message are kept.
    pub(crate) fn brief(diagnostic: Diagnostic<'_>) -> Self {
        if !diagnostic.is_long() {
            return Self::from(diagnostic);
        }
        let mut fields = Vec::new();
        for code in *b"SVCM" {
            if let Some(value) = diagnostic.field(code) {
                let most = if code == b'M' { KEPT_DIAGNOSTIC_BYTES_MAX / 2 } else { 32 };
                fields.push(code);
                fields.extend_from_slice(value.get(..most).unwrap_or(value));
                fields.push(0);
            }
        }
        Self::keep(fields)
    }

    /// Appends it to `out` as an ErrorResponse.
    ///
    /// # Errors
    /// It is too long. Nothing was written.
    #[cfg(any(test, feature = "proto"))]
    pub fn encode_error(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(b'E', out)
    }

    /// Appends it to `out` as a NoticeResponse.
    ///
    /// # Errors
    /// It is too long. Nothing was written.
    #[cfg(any(test, feature = "proto"))]
    pub fn encode_notice(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(b'N', out)
    }

    #[cfg(any(test, feature = "proto"))]
    fn encode(&self, tag: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        match tags::backend(tag) {
            Some(shape) => tagged(out, tag, shape, |body| Diagnostic::from(self).write(body)),
            None => Ok(()),
        }
    }

    /// Returns the bytes of the first field with this code, unchanged.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<&[u8]> {
        Diagnostic::from(self).field(code)
    }

    /// Returns the first field with this code, as text.
    #[must_use]
    pub fn text(&self, code: u8) -> Option<&str> {
        match &self.lossy {
            None => self.field(code).and_then(|value| std::str::from_utf8(value).ok()),
            Some(lossy) => lossy.split_terminator('\0').find_map(|field| {
                let mut characters = field.chars();
                let found = characters.next()?;
                (found.is_ascii() && found == char::from(code)).then_some(characters.as_str())
            }),
        }
    }

    /// Returns the severity: field `V`, which is never translated, or field `S` if there is no `V`.
    // N13.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.field(b'V').or_else(|| self.field(b'S')).map_or(Severity::Unknown, Severity::of)
    }

    /// Returns whether the session has ended, even if the socket is still open.
    ///
    /// True for FATAL and PANIC, for an unknown word in `V`, and if there is no word. If there is only a translated `S`
    /// (`FEHLER`), it is true unless the class of the SQLSTATE means that only the command failed.
    // N13.
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        match self.severity() {
            Severity::Fatal | Severity::Panic => true,
            Severity::Unknown => {
                let translated = self.field(b'V').is_none() && self.field(b'S').is_some();
                !(translated && fails_the_command_only(self.code()))
            }
            _ => false,
        }
    }

    /// Returns the SQLSTATE, five characters. It is empty if the server sent none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.text(b'C').unwrap_or("")
    }

    /// Returns the primary message. It is empty if the server sent none.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text(b'M').unwrap_or("")
    }

    /// Returns the detail message.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.text(b'D')
    }

    /// Returns the server's hint.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.text(b'H')
    }

    /// Returns the position of the error in the query, in characters from 1.
    #[must_use]
    pub fn position(&self) -> Option<u32> {
        self.text(b'P').and_then(|position| position.parse().ok())
    }

    /// Returns the context: the call stack of functions and internal queries, one per line.
    #[must_use]
    pub fn where_(&self) -> Option<&str> {
        self.text(b'W')
    }

    /// Returns the schema that the error is about.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.text(b's')
    }

    /// Returns the table that the error is about.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.text(b't')
    }

    /// Returns the column that the error is about.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        self.text(b'c')
    }

    /// Returns the constraint that the error is about.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.text(b'n')
    }

    /// Returns the file of the server's source code that reported the error.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.text(b'F')
    }

    /// Returns the line in that file.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.text(b'L').and_then(|line| line.parse().ok())
    }

    /// Returns the routine in that file.
    #[must_use]
    pub fn routine(&self) -> Option<&str> {
        self.text(b'R')
    }
}

/// Returns whether the session continues after an error with this SQLSTATE. For an unknown class it returns false, because
/// an unnecessary reconnect costs less than a wait on a dead session.
// N13.
fn fails_the_command_only(code: &str) -> bool {
    // idle_in_transaction_session_timeout and transaction_timeout end the session, other errors of their class do not.
    if matches!(code, "25P03" | "25P04") {
        return false;
    }
    code == "57014"
        || matches!(
            code.get(..2),
            Some(
                "0A" | "0L"
                    | "0P"
                    | "20"
                    | "21"
                    | "22"
                    | "23"
                    | "24"
                    | "25"
                    | "26"
                    | "2B"
                    | "2D"
                    | "2F"
                    | "34"
                    | "38"
                    | "39"
                    | "3B"
                    | "3F"
                    | "40"
                    | "42"
                    | "44"
                    | "54"
                    | "55"
                    | "72"
                    | "HV"
                    | "P0"
            )
        )
}

/// The fields, borrowed.
impl<'a> From<&'a DbError> for Diagnostic<'a> {
    fn from(error: &'a DbError) -> Self {
        Self { fields: &error.fields }
    }
}

impl From<Diagnostic<'_>> for DbError {
    fn from(diagnostic: Diagnostic<'_>) -> Self {
        Self::keep(diagnostic.fields.to_vec())
    }
}

impl fmt::Display for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = self.text(b'V').or_else(|| self.text(b'S')).unwrap_or("error");
        write!(f, "{}: {}", Escaped(severity), Escaped(self.message()))?;
        match self.code() {
            "" => Ok(()),
            code => write!(f, " (SQLSTATE {})", Escaped(code)),
        }
    }
}

impl std::error::Error for DbError {}

/// Shows every known field, escaped and cut.
impl fmt::Debug for DbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("DbError");
        for (name, code) in [
            ("severity", b'V'),
            ("severity_local", b'S'),
            ("code", b'C'),
            ("message", b'M'),
            ("detail", b'D'),
            ("hint", b'H'),
            ("position", b'P'),
            ("where", b'W'),
            ("schema", b's'),
            ("table", b't'),
            ("column", b'c'),
            ("constraint", b'n'),
            ("file", b'F'),
            ("line", b'L'),
            ("routine", b'R'),
        ] {
            if let Some(text) = self.text(code) {
                shown.field(name, &format_args!("\"{}\"", Escaped(text)));
            }
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beginning(bytes: &[u8]) -> DbError {
        DbError::from_beginning("ErrorResponse", bytes).unwrap()
    }

    #[test]
    fn the_beginning_of_a_message_keeps_complete_fields_and_cuts_the_last_at_a_character() {
        let error = beginning("SERROR\0C42501\0Mépoque".as_bytes());
        let found = (error.severity(), error.code(), error.message());
        assert_eq!(found, (Severity::Error, "42501", "époque"));
        assert_eq!(beginning(&"C42501\0Mé".as_bytes()[..9]).message(), "");
        assert_eq!(beginning(b"C42501\0Mnon\0D").detail(), Some(""));
        assert_eq!(beginning(b"C42501\0Mnon\0").message(), "non");
        assert_eq!(beginning(b"").code(), "");
        // A field that is not UTF-8 is not cut.
        assert_eq!(beginning(b"Mcaf\xe9s").field(b'M'), Some(&b"caf\xe9s"[..]));
        // The kept fields can be encoded.
        let mut out = BytesMut::new();
        error.encode_error(&mut out).unwrap();
        assert!(out.ends_with("époque\0\0".as_bytes()));
    }

    #[test]
    fn a_list_that_ends_before_its_message_is_malformed() {
        for bytes in [&b"\0"[..], b"C42501\0\0", b"C42501\0\0Mx"] {
            let error = DbError::from_beginning("ErrorResponse", bytes).unwrap_err();
            assert!(matches!(error.fault(), DecodeFault::Leftover { .. }), "{error}");
        }
    }
}
