//! The password of one attempt: from the provider, the configuration or the password file.

use std::env;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::apart;
use super::files::{self, Access, FileFault};
use crate::auth::{AuthError, Password};
use crate::config::{Host, PassFile, Server};
use crate::{Config, Error, ErrorKind};

/// For which login a password is wanted. Tokens are often made for one host, port and user.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub struct PasswordRequest {
    host: String,
    port: u16,
    user: String,
    dbname: String,
}

impl PasswordRequest {
    fn new(config: &Config, server: &Server) -> Self {
        let host = match (server.host(), server.address()) {
            (Some(Host::Tcp(name) | Host::Unix(name)), _) => name.clone(),
            (None, Some(address)) => address.to_string(),
            (None, None) => "localhost".to_owned(),
        };
        let user = config.get_user().unwrap_or_default();
        let dbname = config.get_dbname().unwrap_or(user);
        Self { host, port: server.port(), user: user.to_owned(), dbname: dbname.to_owned() }
    }

    /// The server's name as it is configured, or its address where only that is known, or the
    /// directory of its Unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The role to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }
}

type Cause = Box<dyn StdError + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<Password, Cause>> + Send>>;

/// What the user gave to ask for passwords.
struct Provider(Box<dyn Fn(PasswordRequest) -> Answer + Send + Sync>);

