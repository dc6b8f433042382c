//! The only file that reads environment variables.

use std::env;

use crate::config::ConfigError;
use crate::{Config, Error};

impl Config {
    /// The configuration that the `PG*` environment variables give.
    ///
    /// # Errors
    /// When a variable has a value that its parameter cannot have.
    #[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::new().with_environment(|name| env::var(name).ok())
    }
}

/// What is used for one attempt to connect: unset parameters are taken from the environment.
pub(crate) fn resolve(config: Config) -> Result<Config, Error> {
    let config = config.with_environment(|name| env::var(name).ok())?;
    match config.get_user() {
        Some(_) => Ok(config),
        // libpq asks the operating system for the name of the user; a login sets these two to it.
        None => match env::var("USER").or_else(|_| env::var("LOGNAME")) {
            Ok(user) if !user.is_empty() => Ok(config.user(user)),
            _ => Err(Error::new(crate::ErrorKind::Config, "no user is given, and USER is not set")
                .with_hint("set `user` in the connection string, or PGUSER")),
        },
    }
}
