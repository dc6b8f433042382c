//! From a configuration to what a session needs.

use std::time::{Duration, Instant};

use super::{password, random};
use crate::auth::{AuthPolicy, Channel, Credentials, ScramNonce};
use crate::config::Server;
use crate::session::Login;
use crate::{Config, Error};

/// How long LISTEN and UNLISTEN may take. The first LISTEN of a session reads the whole notification
/// queue, which is long when another listener lags behind.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// What the client insists on. Before anything is asked: what cannot work costs no connection.
pub(super) fn policy(config: &Config) -> Result<AuthPolicy, Error> {
    let policy = AuthPolicy::default().channel_binding(config.get_channel_binding());
    let policy = match config.get_require_auth() {
        Some(methods) => policy.require_auth(methods),
        None => policy,
    };
    policy.check()?;
    Ok(policy)
}

/// Puts together what one session needs to log in by `deadline`, through `channel`. Asks for the password.
pub(super) async fn login(
    config: &Config,
    server: &Server,
    channel: Channel,
    deadline: Instant,
) -> Result<Login, Error> {
    let mut credentials = Credentials::new(config.get_user().unwrap_or_default())?;
    if let Some(password) = password::password(config, server).await? {
        credentials = credentials.password(password)?;
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
        policy: policy(config)?.channel(channel),
        nonce: ScramNonce::new(random()?),
        parameters,
        protocol: config.effective_max_protocol_version(),
        min_protocol: config.effective_min_protocol_version(),
        deadline,
        command_timeout: COMMAND_TIMEOUT,
    })
}
