//! From a configuration to what a session needs.

use std::time::{Duration, Instant};

use super::{password, random};
use crate::auth::{AuthPolicy, Channel, Credentials, Password, ScramNonce};
use crate::config::{Server, SslMode};
use crate::session::{Login, Session};
use crate::{Config, Error};

/// How long LISTEN and UNLISTEN may take. The first LISTEN of a session reads the whole notification
/// queue, which is long when another listener lags behind.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Whether a session can log in with it at all: what cannot work costs no connection.
pub(super) fn check(config: &Config, deadline: Instant) -> Result<(), Error> {
    // Through a channel that leaves nothing to be desired: the real one is not known yet.
    let channel = Channel::Tls { end_point: Some(Vec::new()) };
    let login = assemble(config, None, (channel, true), deadline)?;
    login.policy.check()?;
    Session::new(login).map(drop)
}

/// Puts together what one session needs to log in by `deadline`, through a channel to a server that was verified or
/// was not. Asks for the password.
pub(super) async fn login(
    config: &Config,
    server: &Server,
    channel: (Channel, bool),
    deadline: Instant,
) -> Result<Login, Error> {
    let password = password::password(config, server).await?;
    assemble(config, password, channel, deadline)
        .map_err(|error| password::blame_password(error, config))
}

fn assemble(
    config: &Config,
    password: Option<Password>,
    (channel, is_verified): (Channel, bool),
    deadline: Instant,
) -> Result<Login, Error> {
    let mut credentials = Credentials::new(config.get_user().unwrap_or_default())?;
    if let Some(password) = password {
        credentials = credentials.password(password)?;
    }
    let is_opportunistic = matches!(config.effective_ssl_mode(), SslMode::Prefer | SslMode::Allow);
    let mut policy = AuthPolicy::default()
        .channel(channel)
        .server_verified(is_verified)
        .opportunistic(is_opportunistic)
        .channel_binding(config.get_channel_binding())
        .scram_iterations_min(config.effective_scram_iterations_min())
        .scram_iterations_max(config.effective_scram_iterations_max());
    if let Some(methods) = config.get_require_auth() {
        policy = policy.require_auth(methods);
    }
    let mut parameters = Vec::new();
    let mut parameter = |name: &str, value: Option<&str>| {
        if let Some(value) = value {
            parameters.push((name.to_owned(), value.to_owned()));
        }
    };
    parameter("database", config.get_dbname());
    parameter("application_name", Some(config.effective_application_name()));
    parameter("options", config.get_options());
    Ok(Login {
        credentials,
        policy,
        nonce: ScramNonce::new(random()?),
        parameters,
        protocol: config.effective_max_protocol_version(),
        min_protocol: config.effective_min_protocol_version(),
        deadline,
        command_timeout: COMMAND_TIMEOUT,
    })
}
