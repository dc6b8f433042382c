//! The user's password provider.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use super::{Config, Host, Server};
use crate::error::{Error, ErrorKind};
use crate::proto::auth::Password;

/// The login for which a password is requested. Tokens are often valid for one host, port and user.
///
/// ```
/// use pgbell::{Config, PasswordRequest};
///
/// async fn token(login: PasswordRequest) -> Result<String, std::io::Error> {
///     Ok(format!("a token for {} at {}:{}", login.user(), login.host(), login.port()))
/// }
///
/// let config = Config::new().host("db1").user("bob").password_provider(token);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub struct PasswordRequest {
    host: String,
    port: u16,
    user: String,
    dbname: String,
}

impl PasswordRequest {
    /// Creates the request of a login to `server`.
    pub(crate) fn new(config: &Config, server: &Server) -> Self {
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

type Answer = Pin<Box<dyn Future<Output = Result<Password, Error>> + Send>>;

/// A function that returns passwords. A clone calls the same function.
#[derive(Clone)]
pub(crate) struct PasswordProvider(Arc<dyn Fn(PasswordRequest) -> Answer + Send + Sync>);

impl PasswordProvider {
    pub(crate) fn new<F, Fut>(provider: F) -> Self
    where
        F: Fn(PasswordRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Password, Error>> + Send + 'static,
    {
        Self(Arc::new(move |request| Box::pin(provider(request))))
    }

    /// Calls the function.
    ///
    /// # Errors
    /// [`ErrorKind::Auth`] if the function fails.
    ///
    /// # Cancel safety
    /// Dropping the future drops the provider's future.
    pub(crate) async fn call(&self, request: PasswordRequest) -> Result<Password, Error> {
        (self.0)(request).await
    }
}

/// Shows only that there is one: its results are secret, and captured values may be.
impl fmt::Debug for PasswordProvider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("set")
    }
}

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
        E: Into<Box<dyn StdError + Send + Sync>>,
    {
        let provider = PasswordProvider::new(move |request| {
            let answer = provider(request);
            async move {
                answer.await.map(Password::new).map_err(|cause| {
                    Error::caused(ErrorKind::Auth, "the password provider failed", cause).passing()
                })
            }
        });
        self.with_password_provider(provider)
    }

    /// Sets the provider.
    pub(crate) fn with_password_provider(mut self, provider: PasswordProvider) -> Self {
        self.password_provider = Some(provider);
        self
    }

    /// Returns the provider.
    pub(crate) fn get_password_provider(&self) -> Option<&PasswordProvider> {
        self.password_provider.as_ref()
    }

    /// Returns whether there is a provider, and so the next attempt may have another password.
    pub(crate) fn has_password_provider(&self) -> bool {
        self.password_provider.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value that the function captures, and its results, can be secret.
    #[test]
    fn a_configuration_shows_that_it_has_a_password_provider_and_nothing_else_of_it() {
        let captured = "pencil".to_owned();
        let provider = move |_| {
            let password = captured.clone();
            async move { Ok::<_, std::io::Error>(password) }
        };
        let config = Config::new().password_provider(provider);
        assert!(config.has_password_provider());
        assert_eq!(format!("{config:?}"), "Config { password_provider: set }");
        assert!(!config.to_string().contains("pencil"), "{config}");
    }
}
