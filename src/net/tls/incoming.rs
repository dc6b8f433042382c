//! The receiving side of the record layer.

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

/// The largest number of records without data between two with data. Each costs time and gives the session nothing.
/// BoringSSL and rustls have the same limit for empty records and for key updates.
pub(super) const IDLE_RECORDS_MAX: u8 = 32;

/// The longest message of the handshake protocol, in bytes, as in rustls. After the handshake, only session tickets have
/// more than one byte.
pub(super) const HANDSHAKE_MESSAGE_BYTES_MAX: usize = 64 * 1024;

/// The key schedule after the handshake.
pub(super) type Schedule = KernelConnection<ClientConnectionData>;

/// The direction from the server to the client.
///
/// A byte of data that the kernel has written into the receive buffer is decrypted in place, and then copied once, into
/// the buffer of the caller.
pub(super) struct Incoming {
    keys: Opener,
    buffer: Buffer,
    /// The record at the front of the buffer, if it is decrypted and not delivered completely.
    open: Option<Open>,
    /// The beginning of a message of the handshake protocol. The rest is in a later record.
    partial: Vec<u8>,
    idle_records: u8,
    /// The server has sent close_notify.
    closed: bool,
    /// The server has changed its keys and requested a key update of the client.
    key_update_requested: bool,
}

/// A record that is decrypted.
struct Open {
    /// The index of its next byte of data.
    at: usize,
    end: usize,
    /// The size of the whole record.
    record_bytes: usize,
}

impl Incoming {
    /// Continues with the bytes that were received after the handshake.
    pub(super) fn new(keys: Opener, buffer: Buffer) -> Self {
        Self {
            keys,
            buffer,
            open: None,
            partial: Vec::new(),
            idle_records: 0,
            closed: false,
            key_update_requested: false,
        }
    }

    /// Returns whether the server has sent close_notify.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Returns whether the server has requested a key update since the last call. Several requests count as one.
    pub(super) fn take_key_update(&mut self) -> bool {
        std::mem::take(&mut self.key_update_requested)
    }

    /// Returns whether a record is incomplete.
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

    /// Moves data from the received records into the spare capacity of `out`.
    ///
    /// The work of a call is limited by that capacity, and by [`IDLE_RECORDS_MAX`] between two records of data.
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
                // The only copy.
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
            // Version 1.3 encrypts the type of a record, and every record is encrypted.
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
            _ => Err(Fault::Unexpected("a record of an unknown type")),
        };
        self.closed = result?;
        self.buffer.advance(header.record_bytes);
        if self.closed {
            // Bytes after close_notify are ignored: RFC 8446 §6.1.
            self.buffer.clear();
        }
        self.take_handshake(schedule, tls13)?;
        Ok(true)
    }

    /// Handles messages of the handshake protocol, which may arrive in parts.
    fn take_handshake(&mut self, schedule: &mut Schedule, tls13: bool) -> Result<(), Fault> {
        let mut messages = self.partial.as_slice();
        while let Some((&[kind, a, b, c], rest)) = messages.split_first_chunk() {
            let length = u32::from_be_bytes([0, a, b, c]) as usize;
            if length > HANDSHAKE_MESSAGE_BYTES_MAX {
                return Err(Fault::Unexpected("a message of the handshake that is too long"));
            }
            let Some((message, rest)) = rest.split_at_checked(length) else { break };
            match (HandshakeType::from(kind), message) {
                // No session is resumed: connections are long-lived.
                (HandshakeType::NewSessionTicket, _) if tls13 => {}
                // The next record uses the new keys: no message may follow in this one.
                (HandshakeType::KeyUpdate, &[asks @ (0 | 1)]) if tls13 && rest.is_empty() => {
                    let secrets = schedule.update_rx_secret().map_err(Fault::Crypto)?;
                    let suite = schedule.negotiated_cipher_suite();
                    self.keys = Opener::new(suite, secrets).map_err(Fault::Crypto)?;
                    self.key_update_requested |= asks == 1;
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

/// Returns whether the alert is close_notify.
fn take_alert(data: &[u8], tls13: bool) -> Result<bool, Fault> {
    let &[level, description] = data else {
        return Err(Fault::Unexpected("a malformed alert"));
    };
    match AlertDescription::from(description) {
        AlertDescription::CloseNotify => Ok(true),
        // It announces close_notify.
        AlertDescription::UserCanceled => Ok(false),
        // A warning. Version 1.3 has none.
        _ if level == 1 && !tls13 => Ok(false),
        alert => Err(Fault::Alert(alert)),
    }
}
