//! From the server's records to its data.

use std::io;
use std::task::{Context, Poll};

use bytes::BytesMut;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::{AlertDescription, ContentType, HandshakeType, ProtocolVersion};
use tokio::io::AsyncRead;

use super::buffer::Buffer;
use super::fault::Fault;
use super::keys::Opener;
use super::record::{Header, PLAINTEXT_BYTES_MAX};

/// Most records without data between two with data. Each is work for us and nothing for the session. BoringSSL
/// and rustls have the same number for empty records and for updates of keys.
pub(super) const IDLE_RECORDS_MAX: u8 = 32;

/// Most bytes of one message of the handshake protocol, as in rustls. Here only session tickets have more than
/// one.
pub(super) const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// What keeps the schedule of keys after the handshake.
pub(super) type Schedule = KernelConnection<ClientConnectionData>;

/// The direction from the server to us.
///
/// What a byte of data costs after the kernel wrote it into the receive buffer: it is decrypted where it
/// stands, and then copied once, to where the caller wants it.
pub(super) struct Incoming {
    keys: Opener,
    buffer: Buffer,
    /// Data of the record at the front of the buffer that is decrypted and not delivered.
    open: Option<Open>,
    /// A message of the handshake protocol of which the rest is in a record to come.
    partial: Vec<u8>,
    idle_records: u8,
    /// The server has said goodbye.
    closed: bool,
    /// It has new keys from us on, and wants us to take new ones too.
    key_update_due: bool,
}

/// A record that is decrypted.
struct Open {
    /// Where its next byte of data stands.
    at: usize,
    end: usize,
    /// Bytes of the whole record.
    record_bytes: usize,
}

impl Incoming {
    /// Goes on with what was received behind the handshake.
    pub(super) fn new(keys: Opener, buffer: Buffer) -> Self {
        Self {
            keys,
            buffer,
            open: None,
            partial: Vec::new(),
            idle_records: 0,
            closed: false,
            key_update_due: false,
        }
    }

    /// Whether the server has said that nothing more comes.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the server waits for new keys of ours. Asked once, it is answered once, however often the
    /// server had asked meanwhile.
    pub(super) fn take_key_update(&mut self) -> bool {
        std::mem::take(&mut self.key_update_due)
    }

    /// Whether a record has begun that is not all there.
    pub(super) fn is_within_record(&self) -> bool {
        !self.buffer.received().is_empty()
    }

