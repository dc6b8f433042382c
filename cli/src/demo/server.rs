//! The demo's server: a temporary PostgreSQL, the crate's own backend, or the user's server.

use std::fs::File;
use std::io::Read;

use pgbell::Config;
use pgbell::testing;
use pgbell_testkit::{Auth, Cluster};

use crate::args::{Demo, DemoServer};
use crate::connect;
use crate::console;
use crate::exit::{Exit, Failure};

/// The role that listens and sends. It has only the rights that every role has.
const USER: &str = "demo";

/// The number of random bytes of a temporary password.
const PASSWORD_BYTES: usize = 16;

// No `Debug`, because of the passwords.
pub(crate) enum Server {
    Throwaway { cluster: Cluster, password: String },
    Loopback { server: testing::Server, password: String },
    Given { config: Config, place: String },
}

impl Server {
    pub(crate) async fn start(args: &Demo) -> Result<Self, Failure> {
        if let Some(url) = args.target.as_deref().or(args.url.as_deref()) {
            let config = connect::config(Some(url))?;
            let place = connect::place(&config);
            return Ok(Self::Given { config, place });
        }
        if args.server == DemoServer::Loopback {
            return Self::loopback().await;
        }
        let why = match Self::throwaway().await? {
            Ok(server) => return Ok(server),
            Err(why) => why,
        };
        if args.server == DemoServer::Postgres {
            let mut lines = why.lines().map(str::to_owned);
            let failure = Failure::new(Exit::Connect, lines.next().unwrap_or_default());
            // The end of the server's log, if there is one.
            lines.for_each(|line| console::line(&line));
            return Err(failure);
        }
        why.lines().for_each(|line| console::line(&format!("pgbell: {line}")));
        console::line("pgbell: the loopback backend takes its place");
        Self::loopback().await
    }

    /// Starts a temporary PostgreSQL. The inner error says why there is none.
    async fn throwaway() -> Result<Result<Self, String>, Failure> {
        // Without a password every user of the machine could log in. The superuser's password is random too, and not used.
        let password = password()?;
        let sql = format!("CREATE ROLE {USER} LOGIN PASSWORD '{password}'");
        let builder = Cluster::builder().auth(Auth::ScramSha256).init_sql(sql);
        let started = tokio::task::spawn_blocking(|| builder.start()).await;
        let started = started.map_err(|error| Failure::new(Exit::Runtime, error.to_string()))?;
        let started = started.map_err(|error| format!("{error:#}"));
        Ok(started.map(|cluster| Self::Throwaway { cluster, password }))
    }

    async fn loopback() -> Result<Self, Failure> {
        let password = password()?;
        let config = testing::BackendConfig::new()
            .auth(testing::Auth::ScramSha256)
            .user(USER, password.as_str());
        let server = testing::Server::start(config).await.map_err(|error| {
            Failure::new(Exit::Runtime, format!("cannot start the loopback backend: {error}"))
        })?;
        Ok(Self::Loopback { server, password })
    }

    pub(crate) fn config(&self) -> Result<Config, Failure> {
        match self {
            Self::Throwaway { cluster, password } => {
                Self::parse(&cluster.url(USER, password.as_str(), "postgres"))
            }
            Self::Loopback { server, password } => {
                Ok(Self::parse(&server.url())?.password(password.as_str()))
            }
            Self::Given { config, .. } => Ok(config.clone()),
        }
    }

    /// Parses the URL of a server that was started here.
    fn parse(url: &str) -> Result<Config, Failure> {
        let failed =
            |error: pgbell::config::ConfigError| Failure::new(Exit::Runtime, error.to_string());
        // PGHOSTADDR and similar variables are for the user's servers. A parameter that is set here is not read from them.
        let settings = [
            ("hostaddr", "127.0.0.1"),
            ("sslmode", "disable"),
            ("options", ""),
            ("target_session_attrs", "any"),
        ];
        settings
            .iter()
            .try_fold(url.parse::<Config>().map_err(failed)?, |config, (key, value)| {
                config.set(key, value)
            })
            .map_err(failed)
    }

    /// Returns the name of the server: `PostgreSQL 15.18`, or `loopback`.
    pub(crate) fn name(&self, version: Option<&str>) -> String {
        if let Self::Loopback { .. } = self {
            return "loopback".to_owned();
        }
        let number = version.and_then(|version| version.split(' ').next());
        format!("PostgreSQL {}", number.unwrap_or("of unknown version"))
    }

    /// Returns a text that says where the server comes from.
    pub(crate) fn origin(&self) -> String {
        match self {
            Self::Throwaway { cluster, .. } => format!(
                "a temporary one of {} on 127.0.0.1:{}",
                cluster.installation().bin().display(),
                cluster.port()
            ),
            Self::Loopback { server, .. } => {
                format!("this program's own backend on {}, not PostgreSQL", server.address())
            }
            Self::Given { place, .. } => format!("yours on {place}"),
        }
    }

    /// Returns whether the server has tables, so that the writer can count in the database.
    pub(crate) fn has_tables(&self) -> bool {
        !matches!(self, Self::Loopback { .. })
    }

    /// Returns the number of notifications that the loopback backend committed on a channel.
    pub(crate) fn committed(&self, channel: &str) -> Option<u64> {
        match self {
            Self::Loopback { server, .. } => Some(server.count(channel).committed),
            Self::Throwaway { .. } | Self::Given { .. } => None,
        }
    }

    /// Stops the server. Its files are removed when this returns.
    pub(crate) async fn stop(self) {
        match self {
            Self::Throwaway { cluster, .. } => {
                // Blocks until the server is gone.
                let _ = tokio::task::spawn_blocking(move || drop(cluster)).await;
            }
            Self::Loopback { server, .. } => server.stop().await,
            Self::Given { .. } => {}
        }
    }
}

/// Returns a random password.
fn password() -> Result<String, Failure> {
    let mut bytes = [0; PASSWORD_BYTES];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).map_err(
        |error| Failure::new(Exit::Runtime, format!("cannot read /dev/urandom: {error}")),
    )?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
