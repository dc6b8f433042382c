//! The replay server's end of a connection, in the clear or over TLS.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::BytesMut;
use rustls::{ServerConfig, ServerConnection};

use crate::outcome::Outcome;

/// The highest number of bytes of data in a record: PostgreSQL passes this number to OpenSSL at once.
const RECORD_DATA_BYTES: usize = 8 * 1024;

/// A connection. Clones share it.
#[derive(Clone)]
pub(crate) struct Stream {
    socket: Arc<TcpStream>,
    tls: Option<Arc<Mutex<ServerConnection>>>,
}

impl Stream {
    pub(crate) fn new(socket: TcpStream) -> Self {
        Self { socket: Arc::new(socket), tls: None }
    }

    /// Performs the server's half of the handshake.
    pub(crate) fn secure(&mut self, config: &Arc<ServerConfig>) -> Outcome<()> {
        let mut connection = ServerConnection::new(config.clone())?;
        connection.set_buffer_limit(None);
        while connection.is_handshaking() {
            connection.complete_io(&mut &*self.socket)?;
        }
        self.tls = Some(Arc::new(Mutex::new(connection)));
        Ok(())
    }

    fn connection(&self) -> Option<MutexGuard<'_, ServerConnection>> {
        self.tls.as_ref().map(|tls| tls.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits for more bytes. Returns `false` at the end of the stream.
    pub(crate) fn read(&self, input: &mut BytesMut) -> Outcome<bool> {
        let mut scratch = [0; 4_096];
        loop {
            // Data may have arrived together with the handshake.
            let before = input.len();
            if !self.take_data(input, &mut scratch)? {
                return Ok(false);
            }
            if input.len() > before {
                return Ok(true);
            }
            // The lock is not held while the read waits.
            let n = (&*self.socket).read(&mut scratch)?;
            let mut received = &scratch[..n];
            let Some(mut connection) = self.connection() else {
                input.extend_from_slice(received);
                return Ok(n > 0);
            };
            if n == 0 {
                return Ok(false);
            }
            while !received.is_empty() {
                connection.read_tls(&mut received)?;
                connection.process_new_packets()?;
            }
        }
    }

    /// Moves decrypted bytes to `input`. Returns `false` if the client has closed TLS.
    fn take_data(&self, input: &mut BytesMut, scratch: &mut [u8]) -> Outcome<bool> {
        let Some(mut connection) = self.connection() else { return Ok(true) };
        loop {
            match connection.reader().read(scratch) {
                Ok(0) => return Ok(false),
                Ok(n) => input.extend_from_slice(&scratch[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> Outcome<()> {
        let Some(mut connection) = self.connection() else {
            return Ok((&*self.socket).write_all(bytes)?);
        };
        connection.writer().write_all(bytes)?;
        while connection.wants_write() {
            connection.write_tls(&mut &*self.socket)?;
        }
        Ok(())
    }

    /// Encrypts writes in advance. `None` in the clear, where the writes are sent unchanged.
    ///
    /// No other write is possible until the result is dropped, because records are numbered.
    pub(crate) fn seal<'a>(
        &self,
        writes: impl Iterator<Item = &'a [u8]>,
    ) -> Outcome<Option<Sealed<'_>>> {
        let Some(mut connection) = self.connection() else { return Ok(None) };
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for write in writes {
            for data in write.chunks(RECORD_DATA_BYTES) {
                connection.writer().write_all(data)?;
                while connection.wants_write() {
                    connection.write_tls(&mut bytes)?;
                }
            }
            ends.push(bytes.len());
        }
        Ok(Some(Sealed { bytes, ends, _alone: connection }))
    }

    /// Writes these bytes unchanged.
    pub(crate) fn send(&self, bytes: &[u8]) -> io::Result<()> {
        (&*self.socket).write_all(bytes)
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("socket", &self.socket).finish_non_exhaustive()
    }
}

/// Encrypted writes.
pub(crate) struct Sealed<'a> {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    _alone: MutexGuard<'a, ServerConnection>,
}

impl Sealed<'_> {
    pub(crate) fn writes(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(&0).chain(&self.ends);
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[*begin..*end])
    }
}
