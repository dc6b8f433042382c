//! Temporary PostgreSQL clusters for tests and demos.
//!
//! A [`Cluster`] is a real PostgreSQL server on a free port of 127.0.0.1 with a data directory of its own. It
//! runs as an ordinary user even when root runs the tests, and it is removed when the value is dropped or when
//! its process ends in any way, by SIGKILL too. The interface blocks; no driver is used.
//!
//! ```no_run
//! use pgbell_testkit::{Auth, Cluster};
//!
//! let cluster = Cluster::builder()
//!     .auth(Auth::ScramSha256)
//!     .setting("max_connections", "50")
//!     .init_sql("CREATE ROLE bob LOGIN PASSWORD 'straße'")
//!     .start()?;
//! let url = cluster.url("bob", "straße", "postgres");
//! # let _ = url;
//! # Ok::<(), pgbell_testkit::Error>(())
//! ```
//!
//! [`Installation::find`] lists where the server's programs are searched for, and [`Installation::matrix`] returns
//! one server of each supported major version. If there is none, the error is one line that says how to install
//! one.
//!
//! There are also [`Certificates`] and [`Tls`], standbys ([`Cluster::standby`]), a pooler ([`PgBouncer`]), and a
//! proxy that disturbs the network ([`Proxy`]).
//!
//! A `Cluster` in a `static` is never dropped, but its server ends with the process too.

#[cfg(not(unix))]
compile_error!("pgbell-testkit runs PostgreSQL on Unix only: depend on it under cfg(unix)");

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod alone;
mod auth;
mod builder;
mod certificates;
mod cluster;
mod error;
mod files;
mod fingerprint;
mod guard;
mod installation;
mod log;
mod pgbouncer;
mod port;
mod proxy;
mod reach;
mod reload;
mod server;
mod session;
mod setting;
mod signal;
mod standby;
mod template;
mod tls;
mod url;
mod user;

pub use auth::Auth;
pub use builder::ClusterBuilder;
pub use certificates::{
    Authority, Ca, Certificate, Certificates, Key, Leaf, RevocationList, Signature,
};
pub use cluster::Cluster;
pub use error::{Error, NotFound};
pub use installation::{Installation, MAJORS};
pub use pgbouncer::{PgBouncer, PgBouncerBuilder, PoolMode};
pub use proxy::{Cut, Direction, Flow, Proxy, ProxyHandle};
pub use signal::{Mode, Signal};
pub use tls::{Tls, TlsVersion};
