//! Passwords that change between two attempts: what the provider says at that moment is what counts.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use pgbell::proto::auth::AuthMethod;
use pgbell::{Config, Connection, Error, ErrorKind, Listener, Notifier, PasswordRequest};

use crate::support::{Server, all_text, next, run};

const OLD: &str = "pl4nted, the old one";
const NEW: &str = "pl4nted, the new one";

/// A vault: what is in it, and for which logins it was asked.
#[derive(Clone, Default)]
struct Vault {
    password: Arc<Mutex<String>>,
    requests: Arc<Mutex<Vec<PasswordRequest>>>,
}

impl Vault {
    fn put(&self, password: &str) {
        *self.password.lock().unwrap() = password.to_owned();
    }

    fn config(&self, config: Config) -> Config {
        let vault = self.clone();
        config.password_provider(move |request| {
            vault.requests.lock().unwrap().push(request);
            let password = vault.password.lock().unwrap().clone();
            async move {
                // A vault is somewhere else: the answer takes its time.
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(password)
            }
        })
    }

    fn asked(&self) -> usize {
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

    /// Logs in, and does what it is for.
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
        let hint = error.hint().unwrap_or_default();
        assert!(hint.contains("password_provider"), "{self:?}: {error}");
    }
}

/// The same configuration throughout: whatever any attempt knew, the next one asks.
#[test]
fn a_password_that_changes_between_attempts_is_asked_for_anew_and_the_old_one_is_forgotten() {
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
            let vault = Vault::default();
            // What stands in the configuration is right at first: it must not count all the same.
            let url = server.cluster.url("bob", OLD, "postgres");
            let config = url.parse::<Config>().unwrap().require_auth(method.to_string());
            let config = vault.config(config);
            // A session that is there stays, whatever becomes of the password.
            vault.put(OLD);
            let mut patient = Listener::builder(&config).channels(["ch"]).connect().await.unwrap();
            let mut owner = server.connection().await;
            let mut alter = async |password: &str| {
                let sql = format!("ALTER ROLE bob PASSWORD '{password}'");
                owner.simple_query(&sql).await.unwrap();
            };
            for client in Client::ALL {
                alter(OLD).await;
                vault.put(OLD);
                client.connect(&config).await.unwrap();
                // The server has another one, and the vault does not know.
                alter(NEW).await;
                client.is_refused(&config).await;
                vault.put(NEW);
                client.connect(&config).await.unwrap();
                // The way back, so that what was right once is wrong.
                vault.put(OLD);
                client.is_refused(&config).await;
            }
            // Once for each attempt, a refused one included, and never for another login.
            assert_eq!(vault.asked(), 1 + 4 * Client::ALL.len());
            // Two logins of each client that could notify.
            for _ in 0..4 {
                assert_eq!(next(&mut patient).await.payload(), "x");
            }
            for request in &*vault.requests.lock().unwrap() {
                let told = (request.host(), request.port(), request.user(), request.dbname());
                assert_eq!(told, ("127.0.0.1", server.cluster.port(), "bob", "postgres"));
            }
        });
    }
}

/// Between the attempts of several hosts too: each server has its own.
#[test]
fn each_of_several_servers_is_told_its_own_password_alone() {
    let role = |password: &str| format!("CREATE ROLE bob LOGIN PASSWORD '{password}'");
    let server = |password| {
        Server::with(|builder| {
            builder.hba("host all bob 127.0.0.1/32 scram-sha-256").init_sql(role(password))
        })
    };
    // The first is one that cannot be written to: the attempt goes on to the second.
    let (first, second) = (server(OLD), server(NEW));
    first.cluster.set_read_only(true).unwrap();
    run(async {
        let ports = [first.cluster.port(), second.cluster.port()];
        let asked = Arc::new(Mutex::new(Vec::new()));
        let config: Config = format!(
            "host=127.0.0.1,127.0.0.1 port={},{} user=bob dbname=postgres \
             target_session_attrs=read-write",
            ports[0], ports[1]
        )
        .parse()
        .unwrap();
        let config = config.password_provider({
            let asked = Arc::clone(&asked);
            move |request| {
                asked.lock().unwrap().push(request.port());
                let password = if request.port() == ports[0] { OLD } else { NEW };
                async move { Ok::<_, Infallible>(password) }
            }
        });
        Client::Listener.connect(&config).await.unwrap();
        assert_eq!(*asked.lock().unwrap(), ports);
    });
}
