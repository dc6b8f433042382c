//! From a configuration to a session that is ready: which server, over what, and is it the right one?

use std::time::Instant;

use tokio::time::timeout_at;

use super::dial::Address;
use super::encrypt::{Encryptor, Wrapped};
use super::environment::has_service;
use super::{Driver, Pipe, login, now, password, random, resolve};
use crate::auth::Channel;
use crate::config::{Host, LoadBalanceHosts, Server, TargetSessionAttrs};
use crate::route::{self, Encryption, Failure, Next, Reached, Shuffle};
use crate::session::{FACTS_SQL, FACTS_WITHOUT_PORT_SQL, Facts, Rows, Session};
use crate::{Config, Error, ErrorKind};

/// What a session is wanted for, and so what the server must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A listener: a server that accepts LISTEN, a session that is not ended for being idle.
    Listen,
    /// A connection, which may listen: as it is.
    Connect,
    /// To read beside a listener: where it listens, a server that accepts LISTEN.
    Read,
    /// A notifier: a session that is not ended for being idle.
    Notify,
    /// NOTIFY once: nothing is asked that need not be.
    Send,
}

/// A session that is ready.
#[derive(Debug)]
pub(crate) struct Established {
    pub(crate) driver: Driver,
    /// As it was used.
    pub(crate) config: Config,
    pub(crate) place: Place,
    /// A pooler or a proxy may stand between: whether notifications arrive must be proven.
    pub(crate) is_pooled: bool,
}

/// Where a session is: the server as it was named, and the address that was used.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    server: Server,
    address: Address,
}

#[cfg(test)]
impl Place {
    pub(super) fn tcp(server: Server, address: std::net::SocketAddr) -> Self {
        Self { server, address: Address::Tcp(address) }
    }
}

/// Connects and logs in, within the configured time.
pub(crate) async fn establish(config: Config, purpose: Purpose) -> Result<Established, Error> {
    let has_service = has_service(&config);
    let begin = now();
    let config = resolve(config, begin).await?;
    let deadline = begin + config.effective_connect_timeout();
    run(&config, purpose, deadline).await.map_err(|error| blame_service(error, has_service))
}

/// As [`establish`], until then.
pub(crate) async fn establish_until(
    config: Config,
    purpose: Purpose,
    deadline: Instant,
) -> Result<Established, Error> {
    let has_service = has_service(&config);
    let what = "the service file or the name of the account";
    let config = bounded(deadline, what, resolve(config, now())).await?;
    let run = run(&config, purpose, deadline).await;
    run.map_err(|error| blame_service(error, has_service))
}

/// Parameters that are wrong may be so because of the service file, which is read anew by the next attempt.
fn blame_service(error: Error, has_service: bool) -> Error {
    if has_service && error.kind() == ErrorKind::Config { error.passing() } else { error }
}

async fn run(config: &Config, purpose: Purpose, deadline: Instant) -> Result<Established, Error> {
    // On the heap: the future of a whole login is large, and callers hold it.
    Box::pin(async { Attempt::new(config, purpose, deadline).await?.run().await }).await
}

/// As [`establish`], with the server at `place` and no other.
pub(crate) async fn establish_at(
    config: Config,
    purpose: Purpose,
    place: &Place,
) -> Result<Established, Error> {
    let begin = now();
    let config = resolve(config, begin).await?;
    let deadline = begin + config.effective_connect_timeout();
    Attempt::new(&config, purpose, deadline).await?.run_at(place).await
}

/// One more session with the server at `place`, for a short time.
pub(super) async fn again(
    config: &Config,
    place: &Place,
    deadline: Instant,
) -> Result<Driver, Error> {
    let mut attempt = Attempt::new(config, Purpose::Send, deadline).await?;
    attempt.is_beside = true;
    attempt.run_at(place).await.map(|established| established.driver)
}

/// The way through servers, addresses and kinds of encryption.
struct Attempt<'a> {
    config: &'a Config,
    purpose: Purpose,
    deadline: Instant,
    shuffle: Option<Shuffle>,
    encryptor: Encryptor,
    failures: Vec<Failure>,
    /// What it is for names the address in its own error.
    is_beside: bool,
}

impl<'a> Attempt<'a> {
    async fn new(config: &'a Config, purpose: Purpose, deadline: Instant) -> Result<Self, Error> {
        // What cannot work costs no connection.
        login::check(config, deadline)?;
        let shuffle = match config.effective_load_balance_hosts() {
            LoadBalanceHosts::Random => Some(Shuffle::new(u64::from_le_bytes(random()?))),
            LoadBalanceHosts::Disable => None,
        };
        // A network file system may hang.
        let encryptor = bounded(deadline, "the files of TLS", Encryptor::new(config)).await?;
        let (failures, is_beside) = (Vec::new(), false);
        Ok(Self { config, purpose, deadline, shuffle, encryptor, failures, is_beside })
    }

