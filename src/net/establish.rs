//! The attempt to connect: from a configuration to a session that is ready on a server of the requested kind.

use std::time::Instant;

use tokio::time::timeout_at;

use super::dial::Address;
use super::encrypt::{Encryptor, Wrapped};
use super::environment::has_service;
use super::{Driver, Pipe, login, now, password, random, resolve};
use crate::config::Config;
use crate::config::{Host, LoadBalanceHosts, Server, TargetSessionAttrs};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::Channel;
use crate::proto::route::{self, Encryption, Failure, NextAttempt, PseudoRandom, Reached};
use crate::proto::session::{FACTS_SQL, FACTS_WITHOUT_PORT_SQL, Rows, Session, SessionFacts};

/// The purpose of a session, and thereby the requirements on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionPurpose {
    /// A listener. The server must accept LISTEN, and must not end the session when it is idle.
    Listen,
    /// A connection, which may listen. It has no requirements.
    Connect,
    /// The second connection of a listener, for its hook. The server must accept LISTEN.
    Read,
    /// A notifier. The server must not end the session when it is idle.
    Notify,
    /// The nudges of a notifier. As a notifier, and the server must accept NOTIFY.
    Nudge,
    /// The cursor of a log. The server must be the primary.
    #[cfg(feature = "durable")]
    Cursor,
    /// A single NOTIFY. The facts about the server are not queried.
    Send,
}

/// A session that is ready.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) driver: Driver,
    /// The complete configuration.
    pub(crate) config: Config,
    pub(crate) location: ServerLocation,
    /// The encryption of the connection: that of a CancelRequest must be the same.
    pub(super) encryption: Encryption,
    /// There may be a pooler or a proxy in between: a delivery proof is needed.
    pub(crate) is_pooled: bool,
}

/// The server of a session: its name, and the address that was used.
#[derive(Debug, Clone)]
pub(crate) struct ServerLocation {
    server: Server,
    address: Address,
}

impl ServerLocation {
    pub(super) fn server(&self) -> &Server {
        &self.server
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }
}

#[cfg(test)]
impl ServerLocation {
    pub(super) fn tcp(server: Server, address: std::net::SocketAddr) -> Self {
        Self { server, address: Address::Tcp(address) }
    }
}

/// Connects and logs in, within the configured time.
pub(crate) async fn establish(
    config: Config,
    purpose: SessionPurpose,
) -> Result<Established, Error> {
    let has_service = has_service(&config);
    let begin = now();
    let config = resolve(config, begin).await?;
    let deadline = begin + config.effective().connect_timeout();
    run(&config, purpose, deadline).await.map_err(|error| blame_service(error, has_service))
}

/// Connects and logs in like [`establish`], with a deadline.
pub(crate) async fn establish_until(
    config: Config,
    purpose: SessionPurpose,
    deadline: Instant,
) -> Result<Established, Error> {
    let has_service = has_service(&config);
    let what = "the service file or the name of the account";
    let config = bounded(deadline, what, resolve(config, now())).await?;
    let run = run(&config, purpose, deadline).await;
    run.map_err(|error| blame_service(error, has_service))
}

/// Marks an error of the parameters as transient if there is a service file, which the next attempt reads again.
fn blame_service(error: Error, has_service: bool) -> Error {
    if has_service && error.kind() == ErrorKind::Config { error.passing() } else { error }
}

async fn run(
    config: &Config,
    purpose: SessionPurpose,
    deadline: Instant,
) -> Result<Established, Error> {
    // On the heap: the future of a whole login is large, and part of the future of the caller.
    Box::pin(async { Attempt::new(config, purpose, deadline).await?.run().await }).await
}

/// Connects and logs in like [`establish`], to the server at `location` and no other.
pub(crate) async fn establish_at(
    config: Config,
    purpose: SessionPurpose,
    location: &ServerLocation,
) -> Result<Established, Error> {
    let begin = now();
    let config = resolve(config, begin).await?;
    let deadline = begin + config.effective().connect_timeout();
    Attempt::new(&config, purpose, deadline).await?.run_at(location).await
}

