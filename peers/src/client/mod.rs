//! The clients: each runs in a process of its own and measures itself.

mod blocking;
pub(crate) mod decode;
mod libpq;
mod pgbell;
mod raw;
mod raw_tls;
mod sqlx;
mod tokio_postgres;

use std::path::PathBuf;

use clap::Args;

pub(crate) use self::libpq::version as libpq_version;
use crate::contestant::Contestant;
use crate::cores;
use crate::delays::Delays;
use crate::latency::Latency;
use crate::outcome::Outcome;
use crate::shape::Shape;
use crate::sleeper::Slept;

/// User and database of both kinds of server.
pub(crate) const USER: &str = "postgres";

/// The channel of ping-pong.
pub(crate) const PING: &str = "ping";

/// The job of a client.
#[derive(Debug, Clone, Args)]
pub(crate) struct Job {
    /// TCP port of the server on 127.0.0.1.
    #[arg(long, default_value_t = 0)]
    pub(crate) port: u16,
    /// Notifications to receive, or pings to send.
    #[arg(long)]
    pub(crate) count: u64,
    #[command(flatten)]
    pub(crate) shape: Shape,
    /// Cores to run on, all by default.
    #[arg(long, value_delimiter = ',')]
    pub(crate) cores: Vec<usize>,
    /// The root certificate for the server's certificate: with it the client uses TLS.
    #[arg(long)]
    pub(crate) root: Option<PathBuf>,
}

impl Job {
    /// Returns `key=value` parameters for libpq and pgbell, and in the clear for tokio-postgres.
    pub(crate) fn conninfo(&self) -> String {
        let tls = match &self.root {
            None => "sslmode=disable".to_owned(),
            Some(root) => format!("sslmode=verify-ca sslrootcert='{}'", root.display()),
        };
        format!("host=127.0.0.1 port={} user={USER} dbname={USER} {tls}", self.port)
    }
}

/// Whether pgbell delays reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadDelay {
    Default,
    None,
}

/// Receives the notifications of the job, and measures it.
pub(crate) fn run(contestant: Contestant, job: &Job) -> Outcome<()> {
    cores::pin(&job.cores)?;
    match contestant {
        Contestant::RawTouch if job.root.is_some() => raw_tls::in_place(job),
        Contestant::RawRustls => raw_tls::rustls(job),
        Contestant::Raw => raw::run(job, raw::Touch::Nothing),
        Contestant::RawTouch => raw::run(job, raw::Touch::EveryLine),
        Contestant::PgbellInline => pgbell::inline(job, ReadDelay::Default),
        Contestant::PgbellInlineUndelayed => pgbell::inline(job, ReadDelay::None),
        Contestant::PgbellListener1t => pgbell::listener(job, 1, ReadDelay::Default),
        Contestant::PgbellListener1tUndelayed => pgbell::listener(job, 1, ReadDelay::None),
        Contestant::PgbellListener2t => pgbell::listener(job, 2, ReadDelay::Default),
        Contestant::PgbellRecv => pgbell::recv(job),
        Contestant::PgbellRecvBefore => Err("only an older build runs this".into()),
        Contestant::PgbellBlocking => blocking::run(job),
        Contestant::PgbellBlockingRecv => blocking::recv(job),
        Contestant::Libpq => libpq::run(job),
        Contestant::TokioPostgres if job.root.is_some() => tokio_postgres::polled_tls(job),
        Contestant::TokioPostgres => tokio_postgres::polled(job),
        Contestant::TokioPostgresChan => tokio_postgres::channelled(job),
        Contestant::Sqlx => sqlx::run(job),
        Contestant::DecodePgbell => decode::pgbell(job, decode::Reading::Sum),
        Contestant::DecodePgbellViews => decode::pgbell(job, decode::Reading::Views),
        Contestant::DecodePostgresProtocol => decode::postgres_protocol(job, decode::Reading::Sum),
        Contestant::DecodePostgresProtocolViews => {
            decode::postgres_protocol(job, decode::Reading::Views)
        }
    }
}

/// Sends `job.count` notifications, each when the previous one has arrived, and measures each.
pub(crate) fn ping_pong(contestant: Contestant, job: &Job) -> Outcome<Latency> {
    cores::pin(&job.cores)?;
    match contestant {
        Contestant::PgbellInline => pgbell::inline_ping_pong(job),
        Contestant::PgbellListener1t => pgbell::listener_ping_pong(job, 1),
        Contestant::PgbellListener2t => pgbell::listener_ping_pong(job, 2),
        Contestant::PgbellBlocking => blocking::ping_pong(job),
        Contestant::Libpq => libpq::ping_pong(job),
        Contestant::TokioPostgres => tokio_postgres::ping_pong(job),
        other => Err(format!("{} plays no ping-pong", other.name()).into()),
    }
}

/// Measures the delay of each notification of a paced sender.
pub(crate) fn delays(contestant: Contestant, job: &Job) -> Outcome<Delays> {
    cores::pin(&job.cores)?;
    match contestant {
        Contestant::PgbellInline => pgbell::inline_delays(job, ReadDelay::Default),
        Contestant::PgbellInlineUndelayed => pgbell::inline_delays(job, ReadDelay::None),
        Contestant::PgbellListener1t => pgbell::listener_delays(job, ReadDelay::Default),
        Contestant::PgbellListener1tUndelayed => pgbell::listener_delays(job, ReadDelay::None),
        other => Err(format!("{} measures no delays", other.name()).into()),
    }
}

/// Sleeps until everything has arrived, then drains.
pub(crate) fn sleep(job: &Job) -> Outcome<Slept> {
    cores::pin(&job.cores)?;
    pgbell::sleeper(job)
}

/// Runs a client on one thread, or as a task of a runtime with `threads` workers.
fn block_on<T: Send + 'static>(
    threads: usize,
    client: impl Future<Output = Outcome<T>> + Send + 'static,
) -> Outcome<T> {
    if threads == 1 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        return runtime.block_on(client);
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(threads).enable_all().build()?;
    // A task, as in a service: the thread that waits here does no work.
    runtime.block_on(runtime.spawn(client))?
}
