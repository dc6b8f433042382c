//! The password of one attempt: from the provider, the configuration or the password file.

use std::env;
use std::error::Error as StdError;
use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use super::files::{self, Access, FileFault};
use super::provider_thread;
use crate::config::Config;
use crate::config::{Host, PassFile, Server};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::{AuthError, Password};

/// The login for which a password is requested. Tokens are often valid for one host, port and user.
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

    /// Returns the server's name as it is configured, or its address if only that is known, or the
    /// directory of its Unix socket.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the server's port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the role to log in as.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Returns the name of the database.
    #[must_use]
    pub fn dbname(&self) -> &str {
        &self.dbname
    }
}

type Cause = Box<dyn StdError + Send + Sync>;
type Answer = Pin<Box<dyn Future<Output = Result<Password, Cause>> + Send>>;

/// The user's password provider.
struct Provider(Box<dyn Fn(PasswordRequest) -> Answer + Send + Sync>);

impl Config {
    /// Sets a function that returns passwords. `provider` is called for each server at each attempt to log
    /// in, and its result is not stored. It takes precedence over every other password.
    ///
    /// Use it for passwords that expire: tokens of a cloud's identity service, passwords of a vault.
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
    /// If it returns an error, the attempt ends with [`ErrorKind::Auth`], which shows that error as its cause: keep
    /// secrets out of its text. An empty password ends the attempt too. Both errors are
    /// [transient](Error::is_transient): a listener that reconnects tries again.
    ///
    /// A [`Listener`](crate::Listener) calls it in a separate thread, within the runtime, and one call at a time: it may
    /// block, and delays neither the delivery of notifications nor [`close`](crate::Listener::close). If it still blocks
    /// after the deadline of its attempt, it keeps its thread, and no other call begins before it returns.
    /// [`Connection::connect`] and [`Notifier::connect`] call it in the task of their caller, where it must not block: use
    /// asynchronous functions, or tokio's `spawn_blocking`.
    ///
    /// A paused clock of tokio, in a test, does not wait for that thread: the attempt ends at once with
    /// [`ErrorKind::Timeout`]. Use a password of the configuration in such a test.
    ///
    /// # Panics
    /// A panic in the provider ends the attempt of a [`Listener`](crate::Listener) with [`ErrorKind::Other`], and the
    /// error has the panic's message; a listener that reconnects tries again. [`Connection::connect`] and
    /// [`Notifier::connect`] propagate the panic to their caller.
    ///
    /// [`Connection::connect`]: crate::Connection::connect
    /// [`Notifier::connect`]: crate::Notifier::connect
    ///
    /// # Cancel safety
    /// The provider's future is dropped when `connect_timeout` has passed.
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

    /// Returns whether there is a provider, and so the next attempt may have another password.
    pub(crate) fn has_password_provider(&self) -> bool {
        self.attachment::<Provider>().is_some()
    }
}

/// Returns the password for this server, at every attempt again: that of the provider, otherwise that of the
/// configuration, otherwise that of the password file.
///
/// # Errors
/// [`ErrorKind::Auth`]: the provider failed. A password file that cannot be used is ignored:
/// [`password_hint`] contains the reason if the password is missing.
///
/// # Cancel safety
/// Dropping it drops the provider's future.
pub(crate) async fn password(config: &Config, server: &Server) -> Result<Option<Password>, Error> {
    if let Some(provider) = config.attachment::<Provider>() {
        let request = PasswordRequest::new(config, server);
        // Already the call of the closure may block or panic, not only its future.
        let answer =
            provider_thread::call(config, async move { (provider.0)(request).await }).await?;
        let password = answer.map_err(|cause| {
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

/// Marks the error as [transient](Error::passing) if the password was missing or could not be sent, and the next attempt may
/// have another one, from a provider or a password file.
///
/// An error of the server that refuses a password is not marked here.
pub(crate) fn blame_password(error: Error, config: &Config) -> Error {
    let fault = error.reason().and_then(|reason| reason.downcast_ref::<AuthError>());
    let is_fault = fault.is_some_and(AuthError::is_about_password);
    if is_fault && is_read_anew(config) { error.passing() } else { error }
}

/// Returns whether every attempt gets the password again, from a provider or a password file.
fn is_read_anew(config: &Config) -> bool {
    let has_file = || File::of(config, |name| env::var_os(name)).is_some();
    config.has_password_provider() || config.get_password().is_none() && has_file()
}

/// Returns the hint for a missing or wrong password: where it came from, and why a password file was not used. It
/// contains no part of the file.
///
/// `None` if the password is in the configuration.
pub(crate) async fn password_hint(config: &Config, server: &Server) -> Option<String> {
    if config.attachment::<Provider>().is_some() {
        let hint = "the password came from the password_provider, which is called at every attempt: \
                    is it still valid, and is it for this user?";
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
            format!("the line for this server in the password file {path:?} has an empty password")
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
    /// `None` if no file is named and there is no home directory.
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

/// Shows only the name of the type: its results are secret, and captured values may be.
impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}
