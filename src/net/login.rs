//! From a configuration to what a session needs.

use std::time::{Duration, Instant};

use crate::auth::{AuthPolicy, Credentials, Password, ScramNonce};
use crate::config::SslMode;
use crate::session::Login;
use crate::wire::ProtocolVersion;
use crate::{Config, Error, ErrorKind};

/// How long an attempt to connect may take when `connect_timeout` is not given.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long LISTEN and UNLISTEN may take. The first LISTEN of a session reads the whole notification
/// queue, which is long when another listener lags behind.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// `application_name` when none is given, so that `pg_stat_activity` shows who listens.
const APPLICATION_NAME: &str = "pgbell";

/// How long an attempt may take, from the name to the first ReadyForQuery. Always finite.
pub(crate) fn connect_timeout(config: &Config) -> Duration {
    config.get_connect_timeout().filter(|timeout| !timeout.is_zero()).unwrap_or(CONNECT_TIMEOUT)
}

/// Puts together what one session needs to log in by `deadline`.
pub(crate) fn login(config: &Config, deadline: Instant) -> Result<Login, Error> {
    if let Some(mode @ (SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull)) =
        config.get_ssl_mode()
    {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("sslmode={mode} asks for TLS, which this version does not have"),
        ));
    }
    let mut credentials = Credentials::new(config.get_user().unwrap_or_default())?;
    if let Some(password) = config.get_password() {
        credentials = credentials.password(Password::new(password))?;
    }
    let mut parameters = Vec::new();
    let mut parameter = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            parameters.push((name.to_owned(), value.to_owned()));
        }
    };
    parameter("database", config.get_dbname());
    parameter("application_name", Some(config.get_application_name().unwrap_or(APPLICATION_NAME)));
    parameter("options", config.get_options());
    let mut random = [0; 18];
    getrandom::fill(&mut random).map_err(|error| {
        Error::caused(ErrorKind::Connect, "the system has no random bytes", error)
    })?;
    Ok(Login {
        credentials,
        policy: AuthPolicy::default().allow_cleartext(true),
        nonce: ScramNonce::new(random),
        parameters,
        protocol: ProtocolVersion::V3_0,
        min_protocol: ProtocolVersion::V3_0,
        deadline,
        command_timeout: COMMAND_TIMEOUT,
    })
}
