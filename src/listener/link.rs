//! A socket of a listener, as its task sees it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use bytes::BytesMut;

use crate::net::{self, Established, Pipe, Place, Purpose};
use crate::supervisor::{LinkEvent, LinkId};
use crate::{Config, Error};

/// A session being set up.
pub(super) type Opening = Pin<Box<dyn Future<Output = Result<Established, Error>> + Send>>;

/// Connects and logs in. When the time is up it ends by itself and says where it was spent.
pub(super) fn open(config: Config, timeout: Duration) -> Opening {
    Box::pin(net::establish_until(config, Purpose::Listen, net::now() + timeout))
}

pub(super) struct Link {
    pub(super) id: LinkId,
    pub(super) place: Place,
    pipe: Pipe,
    /// What was read and not yet handled, unless it is delivered: then it lies in the queue's buffer.
    pub(super) rest: BytesMut,
    /// Of the last read.
    pub(super) received_at: SystemTime,
    pub(super) reading: bool,
    /// Our direction is to be ended when everything is written.
    closing: bool,
    shut: bool,
}

impl Link {
    pub(super) fn new(id: LinkId, place: Place, pipe: Pipe, rest: BytesMut) -> Self {
        let received_at = SystemTime::UNIX_EPOCH;
        Self { id, place, pipe, rest, received_at, reading: true, closing: false, shut: false }
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

    /// Reads once, into `input`. How many bytes, or how it ended.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        input: &mut BytesMut,
    ) -> Poll<Result<usize, LinkEvent>> {
        self.pipe.poll_read(cx, input).map(|read| match read {
            Ok(0) => Err(LinkEvent::Eof),
            Ok(bytes) => {
                self.received_at = SystemTime::now();
                Ok(bytes)
            }
            Err(error) => Err(LinkEvent::Failed(error)),
        })
    }
}
