//! A socket of a listener, as its task sees it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::BytesMut;

use super::sink::RingSink;
use crate::net::{self, Established, Pipe, Purpose};
use crate::notification::Stamp;
use crate::supervisor::{LinkEvent, LinkId};
use crate::{Config, Error};

/// A session being set up.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Established, Error>> + Send>>;

/// Connects and logs in. The supervisor bounds it in time.
pub(super) fn open(config: Config) -> Opening {
    Box::pin(net::establish(config, Purpose::Listen))
}

pub(super) struct Link {
    pub(super) id: LinkId,
    pipe: Pipe,
    /// What was read and not yet handled.
    pub(super) input: BytesMut,
    /// Of the last read.
    pub(super) stamp: Stamp,
    pub(super) reading: bool,
    /// Our direction is to be ended when everything is written.
    closing: bool,
    shut: bool,
}

impl Link {
    pub(super) fn new(id: LinkId, pipe: Pipe, input: BytesMut, epoch: u32) -> Self {
        let stamp = Stamp { received_at: SystemTime::UNIX_EPOCH, epoch };
        Self { id, pipe, input, stamp, reading: true, closing: false, shut: false }
    }

    /// From now on: write what is left, end our direction, read to the end.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.reading = true;
    }

    /// Writes what is left in `out`.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, out: &mut BytesMut) {
        if self.pipe.poll_write(cx, out).is_ready() && self.closing && !self.shut {
            self.shut = self.pipe.poll_shutdown(cx).is_ready();
        }
    }

    /// Reads once. How many bytes, or how it ended.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut RingSink,
    ) -> Poll<Result<usize, LinkEvent>> {
        if !self.reading {
            return Poll::Pending;
        }
        sink.prepare(&mut self.input);
        self.pipe.poll_read(cx, &mut self.input).map(|read| match read {
            Ok(0) => Err(LinkEvent::Eof),
            Ok(bytes) => {
                self.stamp.received_at = SystemTime::now();
                Ok(bytes)
            }
            Err(error) => Err(LinkEvent::Failed(error)),
        })
    }
}
