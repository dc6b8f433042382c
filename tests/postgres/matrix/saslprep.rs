//! Passwords for which RFC 4013 and PostgreSQL give different results, each stored by the server.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pgbell::proto::auth::{AuthMethod, saslprep};
use pgbell::{Config, Connection};
use pgbell_testkit::Auth;

use super::on_every_version;
use crate::support::{Server, installation, run};

on_every_version! {
    every_password_on_which_the_rfc_and_the_server_disagree_logs_in
}

/// The number of concurrent clients: the server needs the processor too.
const CLIENTS: usize = 4;

/// If logins are expensive for the server, only one password of this number is tried. All versions prepare them in the same way.
const SAMPLE_STEP: usize = 25;

/// The characters after an `a` for which the order of the RFC's steps gives another password: 482 of Unicode 14,
/// and later ones.
fn disputed() -> Vec<char> {
    let differs = |&c: &char| {
        let password = format!("a{c}");
        let rfc =
            stringprep::saslprep(&password).map_or(password.clone(), |text| text.into_owned());
        *saslprep::prepare(password.as_bytes()).unwrap() != *rfc.as_bytes()
    };
    ('\u{80}'..=char::MAX).filter(differs).collect()
}

/// A19: a role for each, with the password as typed, hashed by the server.
fn every_password_on_which_the_rfc_and_the_server_disagree_logs_in(major: u32) {
    let mut disputed = disputed();
    assert!(disputed.len() >= 482, "{}", disputed.len());
    // Before version 16 the server uses 4,096 iterations, and a debug build needs time for them.
    if major < 16 {
        disputed = disputed.into_iter().step_by(SAMPLE_STEP).collect();
    }
    let disputed = Arc::new(disputed);
    let server = Server::with(|mut builder| {
        // The number of iterations does not change the prepared password.
        if major >= 16 {
            builder = builder.setting("scram_iterations", "1");
        }
        let roles = disputed
            .iter()
            .map(|c| format!("CREATE ROLE \"u{:x}\" LOGIN PASSWORD 'a{c}'", u32::from(*c)));
        builder
            .installation(installation(major))
            .auth(Auth::ScramSha256)
            .init_sql(roles.collect::<Vec<_>>().join(";\n"))
    });
    let config: Config = server.cluster.url("postgres", None, "postgres").parse().unwrap();
    let config = config.scram_iterations_min(1);
    run(async {
        let next = Arc::new(AtomicUsize::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (disputed, next) = (Arc::clone(&disputed), Arc::clone(&next));
                let config = config.clone();
                tokio::spawn(async move {
                    while let Some(c) = disputed.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let user = format!("u{:x}", u32::from(*c));
                        let config = config.clone().user(&user).password(format!("a{c}"));
                        let connection = Connection::connect(config).await;
                        let connection =
                            connection.unwrap_or_else(|error| panic!("{user}: {error}"));
                        assert_eq!(connection.auth_method(), Some(AuthMethod::ScramSha256));
                        connection.close().await;
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
        assert!(next.load(Ordering::Relaxed) >= disputed.len());
    });
}
