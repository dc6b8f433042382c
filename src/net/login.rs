//! The parameters of a login, from a configuration.

use std::time::Instant;

use super::{password, random};
use crate::config::Config;
use crate::config::{Server, SslMode};
use crate::error::Error;
use crate::proto::auth::{AuthPolicy, Channel, Credentials, Password, ScramNonce};
use crate::proto::session::{Login, Session};

/// Checks the parameters of the login before a connection is opened.
pub(super) fn check(config: &Config, deadline: Instant) -> Result<(), Error> {
    // With the best possible kind of connection: the real one is not known yet.
    let channel = Channel::Tls { end_point: Some(Vec::new()) };
    let login = assemble(config, None, (channel, true), deadline)?;
    login.policy.check()?;
    Session::new(login).map(drop)
}

/// Returns the parameters of a login. The second part of `channel` is whether the server was verified. Calls the password
/// provider, or reads the password file.
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
    let is_opportunistic =
        matches!(config.effective().ssl_mode(), SslMode::Prefer | SslMode::Allow);
    let mut policy = AuthPolicy::default()
        .channel(channel)
        .server_verified(is_verified)
        .opportunistic(is_opportunistic)
        .channel_binding(config.get_channel_binding())
        .scram_iterations_min(config.effective().scram_iterations_min())
        .scram_iterations_max(config.effective().scram_iterations_max());
    if let Some(methods) = config.get_require_auth() {
        policy = policy.require_auth(methods);
    }
    let mut login = Login::new(credentials, ScramNonce::new(random()?), deadline)
        .policy(policy)
        .protocol(config.effective().max_protocol_version())
        .min_protocol(config.effective().min_protocol_version());
    let parameters = [
        ("database", config.get_dbname()),
        ("application_name", Some(config.effective().application_name())),
        ("options", config.get_options()),
    ];
    for (name, value) in parameters {
        if let Some(value) = value {
            login = login.parameter(name, value);
        }
    }
    Ok(login)
}
