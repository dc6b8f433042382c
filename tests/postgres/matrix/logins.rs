//! Logins with every method, and with passwords that the server itself has stored.

use pgbell::proto::auth::AuthMethod;
use pgbell::{Connection, ErrorKind, Listener, Notifier};

use super::on_every_version;
use crate::support::{Server, all_text, installation, run, value};

on_every_version! {
    every_method_logs_in_over_tcp_and_unix_socket
    passwords_beyond_ascii_are_prepared_in_the_order_of_the_server
    wrong_passwords_and_databases_are_refused_without_showing_them
}

/// Role, method, password. Digits, quotes and URL characters pass through every layer of quoting.
const ROLES: [(&str, &str, &str); 10] = [
    ("r_trust", "trust", "ignored"),
    ("r_password", "password", "pl4nted/@:?'\\\"%"),
    ("r_md5", "md5", "pl4nted/@:?'\\\"%"),
    ("r_scram", "scram-sha-256", "pl4nted/@:?'\\\"%"),
    ("u_password", "password", "pl4nted pässwörd€ﬁ½"),
    ("u_md5", "md5", "pl4nted pässwörd€ﬁ½"),
    ("u_scram", "scram-sha-256", "pl4nted pässwörd€ﬁ½"),
    // The result of SASLprep depends on the order of its steps.
    ("o_tone", "scram-sha-256", "a\u{340}"),
    ("o_alef", "scram-sha-256", "a\u{2135}"),
    ("o_small", "scram-sha-256", "a\u{1d2c}"),
];

fn server(major: u32) -> Server {
    Server::with(|mut builder| {
        for (role, method, password) in ROLES {
            let stored = if method == "md5" { "md5" } else { "scram-sha-256" };
            let password = password.replace('\'', "''");
            builder = builder
                .hba(format!("local all {role} {method}"))
                .hba(format!("host all {role} 127.0.0.1/32 {method}"))
                .init_sql(format!(
                    "SET password_encryption = '{stored}'; CREATE ROLE {role} LOGIN PASSWORD '{password}'"
                ));
        }
        builder
            .hba("host all o_soft 127.0.0.1/32 scram-sha-256")
            .init_sql("CREATE ROLE o_soft LOGIN PASSWORD 'I\u{ad}X\u{a0}\u{2168}'")
            .installation(installation(major))
    })
}

fn method(name: &str) -> AuthMethod {
    match name {
        "trust" => AuthMethod::Trust,
        "password" => AuthMethod::Password,
        "md5" => AuthMethod::Md5,
        _ => AuthMethod::ScramSha256,
    }
}

/// Over TCP without TLS a password is sent in clear only on request.
fn over_tcp(url: String) -> String {
    let more = if url.contains('?') { '&' } else { '?' };
    url + &format!("{more}require_auth=none,password,md5,scram-sha-256")
}

async fn logs_in(url: String, role: &str, expect: AuthMethod) {
    let mut connection = Connection::connect(&url).await.unwrap_or_else(|e| panic!("{role}: {e}"));
    assert_eq!(connection.auth_method(), Some(expect), "{role}");
    assert_eq!(value(&mut connection, "SELECT current_user").await, role);
    connection.close().await;
}

/// P1: trust, password, md5 and scram-sha-256, each over TCP and over a Unix socket.
fn every_method_logs_in_over_tcp_and_unix_socket(major: u32) {
    let server = server(major);
    run(async {
        for (role, name, password) in ROLES {
            let cluster = &server.cluster;
            logs_in(over_tcp(cluster.url(role, password, "postgres")), role, method(name)).await;
            logs_in(cluster.socket_url(role, password, "postgres"), role, method(name)).await;
        }
        // The listener and the notifier have their own code for the login.
        for (role, _, password) in ROLES {
            let url = over_tcp(server.cluster.url(role, password, "postgres"));
            let mut listener = Listener::connect(&url).await.unwrap();
            listener.listen("ch").await.unwrap();
            let notifier = Notifier::connect(&url).await.unwrap();
            notifier.notify("ch", role).await.unwrap();
            assert_eq!(crate::support::next(&mut listener).await.payload_bytes(), role.as_bytes());
            notifier.close().await;
            listener.close().await;
        }
    });
}

/// P1: a soft hyphen is removed, a wide space becomes a space, a Roman numeral becomes letters. The server stored the
/// prepared password, so every spelling of it can log in.
fn passwords_beyond_ascii_are_prepared_in_the_order_of_the_server(major: u32) {
    let server = server(major);
    run(async {
        for password in ["IX IX", "I\u{ad}X\u{a0}\u{2168}", "IX\u{3000}I\u{200d}X"] {
            let url = server.cluster.url("o_soft", password, "postgres");
            logs_in(url, "o_soft", AuthMethod::ScramSha256).await;
        }
        // The alef symbol becomes the letter, which alone would be refused together with a Latin one.
        let url = server.cluster.url("o_alef", "a\u{5d0}", "postgres");
        logs_in(url, "o_alef", AuthMethod::ScramSha256).await;
        // With the order of RFC 4013 the other two would be these, which are wrong.
        for (role, password) in [("o_tone", "\u{e0}"), ("o_small", "aA")] {
            let url = server.cluster.url(role, password, "postgres");
            let error = Connection::connect(url).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("28P01"), "{role}");
        }
    });
}

/// P1: a refused login is an error with its SQLSTATE, and shows no password.
fn wrong_passwords_and_databases_are_refused_without_showing_them(major: u32) {
    let server = server(major);
    run(async {
        for role in ["r_password", "r_md5", "r_scram", "u_md5", "u_scram"] {
            let url = over_tcp(server.cluster.url(role, "pl4nted Wröng-Wörd", "postgres"));
            let errors = [
                Connection::connect(&url).await.unwrap_err(),
                Listener::connect(&url).await.unwrap_err(),
                Notifier::connect(&url).await.unwrap_err(),
            ];
            for error in errors {
                assert_eq!(error.kind(), ErrorKind::Auth, "{role}: {error}");
                assert_eq!(error.sqlstate(), Some("28P01"), "{role}: {error}");
                let text = all_text(&error);
                assert!(!text.contains("ng-W") && !text.contains("%C3"), "{text}");
                assert!(!error.is_transient());
            }
        }
        let url = server.cluster.url("r_scram", ROLES[3].2, "no such place");
        for error in [
            Connection::connect(&url).await.unwrap_err(),
            Listener::connect(&url).await.unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Server, "{error}");
            assert_eq!(error.sqlstate(), Some("3D000"));
            assert!(!all_text(&error).contains("pl4nted"));
        }
    });
}