/// Opens a second session on the server at `location`, for a short time.
pub(super) async fn open_second_session(
    config: &Config,
    location: &ServerLocation,
    deadline: Instant,
) -> Result<Driver, Error> {
    let mut attempt = Attempt::new(config, SessionPurpose::Send, deadline).await?;
    attempt.is_second = true;
    attempt.run_at(location).await.map(|established| established.driver)
}

/// An attempt, which goes through servers, addresses and kinds of encryption.
struct Attempt<'a> {
    config: &'a Config,
    purpose: SessionPurpose,
    deadline: Instant,
    /// Set if servers and addresses are tried in random order.
    random: Option<PseudoRandom>,
    encryptor: Encryptor,
    failures: Vec<Failure>,
    /// Set for the second session of a delivery proof: the error of the proof contains the address.
    is_second: bool,
}

impl<'a> Attempt<'a> {
    async fn new(
        config: &'a Config,
        purpose: SessionPurpose,
        deadline: Instant,
    ) -> Result<Self, Error> {
        // Invalid parameters are found before a connection is opened.
        login::check(config, deadline)?;
        let random = match config.effective().load_balance_hosts() {
            LoadBalanceHosts::Random => Some(PseudoRandom::new(u64::from_le_bytes(random()?))),
            LoadBalanceHosts::Disable => None,
        };
        // A network file system may hang.
        let encryptor = bounded(deadline, "the files of TLS", Encryptor::new(config)).await?;
        let (failures, is_second) = (Vec::new(), false);
        Ok(Self { config, purpose, deadline, random, encryptor, failures, is_second })
    }

    async fn run(mut self) -> Result<Established, Error> {
        let mut servers = self.config.servers()?;
        if let Some(random) = &mut self.random {
            random.shuffle(&mut servers);
        }
        let wanted = self.config.effective().target_session_attrs();
        // If no server is of the preferred kind, any server is accepted.
        let accepted: &[_] = match wanted {
            TargetSessionAttrs::PreferStandby => &[wanted, TargetSessionAttrs::Any],
            _ => &[wanted],
        };
        for (round, wanted) in accepted.iter().enumerate() {
            for (index, server) in servers.iter().enumerate() {
                let left = (accepted.len() - round) * servers.len() - index;
                if let Some(found) = self.try_server(server, *wanted, left).await? {
                    return Ok(found);
                }
            }
        }
        Err(self.sum_up())
    }

    /// Tries only this address. Another address of the same name may belong to another server.
    async fn run_at(mut self, location: &ServerLocation) -> Result<Established, Error> {
        let address = vec![location.address.clone()];
        let tried = self.try_addresses(&location.server, address, TargetSessionAttrs::Any, 1);
        match Box::pin(tried).await? {
            Some(established) => Ok(established),
            None => Err(self.sum_up()),
        }
    }

    /// Tries the addresses of a server, with every kind of encryption. `None` if the next server is to be tried;
    /// `servers` is the number of servers left, with this one.
    ///
    /// # Errors
    /// If no other server is to be tried.
    async fn try_server(
        &mut self,
        server: &Server,
        wanted: TargetSessionAttrs,
        servers: usize,
    ) -> Result<Option<Established>, Error> {
        let found = bounded(self.share(servers), "name lookup", Address::look_up(server)).await;
        let mut addresses = match found {
            Ok(addresses) => addresses,
            Err(error) => {
                let at = match server.host() {
                    Some(Host::Tcp(name)) => format!("{name}:{}", server.port()),
                    Some(Host::Unix(directory)) => directory.clone(),
                    // Nothing is looked up.
                    None => "the default server".to_owned(),
                };
                self.failures.push(Failure { at, error });
                return Ok(None);
            }
        };
        if let Some(random) = &mut self.random {
            random.shuffle(&mut addresses);
        }
        self.try_addresses(server, addresses, wanted, servers).await
    }

