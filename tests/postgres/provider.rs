//! Passwords that change between two attempts: each attempt uses the answer of the provider at that moment.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use pgbell::proto::auth::AuthMethod;
use pgbell::{Config, Connection, Error, ErrorKind, Listener, Notifier, PasswordRequest};

use crate::support::{Server, all_text, next, run};

const OLD: &str = "pl4nted, the old one";
const NEW: &str = "pl4nted, the new one";

/// A password store: its password, and the logins for which it was requested.
#[derive(Clone, Default)]
struct PasswordStore {
    password: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<PasswordRequest>>>,
}

impl PasswordStore {
    fn put(&self, password: &str) {
        *self.password.lock().unwrap() = password.to_owned();
    }

    fn config(&self, config: Config) -> Config {
        let store = self.clone();
        config.password_provider(move |request| {
            store.requests.lock().unwrap().push(request);
            let password = store.password.lock().unwrap().clone();
            async move {
                // A real store answers later.
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(password)
            }
        })
    }

    fn requested(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

#[derive(Clone, Copy, Debug)]
enum Client {
    Connection,
    Listener,
    Notifier,
}

impl Client {
    const ALL: [Self; 3] = [Self::Connection, Self::Listener, Self::Notifier];

    /// Logs in, and runs one operation.
    async fn connect(self, config: &Config) -> Result<(), Error> {
        match self {
            Self::Connection => Connection::connect(config).await?.close().await,
            Self::Listener => {
                let mut listener = Listener::builder(config).channels(["ch"]).connect().await?;
                listener.simple_query("NOTIFY ch, 'x'").await?;
                assert_eq!(next(&mut listener).await.payload(), "x");
                listener.close().await;
            }
            Self::Notifier => {
                let notifier = Notifier::connect(config).await?;
                notifier.notify("ch", "x").await?;
                notifier.close().await;
            }
        }
        Ok(())
    }

    async fn is_refused(self, config: &Config) {
        let error = self.connect(config).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Auth, "{self:?}: {error}");
        assert_eq!(error.sqlstate(), Some("28P01"), "{self:?}: {error}");
        assert!(!error.is_transient(), "{self:?}: {error}");
        assert!(!all_text(&error).contains("pl4nted"), "{self:?} shows a password");
        let hint = "the password came from the password_provider, which is called at every attempt: is it still valid, \
                    and is it for this user?";
        assert_eq!(error.hint(), Some(hint), "{self:?}: {error}");
    }
}

/// The same configuration for all attempts: each attempt requests the password again.
#[test]
fn each_attempt_requests_the_password_again_and_the_old_one_is_not_used() {
    for (method, stored) in [
        (AuthMethod::ScramSha256, "scram-sha-256"),
        (AuthMethod::Md5, "md5"),
        (AuthMethod::Password, "scram-sha-256"),
    ] {
        let server = Server::with(|builder| {
            builder
                .hba(format!("host all bob 127.0.0.1/32 {method}"))
                .setting("password_encryption", stored)
                .init_sql(format!("CREATE ROLE bob LOGIN PASSWORD '{OLD}'"))
        });
        run(async {
            let store = PasswordStore::default();
            // At first the password of the configuration is right too. It must not be used, because there is a provider.
            let url = server.cluster.url("bob", OLD, "postgres");
            let config = url.parse::<Config>().unwrap().require_auth(method.to_string());
            let config = store.config(config);
            // An established session stays, whatever happens to the password.
            store.put(OLD);
            let mut observer = Listener::builder(&config).channels(["ch"]).connect().await.unwrap();
            let mut owner = server.connection().await;
            let mut alter = async |password: &str| {
                let sql = format!("ALTER ROLE bob PASSWORD '{password}'");
                owner.simple_query(&sql).await.unwrap();
            };
            for client in Client::ALL {
                alter(OLD).await;
                store.put(OLD);
                client.connect(&config).await.unwrap();
                // The server has a new password, and the store the old one.
                alter(NEW).await;
                client.is_refused(&config).await;
                store.put(NEW);
                client.connect(&config).await.unwrap();
                // Back to the old password, so that a password that was right once is wrong.
                store.put(OLD);
                client.is_refused(&config).await;
            }
            // One request for each attempt, also for a refused one, and never for another login.
            assert_eq!(store.requested(), 1 + 4 * Client::ALL.len());
            // The two clients that can notify have logged in twice each.
            for _ in 0..4 {
                assert_eq!(next(&mut observer).await.payload(), "x");
            }
            for request in &*store.requests.lock().unwrap() {
                let found = (request.host(), request.port(), request.user(), request.dbname());
                assert_eq!(found, ("127.0.0.1", server.cluster.port(), "bob", "postgres"));
            }
        });
    }
}

/// The same for the attempts of several hosts: each server has its own password.
#[test]
fn each_of_several_servers_gets_only_its_own_password() {
    let role = |password: &str| format!("CREATE ROLE bob LOGIN PASSWORD '{password}'");
    let server = |password| {
        Server::with(|builder| {
            builder.hba("host all bob 127.0.0.1/32 scram-sha-256").init_sql(role(password))
        })
    };
    // The first server is read-only for this purpose: the attempt continues with the second.
    let (first, second) = (server(OLD), server(NEW));
    first.cluster.set_read_only(true).unwrap();
    run(async {
        let ports = [first.cluster.port(), second.cluster.port()];
        let requested = Arc::new(Mutex::new(Vec::new()));
        let config: Config = format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=bob dbname=postgres \
             target_session_attrs=read-write",
            ports[0], ports[1]
        )
        .parse()
        .unwrap();
        let config = config.password_provider({
            let requested = Arc::clone(&requested);
            move |request| {
                requested.lock().unwrap().push(request.port());
                let password = if request.port() == ports[0] { OLD } else { NEW };
                async move { Ok::<_, Infallible>(password) }
            }
        });
        Client::Listener.connect(&config).await.unwrap();
        assert_eq!(*requested.lock().unwrap(), ports);
    });
}
