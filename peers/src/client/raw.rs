//! Only the socket: the least cost of any client.

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::TcpStream;

use bytes::BytesMut;
use pgbell::proto::wire::{
    BackendMessage, Framer, FrontendMessage, ProtocolVersion, StartupPacket, StartupParameters,
};

use super::{Job, USER};
use crate::outcome::Outcome;
use crate::tally::Tally;

/// The highest number of bytes of one read.
pub(super) const READ_BYTES: usize = 256 * 1024;

/// Bytes of a cache line.
const LINE_BYTES: usize = 64;

/// The treatment of the bytes of a read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Touch {
    Nothing,
    /// One byte of each cache line is read: the kernel has written it, so the line has to move.
    EveryLine,
}

pub(super) fn run(job: &Job, kind: Touch) -> Outcome<()> {
    let mut stream = connect(job)?;
    let mut buffer = vec![0; READ_BYTES];
    listen(job, &mut stream, &mut buffer)?;
    let wanted = job.count * job.shape.size as u64;
    let mut tally = Tally::begin(job.count)?;
    let mut received = 0;
    while received < wanted {
        let n = stream.read(&mut buffer)?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        tally.arrived();
        if let Touch::EveryLine = kind {
            touch(&buffer[..n]);
        }
        received += n as u64;
    }
    tally.finish_raw(received, job.shape.size)
}

/// Reads a byte of every cache line.
pub(super) fn touch(bytes: &[u8]) {
    black_box(bytes.iter().step_by(LINE_BYTES).fold(0_u8, |a, b| a.wrapping_add(*b)));
}

pub(super) fn connect(job: &Job) -> Outcome<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", job.port))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Logs in and sends LISTEN. No bytes follow the last answer yet.
pub(super) fn listen(
    job: &Job,
    stream: &mut (impl Read + Write),
    buffer: &mut [u8],
) -> Outcome<()> {
    login(stream, buffer)?;
    let mut out = BytesMut::new();
    FrontendMessage::Query(&job.shape.listen_sql()).encode(&mut out)?;
    stream.write_all(&out)?;
    until_ready(stream, buffer)
}

fn login(stream: &mut (impl Read + Write), buffer: &mut [u8]) -> Outcome<()> {
    let mut out = BytesMut::new();
    let parameters = [("user", USER), ("database", USER)];
    let parameters = StartupParameters::from(&parameters[..]);
    StartupPacket::Startup { version: ProtocolVersion::V3_0, parameters }.encode(&mut out)?;
    stream.write_all(&out)?;
    until_ready(stream, buffer)
}

/// Reads up to ReadyForQuery. No bytes follow it yet.
fn until_ready(stream: &mut impl Read, buffer: &mut [u8]) -> Outcome<()> {
    let mut input = Vec::new();
    loop {
        let n = stream.read(buffer)?;
        if n == 0 {
            return Err("the server closed the connection".into());
        }
        input.extend_from_slice(&buffer[..n]);
        let mut rest = &input[..];
        while let Some(frame) = Framer::established().next(rest)? {
            rest = &rest[frame.wire_len()..];
            match BackendMessage::decode(frame)? {
                BackendMessage::ReadyForQuery { .. } if rest.is_empty() => return Ok(()),
                BackendMessage::ErrorResponse(error) => return Err(format!("{error:?}").into()),
                _ => {}
            }
        }
        let rest = rest.len();
        input.drain(..input.len() - rest);
    }
}
