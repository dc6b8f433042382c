//! A server without authentication that confirms every command, and then sends notifications encoded in advance.
//!
//! It is a process of its own. It prints its port on standard output. When it reads `go COUNT` on standard input, it
//! sends that number of notifications to the client that connected last, and prints what it sent. With `pace COUNT` it sends
//! them at the pace of PostgreSQL, and their payloads are the times at which they were sent.

use std::io::{BufRead, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use clap::Args;
use pgbell::proto::wire::{
    Authentication, BackendKeyData, BackendMessage, FirstPacket, Framer, FrontendMessage,
    StartupPacket, TransactionStatus,
};
use pgbell::testing::Script;
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use crate::cores;
use crate::delays;
use crate::outcome::Outcome;
use crate::queries::FACTS_SQL;
use crate::shape::{Block, Shape};
use crate::stream::Stream;
use crate::tally::nanos;
use crate::tls;
use crate::usage::Usage;

/// The bytes that are encoded in advance: larger than the caches of a core, small enough to encode quickly.
const BLOCK_BYTES: usize = 4 * 1024 * 1024;

/// The size of a write of PostgreSQL.
pub(crate) const WRITE_BYTES: usize = 8 * 1024;

/// The process id, in the login as in [`Script::FACTS`]: if they differ, a client of pgbell takes the server for a pooler.
const PROCESS_ID: i32 = 7;

/// The configuration of the replay server.
#[derive(Debug, Clone, Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// The bytes of one write.
    #[arg(long, default_value_t = WRITE_BYTES)]
    pub(crate) write_bytes: usize,
    /// The pause after each write.
    #[arg(long, default_value_t = 0)]
    pub(crate) pause_micros: u64,
    /// Cores to run on, all by default.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// Its certificate. With it the server uses TLS.
    #[arg(long, requires = "key")]
    pub(crate) certificate: Option<PathBuf>,
    /// The key of the certificate.
    #[arg(long)]
    pub(crate) key: Option<PathBuf>,
}

/// The data that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sent {
    pub(crate) count: u64,
    /// The bytes of channels and payloads.
    pub(crate) bytes: u64,
    pub(crate) checksum: u64,
    /// From the first write to the end of the last. 0 if unknown.
    pub(crate) wall_ns: u64,
    /// The processor time of sending.
    pub(crate) cpu_ns: u64,
}

/// The number of the client that connected last, and its stream.
type Client = Arc<Mutex<(u64, Option<Stream>)>>;

pub(crate) fn serve(replay: &Replay) -> Outcome<()> {
    cores::pin(&replay.cores)?;
    let block = Block::new(replay.shape.checked()?, BLOCK_BYTES)?;
    let tls = match (&replay.certificate, &replay.key) {
        (Some(certificate), Some(key)) => Some(Arc::new(tls::server_config(certificate, key)?)),
        _ => None,
    };
    let listener = TcpListener::bind("127.0.0.1:0")?;
    print_line(&listener.local_addr()?.port())?;
    let client = Client::default();
    let clients = client.clone();
    thread::spawn(move || {
        for (number, stream) in (1..).zip(listener.incoming().flatten()) {
            let (client, tls) = (clients.clone(), tls.clone());
            // A client with an error reports it in its own process.
            thread::spawn(move || {
                // As PostgreSQL does.
                stream.set_nodelay(true)?;
                answer(number, Stream::new(stream), tls.as_ref(), &client)
            });
        }
    });
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let (command, count) = line.split_once(' ').ok_or("a command without a count")?;
        let count = count.parse()?;
        let client = client.lock().unwrap_or_else(PoisonError::into_inner).1.take();
        let client = client.ok_or("no client is connected")?;
        match command {
            "go" => print_line(&send(&client, &block, count, replay)?)?,
            "pace" => print_line(&delays::send(&client, count, replay.write_bytes)?)?,
            _ => return Err("the commands are go and pace".into()),
        }
    }
    Ok(())
}

fn print_line(line: &impl Serialize) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(line)?)?;
    Ok(out.flush()?)
}

fn send(client: &Stream, block: &Block, count: u64, replay: &Replay) -> Outcome<Sent> {
    let digest = block.digest(count);
    let writes = || block.slices(count).flat_map(|slice| slice.chunks(replay.write_bytes));
    let pause = Duration::from_micros(replay.pause_micros);
    // The bytes are encrypted in advance: only sending is measured.
    let sealed = client.seal(writes())?;
    let (begin, usage) = (Instant::now(), Usage::of_thread()?);
    match &sealed {
        Some(sealed) => sealed.writes().try_for_each(|write| client.send(write))?,
        None => writes().try_for_each(|write| {
            client.send(write)?;
            if !pause.is_zero() {
                thread::sleep(pause);
            }
            Ok::<(), std::io::Error>(())
        })?,
    }
    let (wall, used) = (begin.elapsed(), Usage::of_thread()?.since(&usage));
    Ok(Sent {
        count: digest.count,
        bytes: digest.bytes,
        checksum: digest.checksum(),
        wall_ns: nanos(wall),
        cpu_ns: nanos(used.total()),
    })
}