    /// Reads from the socket once. Ready with 0 at the end of the stream.
    pub(super) fn poll_read<S: AsyncRead + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
    ) -> Poll<io::Result<usize>> {
        self.buffer.poll_read(cx, io)
    }

    /// Moves data from the records that are there to `out`, into its spare capacity and not beyond it.
    ///
    /// Each call does at most as much as that capacity, and [`IDLE_RECORDS_MAX`] between two records of data,
    /// allow.
    pub(super) fn deliver(
        &mut self,
        schedule: &mut Schedule,
        out: &mut BytesMut,
    ) -> Result<(), Fault> {
        if out.capacity() == out.len() {
            out.reserve(PLAINTEXT_BYTES_MAX);
        }
        loop {
            if let Some(open) = &mut self.open {
                let data = self.buffer.received().get(open.at..open.end).unwrap_or_default();
                let fits = data.len().min(out.capacity() - out.len());
                let (now, later) = data.split_at_checked(fits).unwrap_or_default();
                // The one copy.
                out.extend_from_slice(now);
                open.at += fits;
                if !later.is_empty() {
                    return Ok(());
                }
                self.buffer.advance(open.record_bytes);
                self.open = None;
            }
            if self.closed || out.capacity() == out.len() {
                return Ok(());
            }
            if !self.open_record(schedule)? {
                return Ok(());
            }
        }
    }

    /// Decrypts the record at the front. Returns whether there was one.
    fn open_record(&mut self, schedule: &mut Schedule) -> Result<bool, Fault> {
        let Some(header) = Header::whole(self.buffer.received())? else { return Ok(false) };
        let tls13 = schedule.protocol_version() == ProtocolVersion::TLSv1_3;
        match header.content {
            ContentType::ApplicationData => {}
            // Version 1.3 hides what a record is, and does not speak in clear any more.
            ContentType::Alert | ContentType::Handshake if !tls13 => {}
            _ => return Err(Fault::Unexpected("a record in clear")),
        }
        let received = self.buffer.received_mut();
        let record = received.get_mut(..header.record_bytes).unwrap_or_default();
        let (content, at, data) = self.keys.open(header, record)?;
        if content != ContentType::Handshake && !self.partial.is_empty() {
            return Err(Fault::Unexpected("a record within a message of the handshake"));
        }
        if content == ContentType::ApplicationData && !data.is_empty() {
            let open = Open { at, end: at + data.len(), record_bytes: header.record_bytes };
            self.open = Some(open);
            self.idle_records = 0;
            return Ok(true);
        }
        if self.idle_records == IDLE_RECORDS_MAX {
            return Err(Fault::Unexpected("one more record without data"));
        }
        self.idle_records += 1;
        let result = match content {
            ContentType::ApplicationData => Ok(false),
            ContentType::Alert => take_alert(data, tls13),
            ContentType::Handshake if !data.is_empty() => {
                self.partial.extend_from_slice(data);
                Ok(false)
            }
            _ => Err(Fault::Unexpected("a record of no known kind")),
        };
        self.closed = result?;
        self.buffer.advance(header.record_bytes);
        if self.closed {
            // Nothing behind a goodbye counts: RFC 8446 §6.1.
            self.buffer.clear();
        }
        self.take_handshake(schedule, tls13)?;
        Ok(true)
    }

    /// Acts on messages of the handshake protocol, which may come in parts.
    fn take_handshake(&mut self, schedule: &mut Schedule, tls13: bool) -> Result<(), Fault> {
        let mut messages = self.partial.as_slice();
        while let Some((&[kind, a, b, c], rest)) = messages.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > HANDSHAKE_MESSAGE_BYTES_MAX {
                return Err(Fault::Unexpected("a message of the handshake that is too long"));
            }
            let Some((message, rest)) = rest.split_at_checked(length) else { break };
            match (HandshakeType::from(kind), message) {
                // Nothing is resumed: a listener connects once and stays.
                (HandshakeType::NewSessionTicket, _) if tls13 => {}
                // What follows is under the new keys: nothing may stand behind it in its record.
                (HandshakeType::KeyUpdate, &[asks @ (0 | 1)]) if tls13 && rest.is_empty() => {
                    let secrets = schedule.update_rx_secret().map_err(Fault::Crypto)?;
                    let suite = schedule.negotiated_cipher_suite();
                    self.keys = Opener::new(suite, secrets).map_err(Fault::Crypto)?;
                    self.key_update_due |= asks == 1;
                }
                // May be ignored: RFC 5246 §7.4.1.1. PostgreSQL never asks for it.
                (HandshakeType::HelloRequest, []) if !tls13 => {}
                _ => return Err(Fault::Unexpected("a message of the handshake")),
            }
            messages = rest;
        }
        let taken = self.partial.len() - messages.len();
        self.partial.drain(..taken);
        Ok(())
    }
}

/// Whether the server says goodbye.
fn take_alert(data: &[u8], tls13: bool) -> Result<bool, Fault> {
    let &[level, description] = data else {
        return Err(Fault::Unexpected("a malformed alert"));
    };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(true),
        // Announces a goodbye.
        AlertDescription::UserCanceled => Ok(false),
        // A warning, which version 1.3 has no more.
        _ if level == 1 && !tls13 => Ok(false),
        alert => Err(Fault::Alert(alert)),
    }
}
