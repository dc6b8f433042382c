//! The contestants.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::shape::Shape;
use crate::source::Origin;

/// A client, or a decoder.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Contestant {
    /// Reads into a buffer of 256 KiB, and does nothing else.
    Raw,
    /// The same, and reads a byte of every cache line: the least that a client has to do.
    RawTouch,
    /// Only over TLS: a blocking loop through rustls that reads a byte of every cache line. Over TLS
    /// `raw-touch` decrypts in place, which rustls does not.
    RawRustls,
    /// `pgbell::Connection::recv_batch`
    PgbellInline,
    /// `pgbell::Listener::recv_batch`, reader and consumer on one thread.
    #[value(name = "pgbell-listener-1t")]
    #[serde(rename = "pgbell-listener-1t")]
    PgbellListener1t,
    /// `pgbell::Listener::recv_batch`, on two threads.
    #[value(name = "pgbell-listener-2t")]
    #[serde(rename = "pgbell-listener-2t")]
    PgbellListener2t,
    /// `pgbell::Listener::recv`: one owned notification per call, on one thread.
    PgbellRecv,
    /// `pgbell-inline` without delayed reads.
    PgbellInlineUndelayed,
    /// `pgbell-listener-1t` without delayed reads.
    #[value(name = "pgbell-listener-1t-undelayed")]
    #[serde(rename = "pgbell-listener-1t-undelayed")]
    PgbellListener1tUndelayed,
    /// `pgbell-recv` of the older build that `--before` names.
    PgbellRecvBefore,
    /// `pgbell::blocking::Listener::recv_batch`: a thread without async, and the background thread.
    PgbellBlocking,
    /// `pgbell::blocking::Listener::recv`
    PgbellBlockingRecv,
    /// libpq: poll, `PQconsumeInput`, `PQnotifies`, `PQfreemem`.
    Libpq,
    /// tokio-postgres: `Connection::poll_message`.
    TokioPostgres,
    /// tokio-postgres behind an unbounded channel, on two threads.
    TokioPostgresChan,
    /// `sqlx::postgres::PgListener::recv`
    Sqlx,
    /// Decoding in memory: `wire::scan`, then `wire::frames`.
    DecodePgbell,
    /// The same without reading channels and payloads.
    DecodePgbellViews,
    /// Decoding in memory: `Message::parse` of postgres-protocol.
    DecodePostgresProtocol,
    /// The same without reading channels and payloads.
    DecodePostgresProtocolViews,
}

impl Contestant {
    /// The contestants that read a socket.
    pub(crate) const CLIENTS: [Self; 10] = [
        Self::Raw,
        Self::RawTouch,
        Self::PgbellInline,
        Self::PgbellListener1t,
        Self::PgbellListener2t,
        Self::PgbellRecv,
        Self::Libpq,
        Self::TokioPostgres,
        Self::TokioPostgresChan,
        Self::Sqlx,
    ];

    /// The contestants that support TLS.
    const TLS: [Self; 9] = [
        Self::RawTouch,
        Self::RawRustls,
        Self::PgbellInline,
        Self::PgbellListener1t,
        Self::PgbellListener2t,
        Self::PgbellRecv,
        Self::Libpq,
        Self::TokioPostgres,
        Self::Sqlx,
    ];

    /// The contestants that show what delayed reads save.
    pub(crate) const MODERATION: [Self; 8] = [
        Self::PgbellInline,
        Self::PgbellInlineUndelayed,
        Self::PgbellListener1t,
        Self::PgbellListener1tUndelayed,
        Self::PgbellRecv,
        Self::PgbellRecvBefore,
        Self::Libpq,
        Self::Sqlx,
    ];

    /// The contestants that show what threads without async cost.
    pub(crate) const BLOCKING: [Self; 5] = [
        Self::Libpq,
        Self::PgbellListener1t,
        Self::PgbellBlocking,
        Self::PgbellRecv,
        Self::PgbellBlockingRecv,
    ];

    /// The contestants that read memory.
    const DECODERS: [Self; 4] = [
        Self::DecodePgbell,
        Self::DecodePgbellViews,
        Self::DecodePostgresProtocol,
        Self::DecodePostgresProtocolViews,
    ];

    /// The contestants that play ping-pong.
    pub(crate) const PLAYERS: [Self; 5] = [
        Self::Libpq,
        Self::PgbellInline,
        Self::PgbellListener1t,
        Self::PgbellListener2t,
        Self::TokioPostgres,
    ];

    /// Returns the contestants that can receive from this origin.
    pub(crate) fn of(origin: Origin) -> Vec<Self> {
        match origin {
            Origin::Replay | Origin::Postgres => Self::CLIENTS.to_vec(),
            Origin::Tls => Self::TLS.to_vec(),
            Origin::Memory => Self::DECODERS.to_vec(),
        }
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Returns the number of threads that are busy at the same time.
    pub(crate) fn threads(self) -> usize {
        match self {
            Self::PgbellListener2t
            | Self::PgbellBlocking
            | Self::PgbellBlockingRecv
            | Self::TokioPostgresChan => 2,
            _ => 1,
        }
    }

    /// Returns the number of notifications of one sample: it takes a large part of a second at the contestant's rate.
    pub(crate) fn count(self, shape: Shape) -> u64 {
        let (most, most_bytes): (u64, u64) = match self {
            Self::Raw
            | Self::RawTouch
            | Self::RawRustls
            | Self::PgbellInline
            | Self::PgbellInlineUndelayed
            | Self::PgbellListener1t
            | Self::PgbellListener1tUndelayed
            | Self::PgbellListener2t
            | Self::PgbellBlocking
            | Self::DecodePgbell
            | Self::DecodePgbellViews => (20_000_000, 1 << 30),
            Self::PgbellRecv | Self::PgbellRecvBefore | Self::PgbellBlockingRecv => {
                (10_000_000, 1 << 30)
            }
            Self::Libpq
            | Self::Sqlx
            | Self::TokioPostgres
            | Self::DecodePostgresProtocol
            | Self::DecodePostgresProtocolViews => (4_000_000, 1 << 29),
            Self::TokioPostgresChan => (1_000_000, 1 << 28),
        };
        most.min(most_bytes / shape.size as u64)
    }
}

impl fmt::Display for Contestant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}