    async fn try_addresses(
        &mut self,
        server: &Server,
        addresses: Vec<Address>,
        wanted: TargetSessionAttrs,
        servers: usize,
    ) -> Result<Option<Established>, Error> {
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            let until = self.share(servers - 1 + count - index);
            let mut methods = self.encryptor.methods(&address).iter().peekable();
            while let Some(method) = methods.next() {
                let mut candidate = Candidate {
                    attempt: self,
                    server,
                    address: &address,
                    until,
                    reached: Reached::Server,
                    is_clear: false,
                };
                let error = match candidate.run(*method, wanted).await {
                    Ok(established) => return Ok(Some(established)),
                    Err(error) => error,
                };
                let other = methods.peek().copied().copied();
                let other = other.filter(|other| other.may_be_tls() || !candidate.is_clear);
                let next = NextAttempt::after(&error, candidate.reached, other);
                let at = if self.is_second { String::new() } else { address.of(server) };
                self.failures.push(Failure { at, error });
                match next {
                    NextAttempt::Encryption => {}
                    NextAttempt::Address => break,
                    NextAttempt::Server => return Ok(None),
                    NextAttempt::Nothing => return Err(self.sum_up()),
                }
            }
        }
        Ok(None)
    }

    /// Returns the deadline of one of `tries` candidates.
    fn share(&self, tries: usize) -> Instant {
        let now = now();
        now + route::share(self.deadline.saturating_duration_since(now), tries)
    }

    /// Returns the error of the attempt.
    fn sum_up(&mut self) -> Error {
        route::sum_up(std::mem::take(&mut self.failures))
    }
}

/// A candidate, with one kind of encryption.
struct Candidate<'a> {
    attempt: &'a Attempt<'a>,
    server: &'a Server,
    address: &'a Address,
    until: Instant,
    reached: Reached,
    /// The connection was not encrypted: to try it without encryption again would be the same.
    is_clear: bool,
}

