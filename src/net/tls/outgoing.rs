//! The sending side of the record layer.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use rustls::{AlertDescription, ContentType, ProtocolVersion};
use tokio::io::AsyncWrite;

use super::fault::Fault;
use super::incoming::Schedule;
use super::keys::Sealer;

/// The size of queued records above which no more data is accepted: four records.
pub(super) const QUEUE_BYTES_MAX: usize = 64 * 1024;

/// The number of records that are given to the socket at once.
const SLICES: usize = 8;

/// `KeyUpdate` that does not request one of the server.
const KEY_UPDATE: [u8; 5] = [24, 0, 0, 1, 0];

/// The direction from the client to the server.
///
/// A byte of data is copied once, into a record, which is encrypted in place and given to the kernel.
pub(super) struct Outgoing {
    keys: Sealer,
    /// Records to send, each in the allocation in which it was encrypted.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    /// The number of bytes of the first record that are sent.
    sent: usize,
    /// The largest data of a record, in bytes.
    fragment: usize,
    /// A fault that occurred after data was accepted. The next call returns it.
    fault: Option<Fault>,
    /// An alert was queued: nothing may follow.
    is_closed: bool,
}

impl Outgoing {
    pub(super) fn new(keys: Sealer, fragment: usize) -> Self {
        Self {
            keys,
            queue: VecDeque::new(),
            queued_bytes: 0,
            sent: 0,
            fragment: fragment.max(1),
            fault: None,
            is_closed: false,
        }
    }

    /// Returns whether an alert was queued, after which nothing may follow.
    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Returns whether there is room for data.
    pub(super) fn has_room(&self) -> bool {
        self.queued_bytes < QUEUE_BYTES_MAX
    }

    /// Encrypts as much of `data` as fits, and returns the number of bytes.
    ///
    /// # Errors
    /// Nothing of `data` was encrypted. If a fault occurs after a part of it was encrypted, the next call returns the fault:
    /// that part may reach the server.
    pub(super) fn push(&mut self, schedule: &mut Schedule, data: &[u8]) -> Result<usize, Fault> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        let mut taken = 0;
        for part in data.chunks(self.fragment) {
            if !self.has_room() {
                break;
            }
            match self.push_part(schedule, part) {
                Ok(()) => taken += part.len(),
                Err(fault) if taken == 0 => return Err(fault),
                Err(fault) => {
                    self.fault = Some(fault);
                    break;
                }
            }
        }
        Ok(taken)
    }

    fn push_part(&mut self, schedule: &mut Schedule, part: &[u8]) -> Result<(), Fault> {
        if self.keys.is_exhausted() {
            if schedule.protocol_version() != ProtocolVersion::TLSv1_3 {
                return Err(Fault::KeysExhausted);
            }
            self.push_key_update(schedule)?;
        }
        let record = self.keys.seal(ContentType::ApplicationData, part)?;
        self.push_record(record);
        Ok(())
    }

    /// Sends a key update with the old keys, and changes to new ones.
    pub(super) fn push_key_update(&mut self, schedule: &mut Schedule) -> Result<(), Fault> {
        let record = self.keys.seal(ContentType::Handshake, &KEY_UPDATE)?;
        self.push_record(record);
        let secrets = schedule.update_tx_secret().map_err(Fault::Crypto)?;
        let suite = schedule.negotiated_cipher_suite();
        self.keys = Sealer::new(suite, secrets).map_err(Fault::Crypto)?;
        Ok(())
    }

    /// Queues close_notify, once.
    pub(super) fn push_close_notify(&mut self) {
        if !self.is_closed {
            self.push_alert(AlertDescription::CloseNotify);
        }
    }

    /// Queues an alert, the last record.
    pub(super) fn push_alert(&mut self, alert: AlertDescription) {
        self.is_closed = true;
        // If it cannot be encrypted, the connection ends without one.
        if let Ok(record) = self.keys.seal_alert(alert) {
            self.push_record(record);
        }
    }

    fn push_record(&mut self, record: Vec<u8>) {
        self.queued_bytes = self.queued_bytes.saturating_add(record.len());
        self.queue.push_back(record);
    }

    /// Writes until the socket has accepted all records.
    pub(super) fn poll_send<S: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        io: &mut S,
    ) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            for (at, (slice, record)) in slices.iter_mut().zip(&self.queue).enumerate() {
                let sent = if at == 0 { self.sent } else { 0 };
                *slice = IoSlice::new(record.get(sent..).unwrap_or_default());
            }
            let slices = slices.get(..self.queue.len()).unwrap_or(&slices);
            match ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.advance(written),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.sent = self.sent.saturating_add(written);
        while let Some(first) = self.queue.front() {
            if self.sent < first.len() {
                return;
            }
            self.sent -= first.len();
            self.queued_bytes = self.queued_bytes.saturating_sub(first.len());
            self.queue.pop_front();
        }
    }

    #[cfg(test)]
    pub(super) fn keys_mut(&mut self) -> &mut Sealer {
        &mut self.keys
    }
}