    async fn run(mut self) -> Result<Established, Error> {
        let mut servers = self.config.servers()?;
        if let Some(shuffle) = &mut self.shuffle {
            shuffle.shuffle(&mut servers);
        }
        let wanted = self.config.effective_target_session_attrs();
        // When none is of the kind that is preferred, any will do.
        let wishes: &[_] = match wanted {
            TargetSessionAttrs::PreferStandby => &[wanted, TargetSessionAttrs::Any],
            _ => &[wanted],
        };
        for (round, wanted) in wishes.iter().enumerate() {
            for (index, server) in servers.iter().enumerate() {
                let left = (wishes.len() - round) * servers.len() - index;
                if let Some(found) = self.try_server(server, *wanted, left).await? {
                    return Ok(found);
                }
            }
        }
        Err(self.sum_up())
    }

    /// Tries this address only. Another address of the same name may belong to another server.
    async fn run_at(mut self, place: &Place) -> Result<Established, Error> {
        let address = vec![place.address.clone()];
        let tried = self.try_addresses(&place.server, address, TargetSessionAttrs::Any, 1);
        match Box::pin(tried).await? {
            Some(established) => Ok(established),
            None => Err(self.sum_up()),
        }
    }

    /// Tries the addresses of a server, with every kind of encryption. `None` when another server may be
    /// better; `servers` is how many are left, this one included.
    ///
    /// # Errors
    /// When no other server would be.
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
        if let Some(shuffle) = &mut self.shuffle {
            shuffle.shuffle(&mut addresses);
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
                let mut attempt = Try {
                    attempt: self,
                    server,
                    address: &address,
                    until,
                    reached: Reached::Server,
                    is_clear: false,
                };
                let error = match attempt.run(*method, wanted).await {
                    Ok(established) => return Ok(Some(established)),
                    Err(error) => error,
                };
                let other = methods.peek().copied().copied();
                let other = other.filter(|other| other.may_be_tls() || !attempt.is_clear);
                let next = Next::after(&error, attempt.reached, other);
                let at = if self.is_beside { String::new() } else { address.of(server) };
                self.failures.push(Failure { at, error });
                match next {
                    Next::Encryption => {}
                    Next::Address => break,
                    Next::Server => return Ok(None),
                    Next::Nothing => return Err(self.sum_up()),
                }
            }
        }
        Ok(None)
    }

    /// Until when one of so many tries may last.
    fn share(&self, tries: usize) -> Instant {
        let now = now();
        now + route::share(self.deadline.saturating_duration_since(now), tries)
    }

    /// Why there is no session.
    fn sum_up(&mut self) -> Error {
        route::sum_up(std::mem::take(&mut self.failures))
    }
}

/// One connection that is tried.
struct Try<'a> {
    attempt: &'a Attempt<'a>,
    server: &'a Server,
    address: &'a Address,
    until: Instant,
    reached: Reached,
    /// It came to be in the clear: to try that once more would be no other.
    is_clear: bool,
}

impl Try<'_> {
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
        session.limit_results(config.effective_result_limit_bytes());
        let mut driver = Driver::new(session, Pipe::new(stream));
        // Bounded by the session's own deadline.
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
                // The certificate may be what the server misses. N153.
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
        bounded(self.until, "an answer", self.check(driver, wanted)).await
    }

    /// Whether it is the right server.
    async fn check(
        &self,
        mut driver: Driver,
        wanted: TargetSessionAttrs,
    ) -> Result<Established, Error> {
        let purpose = self.attempt.purpose;
        let mut is_pooled = false;
        let mut is_apart = false;
        if purpose != Purpose::Send || wanted != TargetSessionAttrs::Any {
            let facts = Facts::from_rows(&ask_facts(&mut driver).await?)?;
            route::accept(wanted, facts.server).map_err(|mismatch| {
                Error::new(
                    ErrorKind::Standby,
                    format!("target_session_attrs={wanted} is asked for, and {mismatch}"),
                )
            })?;
            let is_of_listener = matches!(purpose, Purpose::Listen | Purpose::Read);
            if is_of_listener && facts.server.in_recovery {
                return Err(Error::new(ErrorKind::Standby, "the server is a standby").with_hint(
                    "LISTEN needs the primary: name it, or several hosts, of which the primary is chosen",
                ));
            }
            // PostgreSQL always gives a key. Who gives none, or that of another process, stands between.
            is_pooled = driver.session.process_id() != Some(facts.backend_pid);
            // Behind TCP the server process has a port. A server that has none for us may share one session among its
            // clients, all of them with its process id. N174.
            is_apart = facts.has_no_port && !self.address.is_unix();
            let stays = match purpose {
                Purpose::Listen => true,
                // Behind a pooler the setting would stay with a server process that serves others next.
                Purpose::Notify => !is_pooled,
                Purpose::Connect | Purpose::Read | Purpose::Send => false,
            };
            if stays && facts.ends_idle_sessions {
                driver.query("SET idle_session_timeout = 0").await?;
            }
        }
        let mut established = Established {
            driver,
            config: self.attempt.config.clone(),
            place: Place { server: self.server.clone(), address: self.address.clone() },
            is_pooled: is_pooled || is_apart,
        };
        if purpose == Purpose::Listen {
            established.choose_evidence(self.until).await?;
        }
        established.driver.set_up().await?;
        Ok(established)
    }
}

/// EXECUTE on a function can be revoked: 42501.
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