/// Answers one client until it disconnects.
fn answer(
    number: u64,
    mut stream: Stream,
    tls: Option<&Arc<ServerConfig>>,
    client: &Client,
) -> Outcome<()> {
    let mut input = BytesMut::new();
    let mut out = BytesMut::new();
    while let Some(packet) = read_first(&stream, &mut input)? {
        match (packet, tls) {
            (First::Startup, _) => break,
            (First::Tls, Some(config)) => {
                stream.write(b"S")?;
                stream.secure(config)?;
            }
            (First::Tls | First::Gss, _) => stream.write(b"N")?,
        }
    }
    greet(&mut out)?;
    stream.write(&out.split())?;
    loop {
        while let Some(frame) = Framer::frontend().next(&input)? {
            let taken = frame.wire_len();
            reply(&FrontendMessage::decode(frame)?, &mut out)?;
            input.advance(taken);
        }
        // Before the answer: a client that has it may be sent to. An older client may still send its Terminate.
        let mut last = client.lock().unwrap_or_else(PoisonError::into_inner);
        if last.0 <= number {
            *last = (number, Some(stream.clone()));
        }
        drop(last);
        stream.write(&out.split())?;
        if !stream.read(&mut input)? {
            return Ok(());
        }
    }
}

enum First {
    Tls,
    Gss,
    Startup,
}

fn read_first(stream: &Stream, input: &mut BytesMut) -> Outcome<Option<First>> {
    loop {
        if let Some(packet) = FirstPacket::next(input)? {
            let taken = packet.wire_len();
            let first = match StartupPacket::decode(packet)? {
                StartupPacket::Startup { .. } => First::Startup,
                StartupPacket::SslRequest => First::Tls,
                StartupPacket::GssEncRequest => First::Gss,
                _ => return Err("a cancel request".into()),
            };
            input.advance(taken);
            return Ok(Some(first));
        }
        if !stream.read(input)? {
            return Ok(None);
        }
    }
}

fn greet(out: &mut BytesMut) -> Outcome<()> {
    BackendMessage::Authentication(Authentication::Ok).encode(out)?;
    for (name, value) in [
        ("server_version", "15.0"),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("DateStyle", "ISO, MDY"),
        ("TimeZone", "UTC"),
        ("integer_datetimes", "on"),
        ("standard_conforming_strings", "on"),
    ] {
        let (name, value) = (name.as_bytes(), value.as_bytes());
        BackendMessage::ParameterStatus { name, value }.encode(out)?;
    }
    let key = BackendKeyData { process_id: PROCESS_ID, secret_key: b"0000" };
    BackendMessage::BackendKeyData(key).encode(out)?;
    BackendMessage::ReadyForQuery { status: TransactionStatus::Idle }.encode(out)?;
    Ok(())
}

/// Confirms every command, with no rows.
fn reply(message: &FrontendMessage<'_>, out: &mut BytesMut) -> Outcome<()> {
    let ready = BackendMessage::ReadyForQuery { status: TransactionStatus::Idle };
    match message {
        // The first query of a client of pgbell.
        FrontendMessage::Query(FACTS_SQL) => out.extend_from_slice(Script::FACTS),
        FrontendMessage::Query(sql) => {
            let statements = sql.split(';').map(str::trim).filter(|sql| !sql.is_empty());
            let mut none = true;
            for statement in statements {
                none = false;
                complete(statement, out)?;
            }
            if none {
                BackendMessage::EmptyQueryResponse.encode(out)?;
            }
            ready.encode(out)?;
        }
        FrontendMessage::Parse { .. } => BackendMessage::ParseComplete.encode(out)?,
        FrontendMessage::Bind { .. } => BackendMessage::BindComplete.encode(out)?,
        FrontendMessage::Describe { target, .. } => {
            if matches!(target, pgbell::proto::wire::Target::Statement) {
                BackendMessage::ParameterDescription { types: (&[][..]).into() }.encode(out)?;
            }
            BackendMessage::NoData.encode(out)?;
        }
        FrontendMessage::Execute { .. } => complete("LISTEN", out)?,
        FrontendMessage::Close { .. } => BackendMessage::CloseComplete.encode(out)?,
        FrontendMessage::Sync => ready.encode(out)?,
        _ => {}
    }
    Ok(())
}

fn complete(statement: &str, out: &mut BytesMut) -> Outcome<()> {
    let word = statement.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
    Ok(BackendMessage::CommandComplete { tag: word.as_bytes() }.encode(out)?)
}