impl Config {
    /// Sets where passwords come from: `provider` is called for each server at each attempt to log
    /// in, and nothing is kept of what it returns. It wins over every other password.
    ///
    /// For what does not last: tokens that a cloud's identity service signs, passwords of a vault.
    ///
    /// ```
    /// use pgbell::{Config, PasswordRequest};
    ///
    /// async fn token(request: PasswordRequest) -> Result<String, std::io::Error> {
    ///     Ok(format!("token for {} at {}:{}", request.user(), request.host(), request.port()))
    /// }
    ///
    /// let config = Config::new().host("db1").user("bob").password_provider(token);
    /// ```
    ///
    /// An error of it ends the attempt with [`ErrorKind::Auth`] and is shown as the cause: keep
    /// secrets out of its text. So does an empty password. Both may pass
    /// ([`is_transient`](Error::is_transient)): a listener that comes back tries again.
    ///
    /// A [`Listener`](crate::Listener) asks it in a thread of its own, within the runtime, and one call at a time: it may
    /// block, and delays neither the delivery of notifications nor [`close`](crate::Listener::close). One that goes on
    /// blocking after the time of its attempt keeps its thread, and no other call begins before it returns.
    /// [`Connection::connect`] and [`Notifier::connect`] ask it in the task of their caller, where it must not block: ask
    /// a slow source asynchronously, or within tokio's `spawn_blocking`.
    ///
    /// A clock that tokio has paused for a test does not wait for that thread: the attempt ends at once with
    /// [`ErrorKind::Timeout`]. Use a password of the configuration in such a test.
    ///
    /// # Panics
    /// A panic in the provider ends the attempt of a [`Listener`](crate::Listener) with [`ErrorKind::Other`], and the
    /// error has the panic's message; a listener that comes back tries again. [`Connection::connect`] and
    /// [`Notifier::connect`] pass the panic on to their caller.
    ///
    /// [`Connection::connect`]: crate::Connection::connect
    /// [`Notifier::connect`]: crate::Notifier::connect
    ///
    /// # Cancel safety
    /// The future is dropped when the time of the attempt (`connect_timeout`) is over.
    #[must_use]
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn password_provider<F, Fut, P, E>(self, provider: F) -> Self
    where
        F: Fn(PasswordRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, E>> + Send + 'static,
        P: Into<Vec<u8>>,
        E: Into<Cause>,
    {
        let provider = Provider(Box::new(move |request| {
            let answer = provider(request);
            Box::pin(async move { answer.await.map(Password::new).map_err(Into::into) })
        }));
        self.attach(Some("password_provider"), Arc::new(provider))
    }

    /// Whether the next attempt may have another password.
    pub(crate) fn has_password_provider(&self) -> bool {
        self.attachment::<Provider>().is_some()
    }
}

/// The password for this server, asked for anew at every attempt: the provider's, else the
/// configured one, else the password file's.
///
/// # Errors
/// [`ErrorKind::Auth`]: the provider failed. A password file that cannot be used is none:
/// [`password_hint`] tells about it when a password was missing.
///
/// # Cancel safety
/// Dropping it drops the provider's future.
pub(crate) async fn password(config: &Config, server: &Server) -> Result<Option<Password>, Error> {
    if let Some(provider) = config.attachment::<Provider>() {
        let request = PasswordRequest::new(config, server);
        // The call too may block or panic.
        let asked = apart::ask(config, async move { (provider.0)(request).await }).await?;
        let password = asked.map_err(|cause| {
            Error::caused(ErrorKind::Auth, "the password provider failed", cause).passing()
        })?;
        return match password.expose() {
            [] => {
                let message = "the password provider gave an empty password";
                Err(Error::new(ErrorKind::Auth, message).passing())
            }
            _ => Ok(Some(password)),
        };
    }
    if let Some(password) = config.get_password() {
        return Ok(Some(Password::new(password)));
    }
    let found = File::of(config, |name| env::var_os(name));
    let password = match &found {
        Some(file) => file.password(config, server).await.ok().flatten(),
        None => None,
    };
    Ok(password.filter(|password| !password.expose().is_empty()))
}

/// The same error, marked as one that [may pass](Error::passing) if the next attempt may have another password because
/// of which it goes well: one from a provider or a password file, where this one was missing or could not be sent.
///
/// A password that the server refuses is not meant: that is the server's answer.
pub(crate) fn blame_password(error: Error, config: &Config) -> Error {
    let fault = error.reason().and_then(|reason| reason.downcast_ref::<AuthError>());
    let is_fault = fault.is_some_and(AuthError::is_about_password);
    if is_fault && is_read_anew(config) { error.passing() } else { error }
}

/// Whether the password is not one of the parameters, but asked for at every attempt.
fn is_read_anew(config: &Config) -> bool {
    let has_file = || File::of(config, |name| env::var_os(name)).is_some();
    config.has_password_provider() || config.get_password().is_none() && has_file()
}

/// What to say beside the error that the password is missing or wrong: where it was looked for, and
/// why a password file was not used. It has no content of the file.
///
/// `None` when the password stands in the configuration.
pub(crate) async fn password_hint(config: &Config, server: &Server) -> Option<String> {
    if config.attachment::<Provider>().is_some() {
        let hint = "the password came from the password_provider, which is asked anew at every attempt: \
                    does it last, and is it for this user?";
        return Some(hint.to_owned());
    }
    if config.get_password().is_some() {
        return None;
    }
    let cure = "set `password`, PGPASSWORD or a password_provider";
    let Some(file) = File::of(config, |name| env::var_os(name)) else {
        return Some(format!("no password is given: {cure}"));
    };
    let path = &file.path;
    Some(match file.password(config, server).await {
        Ok(Some(password)) if password.expose().is_empty() => {
            format!("the line for it in the password file {path:?} has an empty password")
        }
        Ok(Some(_)) => format!("the password came from the password file {path:?}"),
        Ok(None) => {
            let PasswordRequest { host, port, user, dbname } = PasswordRequest::new(config, server);
            format!(
                "the password file {path:?} has no line for {host:?}:{port}:{dbname:?}:{user:?}"
            )
        }
        Err(FileFault::Missing) if !file.named => {
            format!("no password is given: {cure}, or a line in {path:?}")
        }
        Err(fault) => format!("the password file {path:?} was ignored: it {fault}"),
    })
}

/// The password file of a configuration.
struct File {
    path: PathBuf,
    /// The user named it.
    named: bool,
}

impl File {
    /// `None` when none is named and nobody is at home.
    fn of(config: &Config, variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        match config.get_passfile() {
            Some(path) => Some(Self { path: PathBuf::from(path), named: true }),
            None => {
                let path = files::default_passfile(files::home(variable).as_deref())?;
                Some(Self { path, named: false })
            }
        }
    }

    async fn password(
        &self,
        config: &Config,
        server: &Server,
    ) -> Result<Option<Password>, FileFault> {
        let mut text = files::read(self.path.clone(), Access::Owner).await?;
        let user = config.get_user().unwrap_or_default();
        let dbname = config.get_dbname().unwrap_or(user);
        let file = PassFile::new(std::mem::take(&mut *text));
        #[cfg(unix)]
        return Ok(file.password_in(super::dial::default_directory(), server, dbname, user));
        #[cfg(not(unix))]
        Ok(file.password(server, dbname, user))
    }
}

/// The type's name: what it returns is secret, and what it captured may be.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}
