//! ErrorResponse and NoticeResponse: fields on the wire, and the server's words to keep.

use std::fmt;

use bytes::BytesMut;

use super::cursor::{Body, Reader, tagged};
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
    /// Checks the body of an `E` or `N` message. No field at all is allowed. N13.
    pub(crate) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
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

    /// The fields in the server's order.
    #[must_use]
    pub const fn fields(&self) -> Fields<'a> {
        Fields { rest: self.fields }
    }

    /// Whether it is too long to be kept whole.
    pub(crate) fn is_long(&self) -> bool {
        self.fields.len() > KEPT_DIAGNOSTIC_BYTES_MAX
    }

    /// The first field with this code.
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

/// How bad the server says it is.
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
    /// `ERROR`: the command failed, the session lives on.
    Error,
    /// `FATAL`: the session is over.
    Fatal,
    /// `PANIC`: all sessions are over.
    Panic,
    /// A word that is not one of these, or none.
    Unknown,
}

impl Severity {
    /// The word on the wire, `None` for [`Unknown`](Self::Unknown).
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

/// What a server said in an ErrorResponse or NoticeResponse, kept as it was sent.
///
/// `Display` is one line, `FATAL: message (SQLSTATE 57P01)`; it and `Debug` write out control
/// characters and cut what is long. The getters return text that may hold anything; what was not
/// UTF-8 has U+FFFD in its place there, and is found whole with [`field`](Self::field).
#[derive(Clone, PartialEq, Eq)]
pub struct DbError {
    /// As [`Diagnostic::fields`].
    fields: Box<[u8]>,
    /// The same with invalid UTF-8 replaced; `None` when there was none to replace.
    ///
    /// A replacement never swallows a NUL, so the fields stand in the same order.
    lossy: Option<Box<str>>,
}

impl DbError {
    /// An error of the server half. NULs in the texts become U+FFFD.
    #[must_use]
    pub fn new(severity: Severity, code: &str, message: &str) -> Self {
        let word = severity.as_str().unwrap_or("UNKNOWN");
        Self { fields: Box::default(), lossy: None }
            .with_field(b'S', word)
            .with_field(b'V', word)
            .with_field(b'C', code)
            .with_field(b'M', message)
    }

    /// The same with one more field. A field of code 0 is not added; NULs become U+FFFD.
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

    /// An error in the form of protocol 2: text alone, from a server that then closed. N3.
    #[must_use]
    pub fn from_legacy_text(text: &[u8]) -> Self {
        let mut fields = b"SFATAL\0VFATAL\0M".to_vec();
        fields.extend(text.iter().take_while(|&&byte| byte != 0));
        fields.push(0);
        Self::keep(fields)
    }

    /// What the beginning of a message says that is not there whole: its fields up to there. The last one is cut, before
    /// a character that is not whole.
    ///
    /// # Errors
    /// The list of fields ends within the beginning.
    pub(crate) fn from_beginning(
        message: &'static str,
        beginning: &[u8],
    ) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(message, beginning);
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

    /// The same, bounded: for one that outlives the call that it answers, or answers none. What is longer than
    /// [`KEPT_DIAGNOSTIC_BYTES_MAX`] loses all but severity, code and the beginning of its message.
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

    /// Writes it as an ErrorResponse.
    ///
    /// # Errors
    /// It is too long for one. Nothing was written.
    pub fn encode_error(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(b'E', out)
    }

    /// Writes it as a NoticeResponse.
    ///
    /// # Errors
    /// It is too long for one. Nothing was written.
    pub fn encode_notice(&self, out: &mut BytesMut) -> Result<(), EncodeError> {
        self.encode(b'N', out)
    }

    fn encode(&self, tag: u8, out: &mut BytesMut) -> Result<(), EncodeError> {
        match tags::backend(tag) {
            Some(shape) => tagged(out, tag, shape, |body| self.diagnostic().write(body)),
            None => Ok(()),
        }
    }

    /// The same fields, borrowed.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic<'_> {
        Diagnostic { fields: &self.fields }
    }

    /// The bytes of the first field with this code, as they came.
    #[must_use]
    pub fn field(&self, code: u8) -> Option<&[u8]> {
        self.diagnostic().field(code)
    }

    /// The first field with this code, as text.
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

    /// How bad it is: field `V`, which no server translates, else `S`, which it may. N13.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.field(b'V').or_else(|| self.field(b'S')).map_or(Severity::Unknown, Severity::of)
    }

    /// Whether the session is over, even if the socket is still open.
    ///
    /// FATAL and PANIC; an unknown word in `V`, or no word at all; with only a translated `S`
    /// (`FEHLER`), unless the SQLSTATE is of a class that fails a command and no more. N13.
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

    /// The SQLSTATE, five characters; empty when the server sent none.
    #[must_use]
    pub fn code(&self) -> &str {
        self.text(b'C').unwrap_or("")
    }

    /// The primary message; empty when the server sent none.
    #[must_use]
    pub fn message(&self) -> &str {
        self.text(b'M').unwrap_or("")
    }

    /// The rest of the message.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.text(b'D')
    }

    /// The server's suggestion.
    #[must_use]
    pub fn hint(&self) -> Option<&str> {
        self.text(b'H')
    }

    /// Where in the query it went wrong, in characters from 1.
    #[must_use]
    pub fn position(&self) -> Option<u32> {
        self.text(b'P').and_then(|position| position.parse().ok())
    }

    /// The call stack of functions and internal queries, line by line.
    #[must_use]
    pub fn where_(&self) -> Option<&str> {
        self.text(b'W')
    }

    /// The schema it is about.
    #[must_use]
    pub fn schema(&self) -> Option<&str> {
        self.text(b's')
    }

    /// The table it is about.
    #[must_use]
    pub fn table(&self) -> Option<&str> {
        self.text(b't')
    }

    /// The column it is about.
    #[must_use]
    pub fn column(&self) -> Option<&str> {
        self.text(b'c')
    }

    /// The constraint it is about.
    #[must_use]
    pub fn constraint(&self) -> Option<&str> {
        self.text(b'n')
    }

    /// The file of the server's source that reported it.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.text(b'F')
    }

    /// The line in that file.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.text(b'L').and_then(|line| line.parse().ok())
    }

    /// The routine in that file.
    #[must_use]
    pub fn routine(&self) -> Option<&str> {
        self.text(b'R')
    }
}

/// SQLSTATEs after which the session goes on. What is not known here counts as the end: a
/// reconnect too many costs less than waiting on a dead session. N13.
fn fails_the_command_only(code: &str) -> bool {
    // idle-in-transaction and transaction timeout end the session, their class does not.
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

/// Every field that has a meaning here, escaped and cut.
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
    fn of_a_beginning_whole_fields_are_kept_and_the_last_is_cut_before_half_a_character() {
        let error = beginning("SERROR\0C42501\0Mépoque".as_bytes());
        let found = (error.severity(), error.code(), error.message());
        assert_eq!(found, (Severity::Error, "42501", "époque"));
        assert_eq!(beginning(&"C42501\0Mé".as_bytes()[..9]).message(), "");
        assert_eq!(beginning(b"C42501\0Mnon\0D").detail(), Some(""));
        assert_eq!(beginning(b"C42501\0Mnon\0").message(), "non");
        assert_eq!(beginning(b"").code(), "");
        // Not UTF-8 at all: as it came.
        assert_eq!(beginning(b"Mcaf\xe9s").field(b'M'), Some(&b"caf\xe9s"[..]));
        // What is kept can be sent.
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