impl Candidate<'_> {
    async fn run(
        &mut self,
        method: Encryption,
        wanted: TargetSessionAttrs,
    ) -> Result<Established, Error> {
        let Attempt { config, encryptor, .. } = self.attempt;
        let dialled = bounded(self.until, "a connection", self.address.dial(config)).await?;
        let wrapped = encryptor.wrap(dialled, method, self.server);
        let wrapped = bounded(self.until, "the TLS handshake", wrapped).await?;
        let Wrapped { stream, channel, is_verified } = wrapped;
        self.is_clear = channel == Channel::Clear;
        let is_tls = matches!(channel, Channel::Tls { .. });
        let login = login::login(config, self.server, (channel, is_verified), self.until);
        let login = bounded(self.until, "the password", login).await?;
        let has_password = login.credentials.has_password();
        let mut session = Session::new(login)?;
        session.limit_results(config.effective().result_limit_bytes());
        let mut driver = Driver::new(session, Pipe::new(stream));
        // The session has its own deadline.
        let logged_in = driver.log_in().await;
        if driver.session.auth_method().is_some() {
            self.reached = Reached::Session;
        } else if driver.session.was_asked() {
            self.reached = Reached::Rule;
        }
        if let Err(error) = logged_in {
            let error = password::blame_password(error, config);
            let missing = encryptor.missing_certificate().filter(|_| is_tls);
            if let (Some("28000"), Some(path)) = (error.sqlstate(), missing) {
                // The cause may be that the client has no certificate. N153.
                let hint = format!("the file of the client's certificate {path:?} does not exist");
                return Err(error.passing().with_hint(hint));
            }
            let concerns_password = error.sqlstate() == Some("28P01") || !has_password;
            if error.kind() != ErrorKind::Auth || !concerns_password {
                return Err(error);
            }
            let hint = password::password_hint(config, self.server);
            return match timeout_at(self.until.into(), hint).await {
                Ok(Some(hint)) => Err(error.with_hint(hint)),
                Ok(None) | Err(_) => Err(error),
            };
        }
        // The request for TLS was accepted, if it was optional.
        let encryption = match method {
            Encryption::TlsIfOffered if is_tls => Encryption::Tls,
            Encryption::TlsIfOffered => Encryption::Clear,
            method => method,
        };
        bounded(self.until, "an answer", self.check(driver, encryption, wanted)).await
    }

    /// Checks whether the server meets the requirements, and sets up the session.
    async fn check(
        &self,
        mut driver: Driver,
        encryption: Encryption,
        wanted: TargetSessionAttrs,
    ) -> Result<Established, Error> {
        let purpose = self.attempt.purpose;
        let mut is_pooled = false;
        let mut is_apart = false;
        if purpose != SessionPurpose::Send || wanted != TargetSessionAttrs::Any {
            let facts = SessionFacts::from_rows(&ask_facts(&mut driver).await?)?;
            route::accept(wanted, facts.server).map_err(|mismatch| {
                Error::new(
                    ErrorKind::Standby,
                    format!("target_session_attrs={wanted} is asked for, and {mismatch}"),
                )
            })?;
            let refused = match purpose {
                SessionPurpose::Listen | SessionPurpose::Read => Some("LISTEN"),
                // Each of its nudges would be refused, and wait for another server.
                SessionPurpose::Nudge => Some("NOTIFY"),
                // The snapshots of a standby do not list the transactions in progress.
                #[cfg(feature = "durable")]
                SessionPurpose::Cursor => Some("a cursor"),
                SessionPurpose::Connect | SessionPurpose::Notify | SessionPurpose::Send => None,
            };
            if let Some(command) = refused.filter(|_| facts.server.in_recovery) {
                let hint = format!(
                    "{command} needs the primary: set host to it, or to several hosts, of which the primary is chosen"
                );
                return Err(
                    Error::new(ErrorKind::Standby, "the server is a standby").with_hint(hint)
                );
            }
            // PostgreSQL always sends a key with its process id. Without one, or with that of another process, there is a
            // pooler in between.
            is_pooled = driver.session.process_id() != Some(facts.backend_pid);
            // Over TCP, the server process has the port of a client. If it has none, a server may share one session among
            // its clients, and all of them see its process id. N174.
            is_apart = facts.has_no_port && !self.address.is_unix();
            let stays = match purpose {
                SessionPurpose::Listen => true,
                // Behind a pooler the setting would stay in the server session, which other clients use later.
                SessionPurpose::Notify | SessionPurpose::Nudge => !is_pooled,
                SessionPurpose::Connect | SessionPurpose::Read | SessionPurpose::Send => false,
                #[cfg(feature = "durable")]
                SessionPurpose::Cursor => !is_pooled,
            };
            if stays && facts.ends_idle_sessions {
                driver.query("SET idle_session_timeout = 0").await?;
            }
        }
        let mut established = Established {
            driver,
            config: self.attempt.config.clone(),
            location: ServerLocation { server: self.server.clone(), address: self.address.clone() },
            encryption,
            is_pooled: is_pooled || is_apart,
        };
        if purpose == SessionPurpose::Listen {
            established.choose_evidence(self.until).await?;
        }
        established.driver.set_up().await?;
        Ok(established)
    }
}

/// Queries the facts about the server. EXECUTE on the function for the port may be revoked (42501): it is left out then.
async fn ask_facts(driver: &mut Driver) -> Result<Vec<Rows>, Error> {
    match driver.query(FACTS_SQL).await {
        Err(error) if error.sqlstate() == Some("42501") && driver.session.is_ready() => {
            driver.query(FACTS_WITHOUT_PORT_SQL).await
        }
        answered => answered,
    }
}

/// Waits for `future`, but not longer than `until`.
async fn bounded<T>(
    until: Instant,
    what: &'static str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match timeout_at(until.into(), future).await {
        Ok(result) => result,
        Err(_) => Err(Error::new(ErrorKind::Timeout, format!("waited too long for {what}"))),
    }
}
