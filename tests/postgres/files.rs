//! Files that a listener reads again at every attempt, and errors in them: certificates, keys, passwords and services.
//! The session is ended while the file is wrong. The listener reconnects by itself when the file is right again.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use pgbell::config::SslMode;
use pgbell::{Config, Connection, ErrorKind, Event, Listener};
use pgbell_testkit::{Authority, Certificate, Certificates, Leaf, Tls};

use crate::support::{Server, TEST_TIMEOUT, next, run_for, until};

/// The files of one client.
struct Files {
    directory: PathBuf,
}

impl Files {
    fn new(name: &str) -> Self {
        let name = format!("pgbell-outside-{}-{name}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).unwrap();
        Self { directory }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).to_str().unwrap().to_owned()
    }

    /// Replaces a file atomically.
    fn write(&self, file: &str, text: impl AsRef<[u8]>) {
        let (new, path) = (self.path("new"), self.path(file));
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        }
        fs::rename(new, path).unwrap();
    }

    fn let_others_read(&self, file: &str) {
        fs::set_permissions(self.path(file), Permissions::from_mode(0o644)).unwrap();
    }

    fn remove(&self, file: &str) {
        fs::remove_file(self.path(file)).unwrap();
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The server and the certificates of all rows.
struct Setup {
    server: Server,
    root: Authority,
    stranger: Authority,
    clients: Authority,
    bob: Certificate,
    next_bob: Certificate,
}

impl Setup {
    fn new() -> Self {
        let certificates = Certificates::new().unwrap();
        let root = certificates.authority("root").unwrap();
        let stranger = certificates.authority("stranger").unwrap();
        let clients = certificates.authority("clients").unwrap();
        let leaf = root.issue(&Leaf::server("localhost").ip_address([127, 0, 0, 1])).unwrap();
        let bob = clients.issue(&Leaf::client("bob")).unwrap();
        let next_bob = clients.issue(&Leaf::client("bob")).unwrap();
        let server = Server::with(|builder| {
            builder
                .hba("hostssl all bob 127.0.0.1/32 cert")
                .hba("host all eve 127.0.0.1/32 scram-sha-256")
                .init_sql("CREATE ROLE bob LOGIN; CREATE ROLE eve LOGIN PASSWORD 'pl4nted'")
                .tls(Tls::new(&leaf).client_authority(&clients))
        });
        Self { server, root, stranger, clients, bob, next_bob }
    }

    /// Writes all files correctly, and returns a configuration that names them.
    fn client(&self, files: &Files, user: &str) -> Config {
        self.repair(files);
        let url = format!("host=127.0.0.1 port={} user={user}", self.server.cluster.port());
        let config: Config = url.parse().unwrap();
        let config = config.dbname("postgres").ssl_mode(SslMode::VerifyFull);
        let config = config.ssl_root_cert(files.text("root.crt"));
        match user {
            "bob" => config
                .ssl_cert(files.text("client.crt"))
                .ssl_key(files.text("client.key"))
                .ssl_crl(files.text("root.crl")),
            "eve" => config.passfile(files.text("pgpass")),
            _ => config
                .set("service", "bell")
                .and_then(|config| config.set("servicefile", &files.text("service.conf")))
                .unwrap(),
        }
    }

    fn repair(&self, files: &Files) {
        files.write("client.crt", self.bob.pem());
        files.write("client.key", self.bob.key_pem());
        files.write("root.crt", self.root.certificate().pem());
        files.write("root.crl", self.root.revocation_list().unwrap().pem());
        files.write("pgpass", "*:*:*:eve:pl4nted\n");
        files.write("service.conf", "[bell]\nconnect_timeout=7\n");
    }
}

type Break = fn(&Setup, &Files);

/// The error, the role, the change of the files, and a part of the error message.
const FAULTS: [(&str, &str, Break, &str); 24] = [
    (
        "a rotation of certificates that is half done",
        "bob",
        |setup, files| files.write("client.crt", setup.next_bob.pem()),
        "is not the one of the certificate",
    ),
    (
        "an empty certificate",
        "bob",
        |_, files| files.write("client.crt", ""),
        "contains no certificate",
    ),
    (
        "half a certificate",
        "bob",
        |setup, files| {
            let pem = setup.bob.pem();
            files.write("client.crt", &pem[..pem.len() / 2]);
        },
        "client.crt",
    ),
    // As in libpq, the client then has no certificate, and the server refuses it.
    (
        "no certificate",
        "bob",
        |_, files| files.remove("client.crt"),
        "(SQLSTATE 28000) (hint: the file of the client's certificate",
    ),
    ("no key", "bob", |_, files| files.remove("client.key"), "but not its key"),
    ("an empty key", "bob", |_, files| files.write("client.key", ""), "contains no key"),
    (
        "a key that others may read",
        "bob",
        |_, files| files.let_others_read("client.key"),
        "lets others read or write it",
    ),
    (
        "a key that needs a password",
        "bob",
        |_, files| files.write("client.key", "-----BEGIN ENCRYPTED PRIVATE KEY-----\n"),
        "is encrypted",
    ),
    (
        "a certificate that cannot be opened",
        "bob",
        |_, files| {
            files.remove("client.crt");
            symlink(files.path("client.crt"), files.path("client.crt")).unwrap();
        },
        "cannot be read",
    ),
    (
        "a directory in the place of a certificate",
        "bob",
        |_, files| {
            files.remove("client.crt");
            fs::create_dir(files.path("client.crt")).unwrap();
        },
        "is not a regular file",
    ),
    ("no authority", "bob", |_, files| files.remove("root.crt"), "which does not exist"),
    ("no authority in the file", "bob", |_, files| files.write("root.crt", ""), "no certificate"),
    (
        "half an authority",
        "bob",
        |setup, files| {
            let pem = setup.root.certificate().pem();
            files.write("root.crt", pem.replacen("MII", "MIJ", 1));
        },
        "is malformed",
    ),
    (
        "another authority",
        "bob",
        |setup, files| files.write("root.crt", setup.stranger.certificate().pem()),
        "no authority in",
    ),
    ("no list of what is revoked", "bob", |_, files| files.remove("root.crl"), "does not exist"),
    (
        "an empty list of what is revoked",
        "bob",
        |_, files| files.write("root.crl", ""),
        "contains no list",
    ),
    (
        "the list of another authority",
        "bob",
        |setup, files| files.write("root.crl", setup.clients.revocation_list().unwrap().pem()),
        "no list of revoked certificates",
    ),
    ("no password file", "eve", |_, files| files.remove("pgpass"), "does not exist"),
    ("an empty password file", "eve", |_, files| files.write("pgpass", ""), "has no line for"),
    (
        "an empty password",
        "eve",
        |_, files| files.write("pgpass", "*:*:*:eve:\n"),
        "an empty password",
    ),
    (
        "a password file that others may read",
        "eve",
        |_, files| files.let_others_read("pgpass"),
        "lets others read or write it",
    ),
    ("no service file", "postgres", |_, files| files.remove("service.conf"), "does not exist"),
    (
        "a service file without it",
        "postgres",
        |_, files| files.write("service.conf", ""),
        "is not in",
    ),
    (
        "half a service file",
        "postgres",
        |_, files| files.write("service.conf", "[bell]\nconnect_timeout=7\nsslmo"),
        "is wrong",
    ),
];

#[test]
fn a_listener_reconnects_after_temporary_errors_in_its_files() {
    let setup = Setup::new();
    let mut wrong = Vec::new();
    run_for(4 * TEST_TIMEOUT, async {
        for (row, (what, user, fault, expected)) in FAULTS.into_iter().enumerate() {
            let files = Files::new(&row.to_string());
            if let Err(why) = reconnects(&setup, &files, user, fault, expected).await {
                wrong.push(format!("{what}: {why}"));
            }
        }
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

async fn reconnects(
    setup: &Setup,
    files: &Files,
    user: &str,
    fault: Break,
    expected: &str,
) -> Result<(), String> {
    let config = setup.client(files, user);
    let builder = Listener::builder(&config).channels(["a"]);
    let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
    let mut listener = builder.connect().await.map_err(|error| format!("at first: {error}"))?;
    fault(setup, files);
    // `connect` makes one attempt and returns its error.
    let error = Connection::connect(&config).await.map(drop).unwrap_err();
    if !format!("{error:#}").contains(expected) {
        return Err(format!("connect returns {error}"));
    }
    setup.server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
    until("it is tried again, or has ended", || {
        listener.stats().attempts_failed >= 3 || listener.state() == pgbell::State::Closed
    })
    .await;
    let last = listener.last_error().unwrap().to_string();
    if !last.contains(expected) {
        return Err(format!("the last error is {last}"));
    }
    setup.repair(files);
    match tokio::time::timeout(TEST_TIMEOUT, listener.recv()).await {
        Ok(Ok(Event::Gap(gap))) if gap.sessions() == 1 => {}
        other => return Err(format!("{other:?}")),
    }
    if listener.state() == pgbell::State::Closed {
        return Err(format!("it has ended: {last}"));
    }
    setup.server.notifier().await.notify("a", "received").await.unwrap();
    assert_eq!(next(&mut listener).await.payload(), "received");
    assert_eq!(listener.stats().gaps, 1);
    // An error in the content of a certificate has the kind TLS. All others are transient.
    if !error.is_transient() && error.kind() != ErrorKind::Tls {
        return Err(format!("not transient: {error}"));
    }
    listener.close().await;
    Ok(())
}

/// A permanent error that has nothing to do with the files: the role no longer exists.
#[test]
fn a_permanent_error_of_the_server_ends_a_listener_that_reads_files() {
    let setup = Setup::new();
    run_for(TEST_TIMEOUT, async {
        let files = Files::new("refused");
        let config = setup.client(&files, "eve");
        let builder = Listener::builder(&config).channels(["a"]);
        let builder = builder.backoff(Duration::from_millis(5), Duration::from_millis(20));
        let mut listener = builder.connect().await.unwrap();
        files.write("pgpass", "*:*:*:eve:pl4nted, but wrong\n");
        setup.server.cluster.terminate_backend(listener.process_id().unwrap()).unwrap();
        assert!(matches!(listener.recv().await, Ok(Event::Gap(_))));
        let error = listener.recv().await.unwrap_err();
        assert_eq!(error.sqlstate(), Some("28P01"), "{error}");
        assert!(!error.is_transient(), "{error}");
        assert_eq!(listener.stats().attempts_failed, 1);
    });
}
